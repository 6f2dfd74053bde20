"""What all commands have in common: wrong usage, errors as sentences, completion, what is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sandkasten.cli.app import COMMANDS, sandkasten
from tests.cli.program import EXECUTABLE, ROOT, Home

SESSION = "deadbeef-123"
# Every command with arguments that cannot be meant; each is one sentence, and nothing on standard output.
WRONG = {
    "run": [["run"], ["run", "--timeout", "0", "--", "x"], ["run", "--timeout", "nan", "--", "x"],
            ["run", "ls", "-l"], ["run", "--network", "mars", "--", "x"], ["run", "--image", "", "--", "x"],
            ["run", "--download", "/", "--", "x"], ["run", "--workspace", "X", "--", "x"]],
    "exec": [["exec"], ["exec", SESSION], ["exec", "no/id", "--", "x"], ["exec", SESSION, "--", "x"],
             ["exec", "--timeout", "601", SESSION, "--", "x"], ["exec", SESSION, "--", ""]],
    "shell": [["shell"], ["shell", SESSION], ["shell", SESSION, "x"]],
    "new": [["new", "x"], ["new", "--ttl", "0"], ["new", "--image", "nothing"], ["new", "--workspace", "-"]],
    "ls": [["ls", "a", "b"], ["ls", SESSION], ["ls", f"{SESSION}:x"], ["ls", "--color"]],
    "info": [["info"], ["info", SESSION], ["info", ".."]],
    "stats": [["stats"], ["stats", SESSION], ["stats", SESSION, "--watch", "--interval", "0"]],
    "rm": [["rm"], ["rm", SESSION], ["rm", SESSION, "--all"]],
    "cp": [["cp"], ["cp", "a"], ["cp", "a", "b"], ["cp", "/nothing", f"{SESSION}:x"],
           ["cp", f"{SESSION}:x", "y"]],
    "workspace": [["workspace", "what"], ["workspace", "ls", "X"], ["workspace", "ls", "none"],
                  ["workspace", "cp", "a", "b"], ["workspace", "cp", "/nothing", "none:x"],
                  ["workspace", "rm"], ["workspace", "rm", "none"]],
    "up": [["up", "x"]],
    "down": [["down", "x"]],
    "status": [["status", "x"], ["--url", "nonsense", "status"], ["--url", "http://127.0.0.1:9", "status"],
               ["--api-key-file", "/nothing", "--url", "http://127.0.0.1:9", "status"]],
    "serve": [["serve", "--listen", "nowhere", "--no-api-key"], ["serve", "--api-key-file", "/nothing"]],
    "doctor": [["doctor", "x"]],
    "completion": [["completion"], ["completion", "csh"]],
    "": [["nothing"], ["--nothing"], ["--url"]],
}  # fmt: skip


def test_wrong_usage_of_every_command_is_known() -> None:
    assert set(WRONG) == {entry.name for entry in COMMANDS} | {""}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_one_sentence_and_2_or_125(cli: Home, name: str) -> None:
    for words in WRONG[name]:
        done = cli.run(*words, expect=None)
        assert done.code in {2, 125}, (words, done)
        assert len(done.sentence.strip()) > 20, (words, done)
        assert "httpx" not in done.stderr
        assert "base_url" not in done.stderr


@pytest.mark.parametrize("name", ["exec", "new", "ls", "info", "stats", "rm", "cp", "shell"])
def test_what_needs_a_daemon_says_how_to_start_one(home: Home, name: str) -> None:
    words = {"exec": [SESSION, "--", "x"], "new": [], "ls": [], "cp": [f"{SESSION}:x", "y"]}
    done = home.run(name, *words.get(name, [SESSION]), expect=125)
    assert "Start one: sandkasten up." in done.sentence


def test_a_forgotten_separator_is_told(cli: Home, session: str) -> None:
    assert "Put -- before the command" in cli.run("exec", session, "ls", "-l", expect=2).sentence


def test_a_daemon_that_does_not_answer_is_told(home: Home) -> None:
    said = home.run("--url", f"unix://{home.directory}/none.sock", "ls", expect=125).sentence
    assert "sandkasten up" in said


def test_debugging_shows_where(home: Home) -> None:
    process = home.start("new", env={"SANDKASTEN_DEBUG": "1"})
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 125
    assert b"Traceback" in stderr
    assert stderr.endswith(b"sandkasten up.\n")


def test_without_click_it_says_what_to_install(home: Home) -> None:
    (home.directory / "click.py").write_text("raise ModuleNotFoundError(name='click')\n")
    environ = {"PYTHONPATH": f"{home.directory}{os.pathsep}{ROOT}"}
    done = home.run("--help", env=environ, expect=125)
    assert "pip install 'sandkasten[cli]'" in done.sentence


def test_closed_standard_streams_are_no_trouble(home: Home) -> None:
    command = f'"{EXECUTABLE}" status <&- >&- 2>&-'
    done = subprocess.run(["bash", "-c", command], env=home.environ, check=False, timeout=30)
    assert done.returncode == 1


# --- help


def commands(command: click.Command, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it, with the words that lead there."""
    yield words, command
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            assert child is not None
            yield from commands(child, *words, name)


def test_every_command_has_help(home: Home) -> None:
    for words, command in commands(sandkasten):
        assert command.help
        assert "Usage: " in home(*words, "--help") or words == ("serve",)


def test_the_list_of_commands_says_what_the_commands_say() -> None:
    helps = {words[0]: command.help or "" for words, command in commands(sandkasten) if len(words) == 1}
    for entry in COMMANDS:
        assert helps[entry.name].split("\n\n")[0] == entry.help


def test_the_page_in_the_documentation_is_up_to_date() -> None:
    script = ROOT / "scripts/generate_cli_docs.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_the_packages(home: Home) -> None:
    from sandkasten import __version__  # noqa: PLC0415

    assert home("--version") == f"sandkasten {__version__}\n"


# --- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_asks_this_program(home: Home, shell: str) -> None:
    assert f"_SANDKASTEN_COMPLETE={shell}_complete" in home("completion", shell)


def test_the_script_for_bash_is_valid(home: Home, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(home("completion", "bash"))
    done = subprocess.run(["bash", "-n", tmp_path / "script"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def completions(home: Home, *words: str) -> list[str]:
    environ = {
        "_SANDKASTEN_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["sandkasten", *words]),
        "COMP_CWORD": str(len(words)),
    }
    return [line.partition(",")[2] for line in home(env=environ).splitlines() if line]


def test_commands_options_and_sessions_are_completed(cli: Home, home: Home, session: str) -> None:
    assert completions(home, "st") == ["stats", "status"]
    assert "--watch" in completions(home, "stats", "--w")
    assert completions(cli, "exec", session[:6]) == [session]
    assert completions(home, "exec", session[:6]) == []
    assert completions(home, "workspace", "c") == ["cp"]


# --- what is loaded


def test_the_list_of_commands_loads_no_command(home: Home) -> None:
    code = (
        "import sys, sandkasten; before = set(sys.modules); sys.argv = ['sandkasten', '--help']\n"
        "from sandkasten.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(*(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=home.environ, capture_output=True, text=True, check=True
    )
    loaded = {name for name in done.stderr.split() if name.partition(".")[0] not in {"click"}}
    ours = {name for name in loaded if name.startswith("sandkasten")}
    assert ours == {
        f"sandkasten.cli{name}" for name in ("", ".main", ".app", ".connecting", ".failures", ".text")
    }
    assert not any(name.startswith(("rich", "sandkasten_sync")) for name in loaded)
