"""`run` and `exec`: output, exit codes, input, Ctrl-C."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from sandkasten.cli.output.out import SHELL_ENDED
from sandkasten.cli.parsing.arguments import command_text
from tests.cli.program import Home, on_a_terminal
from tests.go_daemon import GoDaemon
from tests.local.box import until
from tests.processes import processes_with
from tests.soon import soon


def marker() -> str:
    """A number of seconds that no other process on this machine sleeps for."""
    return f"3{secrets.randbelow(10**8):08d}"


# --- run


def test_run_gives_output_and_exit_code_and_leaves_nothing(home: Home) -> None:
    mark = marker()
    done = home.run("run", "--", f"sleep {mark} & echo out; echo err >&2; exit 7", expect=7)
    assert (done.text, done.stderr) == ("out\n", "err\n")
    assert not processes_with(f"sleep\0{mark}")
    assert list(home.runtime.iterdir()) == []


def test_several_words_are_one_command_and_a_single_one_is_shell_text(home: Home) -> None:
    assert home("run", "--", "printf", "%s|", "a b", "$HOME", "'") == "a b|$HOME|'|"
    assert home("run", "--", "printf '%s|' a b | tr a-z A-Z") == "A|B|"
    assert command_text(["x"]) == "x"
    assert command_text(["x", "y z"]) == "x 'y z'"


def test_run_copies_in_and_out(home: Home) -> None:
    here = home.directory / "home"
    (here / "in.bin").write_bytes(bytes(range(256)))
    (here / "tree" / "sub").mkdir(parents=True)
    (here / "tree" / "sub" / "leaf").write_text("leaf")
    command = "mkdir made; cp in.bin made; cat tree/sub/leaf > made/copy; rev in.bin > r 2>&1; exit 3"
    done = home.run(
        "run", "--upload", "in.bin", "--upload", "tree", "--download", "made", "--download", "gone", "--",
        command, expect=3,
    )  # fmt: skip
    assert "gone" in done.sentence
    assert (here / "made" / "in.bin").read_bytes() == bytes(range(256))
    assert (here / "made" / "copy").read_text() == "leaf"


def test_a_download_that_would_find_no_place_is_told_before_anything_starts(home: Home) -> None:
    (home.directory / "home" / "report").mkdir()
    done = home.run("run", "--download", "report", "--", "echo ran", expect=125)
    assert "'report' is here already" in done.sentence
    assert done.text == ""


def test_a_missing_upload_is_told_before_anything_starts(home: Home) -> None:
    done = home.run("run", "--upload", "nothing", "--", "true", expect=125)
    assert "'nothing' does not exist" in done.sentence


def test_a_download_that_fails_is_a_failure_of_ours(home: Home) -> None:
    assert home.run("run", "--download", "gone", "--", "true", expect=125).sentence


def test_run_has_no_network_unless_it_is_given(home: Home) -> None:
    count = "grep -c : /proc/net/dev"
    alone = int(home("run", "--", count))
    assert alone == 1
    host = sum(":" in line for line in Path("/proc/net/dev").read_text().splitlines())
    assert int(home("run", "--network", "host", "--", count)) == host


def test_a_command_that_lacks_a_network_is_told_why(cli: Home, session: str) -> None:
    ask = (
        """(python3 -c 'import socket; socket.getaddrinfo("nowhere.invalid", 80)' 2>&1 | tail -n 1; exit 6)"""
    )
    for words in (["exec", "-n", session, ask], ["exec", "--raw", session, ask], ["shell", session]):
        done = cli.run(*words, feed=ask.encode(), expect=6)
        assert "Name or service" in done.text or "name resolution" in done.text
        assert "--network host" in done.sentence_beside_data
    assert "network" not in cli.run("exec", session, "ls nothing", expect=2).stderr
    assert cli.run("run", "--network", "host", "--", ask, expect=6).stderr == ""


def test_a_workspace_outlives_its_run(home: Home) -> None:
    home("run", "--workspace", "notes", "--", "echo kept > file")
    assert home("run", "--workspace", "notes", "--", "cat file") == "kept\n"


# --- exit codes


@pytest.mark.parametrize("code", [0, 1, 2, 124, 125, 130, 255])
def test_the_remote_exit_code_is_ours(cli: Home, session: str, code: int) -> None:
    cli.run("exec", session, "--", f"(exit {code})", expect=code)


def test_a_command_that_runs_too_long_is_stopped_with_124(cli: Home, session: str) -> None:
    done = cli.run("exec", "--timeout", "0.3", session, "--", "echo before; sleep 60", expect=124)
    assert done.text == "before\n"
    assert "stopped" in done.stderr
    assert done.stderr.count("\n") == 1
    assert cli("exec", session, "--", "echo goes on") == "goes on\n"


def test_the_session_remembers(cli: Home, session: str) -> None:
    cli("exec", session, "--", "cd /tmp; name=World")
    assert cli("exec", session, "--", "echo $name in $PWD") == "World in /tmp\n"


# --- output


def test_output_comes_while_the_command_runs(cli: Home, session: str) -> None:
    process = cli.start("exec", session, "--", "echo first; sleep 60; echo second")
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.communicate()


def test_output_that_no_terminal_sees_is_as_it_was_printed(cli: Home, session: str) -> None:
    assert cli.run("exec", session, "--", r"printf 'a\r\n\e[31mred\e[0m\tü'").stdout == (
        b"a\r\n\x1b[31mred\x1b[0m\t\xc3\xbc"
    )


def test_output_into_a_pipe_is_exact_whatever_it_is(cli: Home, session: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    cli("exec", session, "--", "mkdir d; cat >d/f", feed=content)
    assert cli.run("exec", session, "--", "cat d/f; echo noise >&2").stdout == content
    archive = tmp_path / "archive"
    archive.write_bytes(cli.run("exec", session, "--", "tar", "c", "d").stdout)
    with tarfile.open(archive) as tar:
        file = tar.extractfile("d/f")
        assert file is not None
        assert file.read() == content
    cli("exec", session, "--", "mkdir copy && tar x -C copy", feed=archive.read_bytes())
    assert cli.run("exec", session, "gzip", "-c", "copy/d/f").stdout[:2] == b"\x1f\x8b"
    assert cli("exec", session, "--", "cmp d/f copy/d/f && echo same") == "same\n"


def test_a_terminal_gets_text_and_pipes_see_no_terminal(cli: Home, session: str) -> None:
    command = "[ -t 1 ] && echo terminal || echo pipe; printf '\\e[1mx\\xff\\n'"
    assert cli.run("exec", session, command).stdout == b"pipe\n\x1b[1mx\xff\n"
    assert on_a_terminal(cli, "exec", session, command) == "terminal\r\nx\N{REPLACEMENT CHARACTER}\r\n"
    assert cli.run("exec", "--raw", session, command).stdout.startswith(b"terminal\n\x1b[1mx")


def test_a_reader_that_leaves_is_no_error(cli: Home, session: str) -> None:
    mark = marker()
    process = cli.start("exec", session, "--", f"yes; sleep {mark}")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
    assert cli("exec", session, "--", "echo free") == "free\n"


def test_a_full_disk_is_told(cli: Home, session: str) -> None:
    with open("/dev/full", "wb") as full:
        done = cli.run("exec", session, "--", "echo x", stdout=full, expect=125)
    assert "No space left" in done.sentence


# --- input


@pytest.mark.parametrize("content", [bytes(range(256)) * 5000, b"\0", b"no newline", b""])
def test_piped_input_arrives_byte_for_byte(cli: Home, session: str, content: bytes) -> None:
    cli("exec", session, "--", "cat > copy; ls -A > after", feed=content)
    target = cli.directory / "home" / f"copy-{secrets.token_hex(4)}"
    cli("cp", f"{session}:copy", target)
    assert target.read_bytes() == content
    assert cli("exec", session, "--", "cat after") == "after\ncopy\n"


def test_input_from_a_file_is_forwarded_and_dev_null_is_not_read(
    cli: Home, session: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"3\n1\n2\n")
    with (tmp_path / "file").open("rb") as file:
        assert cli("exec", session, "--", "sort", stdin=file) == "1\n2\n3\n"
    assert cli("exec", session, "--", "cat; echo end") == "end\n"


def test_input_does_not_change_what_a_command_means(cli: Home, session: str) -> None:
    command = "read line; kept=$line; cd /tmp # a comment"
    cli("exec", session, "--", command, feed=b"hello\n")
    assert cli("exec", session, "--", "echo $kept $PWD") == "hello /tmp\n"
    cli.run("exec", session, "--", "cat; (exit 9)", feed=b"x", expect=9)


def test_no_stdin_leaves_it_to_others(cli: Home, session: str) -> None:
    with cli.start("exec", "-n", session, "--", "cat; echo end", stdin=subprocess.PIPE) as process:
        assert process.stdout is not None  # the pipe stays open, and nobody waits for its end
        assert process.stdout.read() == b"end\n"
    assert process.returncode == 0


def test_input_is_live(cli: Home, session: str) -> None:
    with cli.start("exec", session, "--", "head -n 1; cat", stdin=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"first\n")
        assert process.stdout.readline() == b"first\n"
        assert process.communicate(b"late")[0] == b"late"
    assert process.returncode == 0


@pytest.mark.parametrize("command", ["head -c 4", "head -c 4; exit 0", "printf 'y\\ny\\n'", "exec head -c 4"])
def test_input_without_an_end_is_read_as_far_as_the_command_does(
    cli: Home, session: str, command: str
) -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        done = cli.run("exec", session, "--", command, stdin=yes.stdout)
        yes.kill()
    assert (done.stdout, done.stderr.replace(SHELL_ENDED, "").strip()) == (b"y\ny\n", "")


def test_run_has_live_input(home: Home) -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        assert home("run", "head", "-c", "4", stdin=yes.stdout) == "y\ny\n"
        yes.kill()


def test_input_that_is_not_read_keeps_nobody_waiting(cli: Home, session: str) -> None:
    with cli.start("exec", session, "--", "echo done", stdin=subprocess.PIPE) as process:
        assert process.stdout is not None  # the pipe stays open
        assert process.stdout.read() == b"done\n"
        assert process.wait(20) == 0


def test_a_daemon_without_pipes_gets_input_as_a_file_and_gives_text(home: Home, go_daemon: GoDaemon) -> None:
    environ = {"SANDKASTEN_BASE_URL": go_daemon.url, "SANDKASTEN_API_KEY": go_daemon.api_key}
    session = home("new", env=environ).strip()
    content = bytes(range(256)) * 300
    home.run("exec", session, "--", "cat >copy", feed=content, env=environ)
    home("cp", f"{session}:copy", "copy", env=environ)
    assert (home.directory / "home" / "copy").read_bytes() == content
    assert home.run("exec", session, "--", "echo plain", env=environ).stdout == b"plain\n"
    done = home.run("exec", session, "--", "printf 'a\\xffb\\n'", env=environ)
    assert done.text == "a\N{REPLACEMENT CHARACTER}b\n"
    assert "sandkasten cp" in done.sentence_beside_data  # the loss is told
    home("rm", session, env=environ)


# --- Ctrl-C


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_command_of_exec_and_keeps_the_session(
    cli: Home, session: str, number: signal.Signals
) -> None:
    mark = marker()
    process = cli.start("exec", session, "--", f"kept=yes; sleep {mark}; echo not reached")
    until(lambda: processes_with(f"sleep\0{mark}"))
    process.send_signal(number)
    with soon():
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr.strip()) == (128 + number, b"", b"")
    until(lambda: not processes_with(f"sleep\0{mark}"))
    assert cli("exec", session, "--", "echo $kept") == "yes\n"


def test_ctrl_c_ends_run_and_all_of_it(home: Home) -> None:
    mark = marker()
    process = home.start("run", "--", f"trap '' INT; sleep {mark} & sleep {mark}")
    until(lambda: len(processes_with(f"sleep\0{mark}")) >= 2)
    process.send_signal(signal.SIGINT)
    with soon():
        assert process.wait(30) == 130
    process.communicate()
    until(lambda: not processes_with(mark))
    assert not processes_with(str(home.directory / "data"))


def test_run_that_is_killed_leaves_nothing(home: Home) -> None:
    mark = marker()
    process = home.start("run", "--", f"sleep {mark}")
    until(lambda: processes_with(f"sleep\0{mark}"))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: not processes_with(f"sleep\0{mark}"))
