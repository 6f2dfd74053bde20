"""The common part of all commands: wrong usage, errors as sentences, completion, loaded modules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from sandkasten import _checks as check
from sandkasten.cli.app import COMMANDS, sandkasten
from sandkasten.cli.output.failures import CommandLineError
from sandkasten.cli.parsing import arguments, ids
from sandkasten.cli.parsing.foreign import split
from sandkasten.errors import SandkastenInputError
from tests.cli.program import EXECUTABLE, ROOT, Home, on_a_terminal

SESSION = "deadbeef-123"
# Every command with arguments that cannot be meant; each is one sentence, and nothing on standard output.
WRONG = {
    "run": [["run"], ["run", "--timeout", "0", "--", "x"], ["run", "--timeout", "nan", "--", "x"],
            ["run", "-x", "ls"], ["run", "--network", "mars", "--", "x"], ["run", "--image", "", "--", "x"],
            ["run", "--download", "/", "--", "x"], ["run", "--workspace", "X", "--", "x"]],
    "exec": [["exec"], ["exec", SESSION], ["exec", "no/id", "--", "x"], ["exec", SESSION, "--", "x"],
             ["exec", "--timeout", "601", SESSION, "--", "x"], ["exec", SESSION, "--", ""]],
    "shell": [["shell"], ["shell", SESSION], ["shell", SESSION, "x"]],
    "ps": [["ps"], ["ps", SESSION], ["ps", SESSION, "x"]],
    "kill": [["kill"], ["kill", SESSION], ["kill", SESSION, "abc"],
             ["kill", "-s", "NOTHING", SESSION, "abc"]],
    "logs": [["logs"], ["logs", SESSION], ["logs", SESSION, "abc"], ["logs", SESSION, "a", "b"]],
    "new": [["new", "x"], ["new", "--ttl", "0"], ["new", "--image", "nothing"], ["new", "--workspace", "-"]],
    "install": [["install"], ["install", SESSION], ["install", "no/id", "x"], ["install", SESSION, "x"]],
    "kernel": [["kernel", "nothing"], ["kernel", "install", "x"], ["kernel", "install", "--name", "a/b"]],
    "ls": [["ls", "a", "b"], ["ls", SESSION], ["ls", f"{SESSION}:x"], ["ls", "--color"]],
    "python": [["python"], ["python", SESSION], ["python", SESSION, "1"], ["python", SESSION, "1", "2"]],
    "info": [["info"], ["info", SESSION], ["info", ".."]],
    "stats": [["stats"], ["stats", SESSION], ["stats", SESSION, "--watch", "--interval", "0"]],
    "rm": [["rm"], ["rm", SESSION], ["rm", SESSION, "--all"], ["rm", f"{SESSION}:"], ["rm", f"{SESSION}:x"]],
    "cp": [["cp"], ["cp", "a"], ["cp", "a", "b"], ["cp", "/nothing", f"{SESSION}:x"],
           ["cp", f"{SESSION}:x", "y"]],
    "cat": [["cat"], ["cat", SESSION], ["cat", f"{SESSION}:x"]],
    "stat": [["stat"], ["stat", SESSION], ["stat", f"{SESSION}:x"]],
    "mkdir": [["mkdir"], ["mkdir", "x"], ["mkdir", f"{SESSION}:x"]],
    "mv": [["mv", f"{SESSION}:x"], ["mv", "x", f"{SESSION}:x"], ["mv", f"{SESSION}:x", f"{SESSION}:y"]],
    "chmod": [["chmod", "9", f"{SESSION}:x"], ["chmod", "755"], ["chmod", "755", f"{SESSION}:x"]],
    "find": [["find"], ["find", SESSION], ["find", SESSION, ""]],
    "grep": [["grep", "x"], ["grep", "x", SESSION], ["grep", "", SESSION]],
    "watch": [["watch"], ["watch", SESSION], ["watch", SESSION, "x"]],
    "workspace": [["workspace", "what"], ["workspace", "ls", "X"], ["workspace", "ls", "none"],
                  ["workspace", "cp", "a", "b"], ["workspace", "cp", "/nothing", "none:x"],
                  ["workspace", "rm"], ["workspace", "rm", "none"]],
    "up": [["up", "x"]], "down": [["down", "x"]],
    "status": [["status", "x"], ["--url", "nonsense", "status"], ["--url", "http://127.0.0.1:9", "status"],
               ["--api-key-file", "/nothing", "--url", "http://127.0.0.1:9", "status"]],
    "mcp": [["mcp", "x"], ["mcp", "--http", "127.0.0.1:0"], ["mcp", "--key-file", "key"],
            ["mcp", "--http", "127.0.0.1:0", "--key-file", "/nothing/key"]],
    "serve": [
        ["serve", "--listen", "nowhere", "--no-api-key"],
        ["serve", "--api-key-file", "/nothing"],
        ["serve", "--nonsense"],
        ["serve", "--max-sessions", "x"],
        ["serve", "--default-ttl", "-5"],
    ],
    "doctor": [["doctor", "x"]], "completion": [["completion"], ["completion", "csh"]],
    "": [["nothing"], ["--nothing"], ["--url"]],
}  # fmt: skip
# What only Python calls so: names of arguments, and its types.
PYTHON = re.compile(r"\b([a-z]+_(id|key|ms|seconds|url)|cmd|filename|str|None)\b")
NO_UTF8 = os.fsdecode(b"a\xffb")
NO_ID = ("no/id", "..", "", "x" * 129)
NO_WORKSPACE = ("bad id", "", "X", "-", "a" * 65)
NO_TIMEOUT = ("0", "-1", "601", "1m", "nan", "")
# What is typed, with wrong values in the place of the question mark, and by which name each is told.
MISUSED = [
    ("--url ? new", "--url", ("nonsense", "", "http://", "ftp://x", "unix:x")),
    ("new --workspace ?", "--workspace", NO_WORKSPACE),
    ("new --image ?", "--image", ("", NO_UTF8)),
    ("new --network ?", "--network", ("", "mars")),
    ("new --ttl ?", "--ttl", ("0", "-1", "86401", "1.5", "x", "")),
    ("mcp --http ? --key-file key", "--http", ("8000", "127.0.0.1:99999", "127.0.0.1:", ":1", "")),
    ("run --workspace ? -- x", "--workspace", NO_WORKSPACE),
    ("run --image ? -- x", "--image", ("", NO_UTF8)),
    ("run --timeout ? -- x", "--timeout", NO_TIMEOUT),
    ("run --upload ? -- x", "--upload", ("",)),
    ("run --download ? -- x", "--download", ("",)),
    ("run -- ?", "COMMAND", ("", " ", NO_UTF8)),
    (f"exec --timeout ? {SESSION} -- x", "--timeout", NO_TIMEOUT),
    (f"exec {SESSION} -- ?", "COMMAND", ("", " ", NO_UTF8)),
    ("exec ? -- x", "SESSION", NO_ID),
    ("shell ?", "SESSION", NO_ID),
    ("python ? 1", "SESSION", NO_ID),
    (f"python --context ? {SESSION} 1", "--context", ("", "a b", "x" * 65)),
    ("ls ?", "SESSION", (*NO_ID, "..:x")),
    ("info ?", "SESSION", NO_ID),
    ("stats ?", "SESSION", NO_ID),
    (f"stats {SESSION} --watch --interval ?", "--interval", ("0", "3601", "x", "nan")),
    (f"rm {SESSION} ?", "SESSION", NO_ID),
    ("cp ? y", "SRC", ("..:x",)),
    (f"cp ? {SESSION}:y", "SRC", ("",)),
    (f"cp {SESSION}:x ?", "DST", ("",)),
    ("workspace ls ?", "WORKSPACE", (*NO_WORKSPACE, "bad id:x")),
    ("workspace rm notes ?", "WORKSPACE", NO_WORKSPACE),
    ("workspace cp x ?", "DST", ("bad id:x",)),
]


def test_wrong_usage_of_every_command_is_known() -> None:
    assert set(WRONG) == {entry.name for entry in COMMANDS} | {""}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_one_sentence_and_2_or_125(cli: Home, name: str) -> None:
    for words in WRONG[name]:
        done = cli.run(*words, expect=None)
        assert done.code in {2, 125}, (words, done)
        assert len(done.sentence.strip()) > 20, (words, done)
        assert "httpx" not in done.stderr
        assert not PYTHON.search(done.stderr), (words, done)


@pytest.mark.parametrize(("typed", "name", "values"), MISUSED, ids=[typed for typed, _, _ in MISUSED])
def test_a_wrong_value_is_told_by_what_was_typed_before_a_daemon_is_looked_for(
    home: Home, typed: str, name: str, values: Sequence[str]
) -> None:
    for value in values:
        words = [value if word == "?" else word for word in typed.split()]
        said = home.run(*words, expect=2).sentence
        assert name in said, words
        assert not PYTHON.search(said), words


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a",
        "ab",
        "-a",
        "a-",
        "A1",
        "a_b",
        "1a-3c",
        "a b",
        "ä1",
        "a\n",
        "a" * 64,
        "a" * 65,
        "a" * 128,
        "a" * 129,
    ],
)
def test_the_command_line_takes_the_ids_that_the_library_takes(value: str) -> None:
    def takes(read: Callable[[str], str]) -> bool:
        try:
            return read(value) == value
        except (click.BadParameter, SandkastenInputError):
            return False

    assert takes(arguments.session_id) == takes(check.session_id)
    assert takes(arguments.workspace_id) == takes(check.workspace_id)


def test_an_option_of_the_program_behind_the_command_is_told(home: Home) -> None:
    for words in [["new"], ["run"], ["workspace", "ls"]]:
        said = home.run(*words, "--url", "http://127.0.0.1:9", expect=2).sentence
        assert f"sandkasten --url ... {' '.join(words)}" in said


def test_a_variable_that_makes_no_sense_is_named(home: Home) -> None:
    environ = {"SANDKASTEN_BASE_URL": "nonsense"}
    assert "SANDKASTEN_BASE_URL is 'nonsense'" in home.run("new", expect=2, env=environ).sentence
    environ = {"SANDKASTEN_BASE_URL": "http://127.0.0.1:9", "SANDKASTEN_API_KEY": "a b"}
    said = home.run("new", expect=2, env=environ).sentence
    assert "SANDKASTEN_API_KEY" in said
    assert "a b" not in said


@pytest.mark.parametrize("name", ["exec", "new", "ls", "info", "stats", "rm", "cp", "shell"])
def test_what_needs_a_daemon_says_how_to_start_one(home: Home, name: str) -> None:
    words = {"exec": [SESSION, "--", "x"], "new": [], "ls": [], "cp": [f"{SESSION}:x", "y"]}
    done = home.run(name, *words.get(name, [SESSION]), expect=125)
    assert "Start one: sandkasten up." in done.sentence


def test_options_end_at_the_first_word_of_the_command(cli: Home, session: str) -> None:
    words = "'%s|'", "-it", "--timeout", "--", "-n"
    printed = "-it|--timeout|--|-n|"
    for before in ([], ["--"], ["--timeout=9"], ["--timeout", "9", "--"], ["-n", "--raw"]):
        assert cli("exec", session, *before, "printf", "%s|", *words[1:]) == printed
        assert cli("exec", *before[:1], *before[1:-1], session, "printf", "%s|", *words[1:]) == printed


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("run -it bash", "in a terminal: -t"),
        ("run -ti bash", "in a terminal: -t"),
        ("new --tty", "in a terminal: -t"),
        ("run -v /here:/there ls", "--upload"),
        ("run -v/here:/there -- ls", "--workspace"),
        ("run --mount=type=bind ls", "--workspace"),
        ("shell -e NAME=value abc", "env NAME=value"),
        ("shell --env NAME=value abc", "env NAME=value"),
        ("exec --memory 1g abc ls", "sandkasten serve --help"),
        ("new -m1g", "sandkasten serve --help"),
        ("run --rm ls", "Leave it out"),
        ("new --rm", "Leave it out"),
        ("shell -w /tmp abc", "cd DIRECTORY"),
        ("run -d ls", "exec -d SESSION"),
        ("new -p 80:80", "--network host"),
    ],
)
def test_an_option_of_another_program_is_answered_by_what_there_is_instead(
    home: Home, words: str, advice: str
) -> None:
    said = home.run(*words.split(), expect=2).sentence
    assert advice in said
    assert "has no option -" in said


def test_words_are_split_where_the_remote_command_begins() -> None:
    values = {"--timeout": 1, "-n": 0}
    for typed, words_before, ours, remote in [
        ("ls -la", 0, "", "ls -la"),
        ("-- ls", 0, "", "ls"),
        ("--timeout 5 ls", 0, "--timeout 5", "ls"),
        ("--timeout=5 ls --timeout 6", 0, "--timeout=5", "ls --timeout 6"),
        ("id -n ls -n", 1, "id -n", "ls -n"),
        ("id -- -n", 1, "id", "-n"),
        ("id", 1, "id", None),
        ("-n", 0, "-n", None),
        ("--timeout", 0, "--timeout", None),
        ("- x", 0, "", "- x"),
        ("a b -n", None, "a b -n", None),
    ]:
        expected = (ours.split(), None if remote is None else remote.split())
        assert split(typed.split(), values, words_before) == expected, typed


def test_the_module_is_the_program(home: Home) -> None:
    for words, code in ((["--version"], 0), (["run", "-it"], 2), (["exec", "no/id", "x"], 2)):
        module = subprocess.run(
            [sys.executable, "-m", "sandkasten", *words], env=home.environ, capture_output=True, check=False
        )
        program = home.run(*words, expect=code)
        assert (module.returncode, module.stdout) == (code, program.stdout)
        assert module.stderr.decode() == program.stderr


# --- ids


def test_the_beginning_of_an_id_is_enough(cli: Home, session: str, tmp_path: Path) -> None:
    begun = session[:7]
    assert cli("exec", begun, "--", "echo x | tee file") == "x\n"
    assert session in cli("info", begun)
    assert cli("ls", "-q", f"{begun}:") == "file\n"
    cli("cp", f"{begun}:file", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x\n"
    assert cli("shell", begun, feed=b"cat file") == "x\n"
    other = cli("new").strip()
    assert cli("rm", other[:-1]) == f"{other}\n"


def test_an_id_that_begins_several_or_none_is_told() -> None:
    known = ["abc-1", "abd-2", "b", "bc"]
    assert ids.complete("abc", known) == "abc-1"
    assert ids.complete("b", known) == "b"
    assert ids.complete("x", known) == "x"
    with pytest.raises(CommandLineError, match="2 sessions begin with 'ab': abc-1, abd-2"):
        ids.complete("ab", known)


@pytest.mark.parametrize("command", ["ls", "run", "workspace"])
def test_a_named_daemon_that_does_not_answer_is_told_with_what_named_it(home: Home, command: str) -> None:
    words = {"run": ["run", "--", "x"], "workspace": ["workspace", "ls"]}.get(command, [command])
    url = f"unix://{home.directory}/none.sock"
    said = home.run("--url", url, *words, expect=125).sentence
    assert "Check --url, and that the daemon there runs" in said
    assert "sandkasten up" not in said
    said = home.run(*words, expect=125, env={"SANDKASTEN_BASE_URL": url}).sentence
    assert "Check SANDKASTEN_BASE_URL, and that the daemon there runs" in said


def test_a_server_that_is_no_daemon_is_told(home: Home) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for command in ("ls", "new"):
            url = f"http://127.0.0.1:{server.server_port}"
            assert "Check --url" in home.run("--url", url, command, expect=125).sentence
        server.shutdown()


def test_debugging_shows_where(home: Home) -> None:
    process = home.start("new", env={"SANDKASTEN_DEBUG": "1"})
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 125
    assert b"Traceback" in stderr
    assert stderr.endswith(b"sandkasten up.\n")


@pytest.mark.parametrize("words", [["ls"], ["cp", "file", "{session}:file"], ["ls", "{session}"]])
def test_without_rich_it_works_and_says_what_to_install(cli: Home, session: str, words: list[str]) -> None:
    (cli.directory / "bare").mkdir(exist_ok=True)
    (cli.directory / "bare" / "rich.py").write_text("raise ModuleNotFoundError(name='rich')\n")
    (cli.directory / "home" / "file").write_text("content")
    environ = {"PYTHONPATH": f"{cli.directory / 'bare'}{os.pathsep}{ROOT}"}
    shown = on_a_terminal(cli, *(word.format(session=session) for word in words), env=environ)
    assert shown.count("pip install 'sandkasten[cli]'") == 1
    assert "Traceback" not in shown


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
    modules = (
        "",
        ".main",
        ".app",
        ".calls",
        ".calls.connecting",
        ".output",
        ".output.failures",
        ".output.text",
    )
    assert ours == {f"sandkasten.cli{name}" for name in modules}
    assert not any(name.startswith(("rich", "sandkasten_sync")) for name in loaded)
