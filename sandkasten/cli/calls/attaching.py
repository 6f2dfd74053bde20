"""Our terminal and that of a process in a session, connected: keys, output, and the size of the window.

The program there draws as it likes, so what it prints reaches our terminal as it is, with escape sequences.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sandkasten.cli.output import out
from sandkasten.cli.output.failures import TIMED_OUT, USAGE, CommandLineError

if TYPE_CHECKING:
    from types import FrameType

    from sandkasten_sync import Process, Session

_USUAL_SIZE = (80, 24)
_PIECE_BYTES = 64 * 1024


def run_in_terminal(
    session: Session,
    command: str,
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_ms: int | None = None,
) -> int:
    """Run a command in a terminal of its own, connected with ours.

    However this ends, the command ends with it, and our terminal is as it was before. Return its exit
    code, or 124 if it was stopped after `timeout_ms`.

    Raises:
        CommandLineError: we have no terminal.
        SandkastenError: as `Session.start` does.
    """
    if os.name != "posix" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandLineError(
            "-t needs a terminal, and standard input or output is none. Leave -t out.", USAGE
        )
    descriptor = sys.stdin.fileno()
    with session.start(command, terminal=window_size(), cwd=cwd, env=env, timeout_ms=timeout_ms) as process:
        with _raw(descriptor), _window_changes() as asked, _typing(process, descriptor, asked):
            for chunk in process:
                _write(sys.stdout.fileno(), chunk.data)
        result = process.result
    if result.end == "timeout":
        out.say(f"The command was stopped after {timeout_ms} ms. Give it a larger --timeout.")
        return TIMED_OUT
    if result.end == "out_of_memory":
        out.say("The command was ended because the session ran out of memory. Give it more with --memory.")
    return result.exit_code


def window_size() -> tuple[int, int]:
    """Return columns and rows of the window."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    return (columns, rows) if columns and rows else _USUAL_SIZE


@contextmanager
def _raw(descriptor: int) -> Generator[None, None, None]:
    """Let every key through as it is typed, Ctrl-C too, during the block."""
    import termios  # noqa: PLC0415  (not on Windows)
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _window_changes() -> Generator[int, None, None]:
    """Yield a descriptor that can be read whenever the window has another size.

    A signal handler runs in the middle of a request, so it only writes a byte.
    """
    heard, wakes = os.pipe()
    os.set_blocking(wakes, False)

    def on_change(_number: int, _frame: FrameType | None) -> None:
        with suppress(OSError):
            os.write(wakes, b"r")

    before = signal.signal(signal.SIGWINCH, on_change)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(wakes)
        os.close(heard)


@contextmanager
def _typing(process: Process, descriptor: int, asked: int) -> Generator[None, None, None]:
    """Send what is typed, and the size of the window, during the block."""
    over, ends = os.pipe()

    def work() -> None:
        while True:
            ready, _, _ = select.select([descriptor, asked, over], [], [])
            if over in ready:
                return
            with suppress(Exception):  # whoever reads the output learns how the process ended
                if asked in ready:
                    os.read(asked, 1024)
                    process.resize(*window_size())
                if descriptor in ready:
                    typed = os.read(descriptor, _PIECE_BYTES)
                    if not typed:
                        return
                    process.write(typed)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(ends, b".")
        thread.join(1)  # it may wait for a daemon that is gone; then it keeps its descriptors
        if not thread.is_alive():
            os.close(over)
            os.close(ends)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
