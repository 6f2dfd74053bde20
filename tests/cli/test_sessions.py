"""`new`, `ls`, `info`, `stats`, `rm`, `workspace` and `doctor`: data on standard output, and JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sandkasten.cli.parsing import usage
from sandkasten.models import SessionStats
from tests.cli.program import Home, on_a_terminal
from tests.local.box import until


def test_new_prints_the_id_and_nothing_else(cli: Home) -> None:
    done = cli.run("new", "--image", "base", "--ttl", "77")
    session = done.text.strip()
    assert done.stderr == ""
    info = json.loads(cli("info", session, "--json"))
    assert (info["id"], info["image"], info["status"]) == (session, "base", "running")
    lifetime = datetime.fromisoformat(info["expires_at"]) - datetime.fromisoformat(info["created_at"])
    assert 70 < lifetime.total_seconds() < 90
    assert cli("rm", session) == f"{session}\n"


def test_new_with_an_environment_says_what_it_lacks(cli: Home) -> None:
    done = cli.run("new", "--python-env", sys.prefix)
    session = done.text.strip()
    assert done.stderr.startswith(f"Not in the sandbox, since it is outside of {sys.prefix}: ")
    assert "sandkasten (editable): " in done.stderr
    assert cli("exec", session, "--", "python", "-c", "import sys; print(sys.prefix)") == f"{sys.prefix}\n"
    cli("rm", session)
    words = ("--python-env", sys.prefix, "--image", "base")
    assert "do not go together" in cli.run("run", *words, "--", "true", expect=2).sentence
    assert "There is no environment" in cli.run("new", "--python-env", "/nowhere", expect=125).sentence


def test_a_kernel_in_a_sandbox_is_installed_for_clients_of_jupyter(cli: Home, tmp_path: Path) -> None:
    place = cli("kernel", "install", "--name", "mine", "--copy-files", "--prefix", str(tmp_path)).strip()
    made = json.loads(Path(place, "kernel.json").read_text())
    config = made["metadata"]["kernel_provisioner"]["config"]
    assert (config["environment"], config["copy_files"]) == (sys.prefix, True)
    assert place == str(tmp_path / "share" / "jupyter" / "kernels" / "mine")
    other = ("kernel", "install", "--name", "other", "--python-env", "/nowhere", "--prefix", str(tmp_path))
    assert cli.run(*other).stderr == (
        "/nowhere has no ipykernel yet. Install it: /nowhere/bin/python -m pip install ipykernel\n"
    )


def test_ls_lists_sessions_for_programs_and_for_json(cli: Home, session: str) -> None:
    rows = [line.split("\t") for line in cli("ls").splitlines()]
    assert [row[1:3] for row in rows if row[0] == session] == [["python", "running"]]
    assert session in cli("ls", "--quiet").splitlines()
    assert session in [info["id"] for info in json.loads(cli("ls", "--json"))]


def test_ls_is_a_table_with_a_head_on_a_terminal(cli: Home, session: str) -> None:
    shown = on_a_terminal(cli, "ls")
    assert "ID" in shown
    assert "DIRECTORY" in shown
    assert session in shown


def test_ls_lists_a_directory_whatever_is_in_it(cli: Home, session: str) -> None:
    cli(
        "exec",
        session,
        "--",
        r"mkdir d; printf 12345 > d/$'a\nb\e[2J'; ln -s /etc d/link; mkdir d/.sub; touch -- d/-x",
    )
    entries = {entry["name"]: entry for entry in json.loads(cli("ls", f"{session}:d", "--json"))}
    assert {name: entry["kind"] for name, entry in entries.items()} == {
        "a\nb\x1b[2J": "file", "link": "symlink", ".sub": "directory", "-x": "file",
    }  # fmt: skip
    assert entries["a\nb\x1b[2J"]["size_bytes"] == 5
    assert cli("ls", "-q", f"{session}:/workspace/d").splitlines() == ["-x", ".sub", "a?b?[2J", "link"]
    assert cli("ls", session).count("\n") == 1
    assert cli("ls", f"{session}:d/-x", "-q") == "-x\n"
    assert "does not exist" in cli.run("ls", f"{session}:gone", expect=125).sentence
    assert "passwd" in cli("ls", "-q", f"{session}:/etc").splitlines()
    assert "kernel's files" in cli.run("ls", f"{session}:/proc", expect=125).sentence


def test_a_terminal_gets_nothing_to_obey(cli: Home, session: str) -> None:
    evil = r"printf 'a\e]52;c;ZXZpbA==\a\e[2Jb\x9b\302\2332Jc\x01\x1b\x18d\n'"
    shown = on_a_terminal(cli, "exec", session, "--", evil)
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "\x01" not in shown
    assert shown.startswith("a")
    cli("exec", session, "--", r"mkdir -p $'/tmp/\e]0;evil\a'; cd /tmp/*evil*")
    assert "\x1b" not in on_a_terminal(cli, "info", session)
    assert "\x1b]" not in on_a_terminal(cli, "ls")


def test_info_and_stats_are_for_people_too(cli: Home, session: str) -> None:
    assert f"id:        {session}\n" in cli("info", session)
    assert "memory: " in cli("stats", session)
    stats = json.loads(cli("stats", session, "--json"))
    assert stats["memory_bytes"] > 0
    assert stats["cpu_usage_usec"] >= 0


def test_stats_go_on_until_ctrl_c(cli: Home, session: str) -> None:
    with cli.start("stats", session, "--watch", "--interval", "0.1", "--json") as process:
        assert process.stdout is not None
        rows = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert all(row["memory_bytes"] > 0 for row in rows)


def test_stats_for_people_are_one_line_that_is_drawn_over(cli: Home, session: str) -> None:
    is_bounded = json.loads(cli("stats", session, "--json"))["memory_limit"] is not None
    cli("exec", session, "--", "while :; do :; done &")
    ours, theirs = pty.openpty()
    with cli.start("stats", session, "--watch", "--interval", "0.1", stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while shown.count(b"%") < 5:  # of the memory, and of a CPU from the second time on
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        os.close(ours)
    assert b"\n" not in shown
    assert shown.count(b"\r") >= 2
    # Without control groups there is no limit to show.
    memory = rb"memory [\d.]+ \w+ of [\d.]+ \w+ \([\d.]+%\)" if is_bounded else rb"memory [\d.]+ \w+"
    assert re.search(rb"\r" + memory + rb"   cpu [\d.]+ s \([\d.]+%\)", shown)


def test_a_percentage_is_of_the_time_between_two_looks() -> None:
    first = usage.Reading(SessionStats(0, 100, 1_000_000), 10.0)
    second = usage.Reading(SessionStats(50, 100, 2_500_000), 11.0)
    assert usage.cpu_percent(None, first) is None
    assert usage.cpu_percent(first, first) is None
    assert usage.cpu_percent(first, second) == 150.0
    assert usage.fields(second.stats, 150.0) == {"memory": "50 B of 100 B (50.0%)", "cpu": "2.50 s (150.0%)"}
    assert usage.fields(SessionStats(50)) == {"memory": "50 B", "cpu": "0.00 s"}


def test_rm_ends_those_it_can_and_tells_of_the_others(cli: Home) -> None:
    first, second = cli("new").strip(), cli("new").strip()
    done = cli.run("rm", first, "deadbeef-123", second, expect=125)
    assert done.text.split() == [first, second]
    assert "deadbeef-123" in done.stderr
    assert done.stderr.count("\n") == 1


def test_rm_all_ends_all_of_this_daemon(home: Home) -> None:
    home("up")
    ids = {home("new").strip() for _ in range(2)}
    assert set(home("rm", "--all").split()) == ids
    assert home.run("rm", "--all").text == ""
    assert home("ls") == ""
    home("down")


def test_workspaces_need_no_daemon_in_the_background(make_home: Callable[[], Home]) -> None:
    home = make_home()
    (home.directory / "home" / "file").write_bytes(b"\0\xff")
    home("workspace", "cp", "file", "notes:sub/dir/")
    assert home("workspace", "ls").split("\t")[0] == "notes"
    home("workspace", "cp", "notes:sub", "copy")
    assert (home.directory / "home" / "copy" / "dir" / "file").read_bytes() == b"\0\xff"
    assert home.run("workspace", "rm", "notes").text == "notes\n"
    assert list(home.runtime.iterdir()) == []


def test_workspaces_are_written_listed_read_and_removed(make_home: Callable[[], Home]) -> None:
    home = make_home()
    home("up")  # or each command would start a daemon
    home("workspace", "cp", "-", "notes:sub/dir/file", feed=b"\0\xff")
    home("workspace", "cp", "-", "notes:words", feed=b"words")
    assert home("workspace", "ls").split("\t")[0] == "notes"
    assert [row["id"] for row in json.loads(home("workspace", "ls", "--json"))] == ["notes"]
    rows = [line.split("\t") for line in home("workspace", "ls", "notes").splitlines()]
    assert [(row[0], row[3]) for row in rows] == [("directory", "sub"), ("file", "words")]
    assert home("workspace", "ls", "-q", "notes:/workspace").split() == ["sub", "words"]
    assert home("workspace", "ls", "-q") == "notes\n"
    (entry,) = json.loads(home("workspace", "ls", "notes:sub/dir", "--json"))
    assert (entry["name"], entry["kind"], entry["size_bytes"]) == ("file", "file", 2)
    assert home.run("workspace", "cp", "notes:words", "-").stdout == b"words"
    done = home.run("workspace", "rm", "none", "notes", expect=125)
    assert done.text == "notes\n"
    assert "none" in done.stderr
    assert home("workspace", "ls") == ""


def test_the_doctor_reports_for_people_and_programs(home: Home) -> None:
    assert "Sandboxes can be built here" in home("doctor")
    report = json.loads(home("doctor", "--json"))
    assert report["can_build"] is True
    assert {"name", "state", "says", "fix"} == set(report["findings"][0])


def test_serve_is_the_server(home: Home) -> None:
    path = home.directory / "run" / "s.sock"
    with home.start("serve", "--listen", f"unix:{path}", "--no-api-key", "--pool-size", "0") as process:
        until(path.is_socket)
        assert "url" in home("--url", f"unix://{path}", "status", "--json")
        assert home("--url", f"unix://{path}", "run", "--", "echo served") == "served\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert "--listen ADDRESS" in home("serve", "--help")


def test_a_session_made_to_measure(cli: Home) -> None:
    made = cli.run(
        "new", "--name", "measured", "--label", "job=17", "--label", "team=a", "-e", "A=a b",
        "-e", "UNSET_HERE",
        "-w", "made/here", "--memory", "64m", "--image", "base",
    )  # fmt: skip
    session = made.text.strip()
    assert (
        cli("exec", "measured", "--", 'echo "$A-${UNSET_HERE-unset}" $PWD')
        == "a b-unset /workspace/made/here\n"
    )
    info = json.loads(cli("info", "measured", "--json"))
    assert (info["id"], info["labels"]) == (session, {"job": "17", "team": "a"})
    assert info["limits"]["memory_bytes"] == 64 * 1024**2
    assert "name:" in cli("info", session)
    assert cli("ls", "-q", "--label", "job=17") == f"{session}\n"
    assert cli("ls", "-q", "--label", "job=18") == ""
    assert cli("rm", session) == f"{session}\n"


def test_what_no_session_can_have_is_a_usage_error(cli: Home) -> None:
    for words in (
        ("--label", "job"),
        ("--env", "A-B=1"),
        ("--env", "__sk_id=1"),
        ("--name", "1st"),
        ("--memory", "much"),
        ("--memory", "1k"),
        ("--cpus", "0"),
        ("--cwd", ""),
    ):
        assert f"'{words[0]}'" in cli.run("new", *words, expect=2).sentence
