"""`shell`: a prompt on a real pseudo-terminal, and scripts on standard input."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandkasten.cli.calls.lineshell import is_plain
from tests.cli.program import Home
from tests.local.box import until
from tests.processes import processes_with
from tests.soon import soon

CTRL_C, CTRL_D = "\x03", "\x04"


class Typist:
    """Somebody at a terminal in which a program runs."""

    def __init__(self, home: Home, *words: str, columns: int = 100, rows: int = 30) -> None:
        self.terminal, theirs = os.openpty()
        self.resize(columns, rows)
        self.process = home.start(
            *words, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lambda: _take_terminal(theirs)
        )
        os.close(theirs)
        self.seen = ""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def read_until(self, pattern: str, seconds: float = 30.0) -> str:
        """Read until something is shown; all that was, since the last time."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.terminal], [], [], max(0, left))
            assert ready, f"{pattern!r} is not in {self.seen!r}"
            try:
                self.seen += os.read(self.terminal, 65536).decode()
            except OSError:
                raise AssertionError(f"it ended with {self.process.wait()}: {self.seen!r}") from None
        shown, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return shown

    def interrupt(self) -> None:
        """Type Ctrl-C once the program waits: Python overlooks one just before, until the next key."""
        until(lambda: Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2][0] == "S")
        self.type(CTRL_C)

    def run(self, line: str) -> str:
        """Type a line at the prompt; what is shown until the next one, without what was typed."""
        self.type(f"{line}\n")
        shown = self.read_until(r"[0-9a-f]{8}:[^\n]*\$ ")
        return shown.replace("\x1b[?2004l", "").replace("\x1b[?2004h", "").replace("\r", "")

    def end(self) -> int:
        """Wait for the exit code."""
        with_rest = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < with_rest:
            try:
                os.read(self.terminal, 65536)
            except OSError:
                break
        code = self.process.wait(30)
        os.close(self.terminal)
        return code


def _take_terminal(descriptor: int) -> None:
    os.setsid()
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


@pytest.fixture
def typists() -> Iterator[list[Typist]]:
    made: list[Typist] = []
    yield made
    for typist in made:
        if typist.process.poll() is None:
            typist.process.kill()
            typist.process.wait()
            os.close(typist.terminal)


@pytest.fixture
def open_shell(cli: Home, session: str, typists: list[Typist]) -> Callable[[], Typist]:
    """Opens a shell in the session, up to its first prompt."""

    def open_it() -> Typist:
        typists.append(Typist(cli, "shell", session))
        assert "Full-screen programs" in typists[-1].read_until(rf"{session[:8]}:/workspace\$ ")
        return typists[-1]

    return open_it


def test_lines_run_in_the_session_and_the_prompt_shows_where(
    open_shell: Callable[[], Typist], cli: Home, session: str
) -> None:
    shell = open_shell()
    assert "\nnow 42\n" in shell.run("x=42; echo now $x")
    assert shell.run("cd /tmp").endswith(f"{session[:8]}:/tmp$ ")
    assert "\nstatus 0\n" in shell.run("echo status $?")
    shell.run("(exit 7)")
    assert "\nstatus 7\n" in shell.run('echo "status $?"')
    shell.run("(exit 9)")
    shell.type(CTRL_D)
    assert shell.end() == 9
    assert cli("exec", session, "--", "echo $x $PWD") == "42 /tmp\n"


def test_ctrl_c_stops_the_command_and_keeps_the_session(open_shell: Callable[[], Typist]) -> None:
    shell = open_shell()
    mark = f"3{secrets.randbelow(10**8):08d}"
    shell.run("kept=yes")
    shell.type(f"echo begin; sleep {mark}; echo not reached\n")
    until(lambda: processes_with(f"sleep\0{mark}"))
    shell.interrupt()
    with soon():
        shown = shell.read_until(r"[0-9a-f]{8}:/workspace\$ ")
    assert "\nnot reached" not in shown
    assert not processes_with(f"sleep\0{mark}")
    assert "\nyes\n" in shell.run("echo $kept")
    shell.type("exit\n")
    assert shell.end() == 0


def test_ctrl_c_at_the_prompt_drops_the_line(open_shell: Callable[[], Typist]) -> None:
    shell = open_shell()
    shell.type("for i in 1 2; do\n")
    shell.read_until(r"> ")
    shell.interrupt()
    shell.read_until(r"[0-9a-f]{8}:/workspace\$ ")
    assert "\nclean\n" in shell.run("echo clean")
    shell.type("exit 5\n")
    assert shell.end() == 5


@pytest.mark.parametrize(
    ("lines", "output"),
    [
        (["for i in 1 2; do", "echo $i", "done"], "1\n2\n"),
        (["echo 'a", "b'"], "a\nb\n"),
        (["cat <<END", "one 'two", "END"], "one 'two\n"),
        (["echo a \\", "b"], "a b\n"),
        (["f() {", "echo in f", "}; f"], "in f\n"),
        (["echo x |", "tr x y"], "y\n"),
        (["if true", "then echo yes; fi"], "yes\n"),
    ],
)
def test_a_command_goes_on_while_something_is_open(
    open_shell: Callable[[], Typist], cli: Home, session: str, lines: list[str], output: str
) -> None:
    shell = open_shell()
    for line in lines[:-1]:
        shell.type(f"{line}\n")
        shell.read_until(r"\n(\x1b\[\?2004h)?> ")
    assert f"\n{output}" in shell.run(lines[-1])
    script = "\n".join([*lines, "echo end"]).encode()
    assert cli("shell", session, feed=script) == f"{output}end\n"


