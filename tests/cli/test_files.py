"""The files of a session, as the command line shows and changes them."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
from typing import Any

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


def test_files_of_a_workspace_need_no_session(cli: Home, client: SandboxClient) -> None:
    notes = f"ws-{secrets.token_hex(8)}"

    def workspace(verb: str, *args: str, **options: Any) -> str:
        return cli("workspace", verb, *args, **options)

    workspace("cp", "-", f"{notes}:/f", feed=b"one\nTwo\n")
    workspace("mkdir", "-p", f"{notes}:/a/b")
    workspace("mv", f"{notes}:/f", f"{notes}:/a/b/")
    workspace("cp", f"{notes}:/a/b/f", f"{notes}:g")
    workspace("chmod", "750", f"{notes}:/g")
    assert workspace("cat", f"{notes}:/g", f"{notes}:/workspace/a/b/f") == "one\nTwo\n" * 2
    assert "mode:     0750\n" in workspace("stat", f"{notes}:/g")
    assert workspace("find", notes, "**/f") == "/workspace/a/b/f\n"
    assert workspace("grep", "-i", "two", f"{notes}:/a") == "/workspace/a/b/f:2:Two\n"
    assert cli.run("workspace", "grep", "three", notes, expect=1).text == ""
    assert "names no path" in cli.run("workspace", "rm", f"{notes}:", expect=2).sentence
    done = cli.run("workspace", "rm", f"{notes}:/a", f"{notes}:/g", expect=125)
    assert "with something in it" in done.sentence
    workspace("rm", "-r", f"{notes}:/a")
    assert workspace("ls", f"{notes}:/") == ""
    other = cli.run("workspace", "mv", f"{notes}:x", f"{notes}2:y", expect=2)
    assert "two workspaces" in other.sentence
    assert "sandkasten workspace cp WORKSPACE:/path ." in other.sentence
    assert workspace("rm", notes) == f"{notes}\n"
    assert notes not in [each.id for each in client.list_workspaces()]


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
