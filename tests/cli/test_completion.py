"""Completion: of commands, sessions, images and files on both sides."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sandkasten.cli.calls.completing import joined_at_colons
from tests.cli.program import Home

SESSION = "deadbeef-123"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_asks_this_program(home: Home, shell: str) -> None:
    assert f"_SANDKASTEN_COMPLETE={shell}_complete" in home("completion", shell)


def test_the_script_for_bash_is_valid(home: Home, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(home("completion", "bash"))
    done = subprocess.run(["bash", "-n", tmp_path / "script"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def completions(home: Home, *words: str) -> list[str]:
    cut = [part for word in words for part in re.findall(r":|[^:]+", word) or [""]]  # as bash cuts them
    environ = {
        "_SANDKASTEN_COMPLETE": "bash_complete",
        "COMP_WORDS": "\n".join(["sandkasten", *cut]),
        "COMP_CWORD": str(len(cut)),
    }
    return [line.partition(",")[2] for line in home(env=environ).splitlines() if line]


def test_commands_options_and_sessions_are_completed(cli: Home, home: Home, session: str) -> None:
    assert completions(home, "st") == ["stats", "stat", "status"]
    assert "--watch" in completions(home, "stats", "--w")
    assert completions(cli, "exec", session[:6]) == [session]
    assert completions(home, "exec", session[:6]) == []
    assert completions(home, "workspace", "c") == ["cat", "chmod", "cp"]


def test_files_and_images_are_completed_on_both_sides(cli: Home, session: str) -> None:
    evil = r"'$(touch evil)' 'd/a;b' $'d/\n' 'd/a b'"
    cli("exec", session, "--", f"mkdir -p data/sub; touch data/one data/two dot; mkdir d; touch {evil}")
    assert completions(cli, "cp", f"{session}:d") == ["d/", "data/", "dot"]
    assert completions(cli, "cp", "x", f"{session}:/workspace/data/") == [
        "/workspace/data/one", "/workspace/data/sub/", "/workspace/data/two",
    ]  # fmt: skip
    assert completions(cli, "ls", f"{session}:data/t") == ["data/two"]
    assert completions(cli, "ls", f"{session}:d/") == []
    assert completions(cli, "ls", f"{session}:") == ["d/", "data/", "dot"]
    assert completions(cli, "cp", session[:6]) == ["", f"{session}:"]  # the first: files of this machine
    assert completions(cli, "run", "--upload", "") == [""]
    assert completions(cli, "run", "--image", "ba") == ["base"]
    cli("workspace", "cp", "-", "kept-files:name", feed=b"x")
    assert completions(cli, "workspace", "cp", "kept") == ["", "kept-files:"]
    assert completions(cli, "workspace", "ls", "kept-files:/") == ["/name"]
    assert completions(cli, "new", "--workspace", "kept") == ["kept-files"]


def test_what_cannot_be_had_is_not_completed(home: Home) -> None:
    for words in (
        ["cp", f"{SESSION}:x"],
        ["--url", "http://127.0.0.1:9", "ls", "a"],
        ["workspace", "rm", "a"],
    ):
        assert completions(home, *words) in ([], [""]), words


def test_words_that_bash_cuts_at_colons_are_joined() -> None:
    assert joined_at_colons(["cp", "id", ":", "/x"]) == ["cp", "id:/x"]
    assert joined_at_colons(["cp", "id", ":", ""]) == ["cp", "id:"]
    assert joined_at_colons(["cp", "id", ":"]) == ["cp", "id:"]
    assert joined_at_colons(["cp", "a", "b"]) == ["cp", "a", "b"]
