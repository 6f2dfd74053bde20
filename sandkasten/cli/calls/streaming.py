"""Running a command in a session: its output as it comes, its status, and the ways to stop it."""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from sandkasten._offline import lacks_network
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import CommandLineError

if TYPE_CHECKING:
    from sandkasten.models import ExecResult
    from sandkasten_sync import ExecStream, Session


# What a daemon without pipes gets as a whole, and so this process holds.
_MAX_WHOLE_BYTES = 256 * 1024 * 1024
_PIPE_BYTES = 64 * 1024
_PATIENCE_SECONDS = 2.0
NO_NETWORK = "(The sandbox has no network. Give it the host's: sandkasten run or new, with --network host)"


def stream(
    session: Session,
    command: str,
    output: out.Output,
    timeout_ms: int = 0,
    *,
    has_input: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> ExecResult:
    """Run a command and print its output; leaving early, in whatever way, stops the command.

    The command's output goes through a pipe if ours does, and our standard input is forwarded with
    `has_input`. A daemon without pipes gets the whole input first, and gives the output as text.

    Raises:
        CommandLineError: the input is more than such a daemon can be given.
        SandkastenError: as `Session.exec_stream` does.
    """
    place = {"env": env or None, "cwd": cwd}
    ending = _stream(session, command, output, timeout_ms, has_input=has_input, place=place)
    network = session.first_info.network if session.first_info else None
    if lacks_network(ending.exit_code, output.end, network):
        out.say(NO_NETWORK)
    return ending


def _stream(
    session: Session, command: str, output: out.Output, timeout_ms: int, *, has_input: bool, place: Any
) -> ExecResult:
    from sandkasten.errors import ExtensionMissingError  # noqa: PLC0415  (loaded with the client)

    output.begin()
    if output.is_piped or has_input:
        chunks = session.exec_stream(
            command, timeout_ms=timeout_ms, raw_output=output.raw,
            pipe_input=has_input, pipe_output=output.is_piped, keep_bytes=0, **place,
        )  # fmt: skip
        try:
            with _sending_input(chunks) if has_input else nullcontext():
                return _print(chunks, output)
        except ExtensionMissingError:  # nothing was sent yet
            output.is_piped = False
    chunks = session.exec_stream(
        command, timeout_ms=timeout_ms, raw_output=output.raw, keep_bytes=0,
        input=_whole_input() if has_input else None, **place,
    )  # fmt: skip
    return _print(chunks, output)


def is_piped(descriptor: int) -> bool:
    """Return whether a descriptor is a pipe, a file or a socket, and not a terminal or /dev/null."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


@contextmanager
def _sending_input(stream: ExecStream) -> Generator[None, None, None]:
    """Forward our standard input to a command during the block.

    Raises:
        Exception: our input cannot be read.
    """
    failures: list[Exception] = []

    def send() -> None:
        try:
            # Not through `sys.stdin`, whose lock a thread that waits for input would hold at our end.
            stream.send_input(iter(lambda: os.read(sys.stdin.fileno(), _PIPE_BYTES), b""))
        except Exception as error:
            failures.append(error)

    threading.Thread(target=send, daemon=True).start()
    yield
    for error in failures:
        if isinstance(error, OSError):
            raise error


def _whole_input() -> bytes:
    if os.name == "posix" and not select.select([sys.stdin], [], [], _PATIENCE_SECONDS)[0]:
        out.say("Waiting for standard input to end; if there is none, use --no-stdin.")
    content = sys.stdin.buffer.read(_MAX_WHOLE_BYTES + 1)
    if len(content) > _MAX_WHOLE_BYTES:
        raise CommandLineError("Standard input is longer than 256 MiB. Copy it first: sandkasten cp.")
    return content


def _print(stream: ExecStream, output: out.Output) -> ExecResult:
    with stream as chunks:
        for chunk in chunks:
            output.write(chunk.output)
            output.write_bytes(chunk.data)
            if chunk.missed_bytes:
                out.say(
                    f"(The connection was lost for a while; {chunk.missed_bytes} bytes of output are lost.)"
                )
    return stream.result


@contextmanager
def signals_end_us() -> Generator[None, None, None]:
    """Let signals that end a program run its clean-up as well, which stops the remote command."""
    numbers = [signal.SIGTERM] if not hasattr(signal, "SIGHUP") else [signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is signal.SIG_DFL:  # what is ignored, as under nohup, stays ignored
            signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def ctrl_c_interrupts(session: Session) -> Generator[None, None, None]:
    """Let Ctrl-C stop the remote command during the block, and show its end; a second Ctrl-C stops waiting.

    The handler runs in the middle of reading the stream, so another thread makes the call.
    """
    asked = False

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        threading.Thread(target=_interrupt, args=[session], daemon=True).start()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(session: Session) -> None:
    """Ask the daemon to interrupt the command; if it cannot, close the stream, as a second Ctrl-C would."""
    with suppress(Exception):
        session.interrupt()
        return
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)
