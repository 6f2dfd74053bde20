"""The files of a session, as the command line shows and changes them."""

from __future__ import annotations

import json
import signal
import subprocess

from sandkasten_sync import SandboxClient
from tests.cli.program import Home, on_a_terminal


def test_files_are_made_moved_copied_and_removed(cli: Home, session: str) -> None:
    assert cli("mkdir", f"{session}:a", f"{session}:b") == ""
    assert "does not exist" in cli.run("mkdir", f"{session}:c/d", expect=125).sentence
    cli("mkdir", "-p", f"{session}:c/d", f"{session}:a")
    cli("cp", "-", f"{session}:a/f", feed=b"one\n")
    cli("mv", f"{session}:a/f", f"{session[:8]}:b")
    cli("cp", f"{session}:b/f", f"{session}:/tmp/new")
    cli("cp", f"{session}:b", f"{session}:c/")
    cli("mv", f"{session}:/tmp/new", f"{session}:c/d/g")
    assert "exists" in cli.run("mv", "-n", f"{session}:c/d/g", f"{session}:b/f", expect=125).sentence
    assert cli("exec", session, "--", "cd /; find /workspace /tmp -type f | sort") == (
        "/workspace/b/f\n/workspace/c/b/f\n/workspace/c/d/g\n"
    )
    assert cli("cat", f"{session}:b/f", f"{session}:c/d/g") == "one\none\n"
    assert "with something in it" in cli.run("rm", f"{session}:c", f"{session}:b/f", expect=125).sentence
    cli("rm", "-r", f"{session}:c", f"{session}:a", f"{session}:b")
    assert cli("ls", session) == ""


def test_a_path_that_is_forgotten_ends_no_session(cli: Home, session: str) -> None:
    assert "names no path" in cli.run("rm", "-r", f"{session}:", expect=2).sentence
    assert "itself cannot be" in cli.run("rm", "-r", f"{session}:/workspace", expect=125).sentence
    assert cli("info", session)


def test_two_sessions_are_said(cli: Home, session: str, client: SandboxClient) -> None:
    with client.create_session() as other:
        for verb in ("mv", "cp"):
            done = cli.run(verb, f"{session}:x", f"{other.id}:y", expect=2)
            assert "two sessions" in done.sentence


def test_bytes_come_as_they_are_and_a_terminal_gets_them_harmless(cli: Home, session: str) -> None:
    content = bytes(range(256)) * 5000
    cli("cp", "-", f"{session}:f", feed=content)
    assert cli.run("cat", f"{session}:f").stdout == content
    cli("cp", "-", f"{session}:g", feed=b"\x1b]0;evil\x07text\n")
    assert "\x1b]0" not in on_a_terminal(cli, "cat", f"{session}:g")


def test_facts_and_permissions(cli: Home, session: str) -> None:
    cli("exec", session, "--", "echo hello >f; ln -s f l")
    cli("chmod", "750", f"{session}:f")
    shown = cli("stat", f"{session}:l", f"{session}:f")
    assert "target:   f\n" in shown
    assert "mode:     0750\n" in shown
    found = json.loads(cli("stat", "-L", "--json", f"{session}:l"))
    assert (found["kind"], found["size_bytes"], found["mode"]) == ("file", 6, 0o750)


def test_paths_and_lines_are_found(cli: Home, session: str) -> None:
    cli("exec", session, "--", "mkdir -p src/d; echo 'import os' >src/d/a.py; echo Import >src/b.txt")
    assert cli("find", f"{session}:src", "**/*.py") == "src/d/a.py\n"
    assert cli("find", f"{session}:src").split() == ["src/b.txt", "src/d", "src/d/a.py"]
    assert cli("grep", "^import", f"{session}:src") == "src/d/a.py:1:import os\n"
    assert cli("grep", "-i", "--include", "*.txt", "import", f"{session}:src") == "src/b.txt:1:Import\n"
    assert json.loads(cli("grep", "--json", "os$", session)) == [
        {"path": "src/d/a.py", "line_number": 1, "line": "import os"}
    ]
    assert cli.run("grep", "nothing", session, expect=1).text == ""
    assert "regular expression" in cli.run("grep", "(", session, expect=125).sentence


def test_changes_come_as_they_happen(cli: Home, session: str) -> None:
    with cli.start("watch", f"{session}:/tmp", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == b"Watching /tmp\n"
        cli("exec", session, "--", "echo >/tmp/a; mv /tmp/a /tmp/b")
        assert process.stdout.readline() == b"created\ta\n"
        while (line := process.stdout.readline()) == b"modified\ta\n":
            pass
        assert line == b"moved\ta\tb\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