def test_a_syntax_error_is_bashs_to_tell(open_shell: Callable[[], Typist]) -> None:
    shell = open_shell()
    assert "syntax error" in shell.run("echo )")
    assert "\n2\n" in shell.run("echo $?")


def test_the_window_is_as_large_inside(open_shell: Callable[[], Typist], cli: Home, session: str) -> None:
    before = cli("exec", session, "--", "stty size <&2")
    shell = open_shell()
    assert "\n30 100\n" in shell.run("stty size <&1")
    shell.resize(61, 17)  # the kernel sends SIGWINCH
    shell.type("stty size <&1\n")  # the prompt is drawn anew, too, sooner or later
    shell.read_until(r"\n17 61\r?\n[0-9a-f]{8}:[^\n]*\$ ")
    shell.type(CTRL_D)
    assert shell.end() == 0
    assert cli("exec", session, "--", "stty size <&2") == before


def test_output_is_live_and_harmless(open_shell: Callable[[], Typist]) -> None:
    shell = open_shell()
    shell.type(r"printf 'first\n\e]0;evil\a'; sleep 60" + "\n")
    shell.read_until(r"\nfirst\r?\n")
    shell.interrupt()
    assert "\x1b]" not in shell.read_until(r"\$ ")


def test_lines_are_remembered_by_the_next_shell_but_not_read_by_others(
    open_shell: Callable[[], Typist], cli: Home
) -> None:
    word = secrets.token_hex(6)
    shell = open_shell()
    shell.run(f"echo {word}")
    shell.run(f" echo secret-{word}")
    shell.type(CTRL_D)
    shell.end()
    history = cli.directory / "home/.local/state/sandkasten/history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert f"echo {word}\n" in history.read_text()
    assert f"secret-{word}" not in history.read_text()
    again = open_shell()
    again.type("\x1b[A")  # up
    again.read_until(word)


def test_a_shell_that_ended_is_told_and_replaced(open_shell: Callable[[], Typist]) -> None:
    shell = open_shell()
    assert "another one" in shell.run("cd /tmp; exit 3")
    assert "\n/tmp\n" in shell.run("echo $PWD")


def test_a_session_that_is_gone_ends_the_shell(
    open_shell: Callable[[], Typist], cli: Home, session: str
) -> None:
    shell = open_shell()
    cli("rm", session)
    shell.type("echo x\n")
    shell.read_until("sandkasten ls")
    assert shell.end() == 125


def test_a_script_runs_line_by_line_and_its_last_status_is_ours(cli: Home, session: str) -> None:
    script = b"cd /tmp\necho $PWD # here\n\nfalse\necho $?\n(exit 6)\n"
    done = cli.run("shell", session, feed=script, expect=6)
    assert (done.text, done.stderr) == ("/tmp\n1\n", "")
    assert cli.run("shell", session, feed=b"true\nexit 4\necho no\n", expect=4).text == ""
    assert cli.run("shell", session, feed=b"", expect=0).text == ""
    assert "unexpected" in cli.run("shell", session, feed=b"echo 'open", expect=None).stderr


def test_what_no_command_can_be_does_not_end_a_script(cli: Home, session: str) -> None:
    done = cli.run("shell", session, feed=b"echo a\0b\necho next\n")
    assert done.text == "a\N{REPLACEMENT CHARACTER}b\nnext\n"
    too_long = b": " + b"x" * 700_000 + b"\\\n" + b"x" * 700_000 + b"\necho $? next\n"
    done = cli.run("shell", session, feed=too_long)
    assert "longer than 1 MiB" in done.stderr
    assert done.text == "0 next\n"


def test_ctrl_c_ends_a_script(cli: Home, session: str) -> None:
    mark = f"3{secrets.randbelow(10**8):08d}"
    with cli.start("shell", session, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"echo begin\nsleep {mark}\necho no\n".encode())
        process.stdin.flush()
        assert process.stdout.readline() == b"begin\n"
        until(lambda: processes_with(f"sleep\0{mark}"))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == b""
    assert process.returncode == 130


def test_what_is_obviously_whole_needs_no_question() -> None:
    for line in ("ls -l a/b.c", "echo $HOME *.py", "cd ..", ""):
        assert is_plain(line)
    for line in (
        "echo 'a",
        "for",
        "while true",
        "a \\",
        "cat <<E",
        "f() {",
        "a |",
        "a &&",
        "if x",
        "((",
        "`a",
    ):
        assert not is_plain(line)


def test_the_history_is_where_the_users_state_is(tmp_path: Path) -> None:
    from sandkasten.cli.output.terminal import history_path  # noqa: PLC0415

    assert history_path({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "sandkasten/history"
