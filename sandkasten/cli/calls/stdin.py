"""Forwarding standard input: through a pipe while the command runs, where the daemon has the extension.

On other daemons a command in a session has no standard input, so it gets ours as a file: the input is read to
its end first, stored in the workspace, opened by the session's shell, and unlinked before the command runs.
"""

from __future__ import annotations

import os
import secrets
import select
import shlex
import stat
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from sandkasten.cli.output import out
from sandkasten.cli.output.failures import CommandLineError

if TYPE_CHECKING:
    from sandkasten_sync import ExecStream, Session

MAX_BYTES = 1024**3
_PIPE_BYTES = 64 * 1024
_PIECE_BYTES = 1024 * 1024
_PATIENCE_SECONDS = 2.0
_DIRECTORY = "/workspace"


@contextmanager
def sending_input(stream: ExecStream) -> Generator[None, None, None]:
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


def with_stdin(session: Session, command: str) -> str:
    """Store our standard input in the session; return the command with its input redirected.

    Raises:
        CommandLineError: the input is longer than 1 GiB.
        SandkastenError: the input cannot be stored.
    """
    with tempfile.TemporaryFile() as spool:
        if not _copy(sys.stdin.buffer, spool):
            return command  # no input is what it has anyway
        spool.seek(0)
        name = f".sandkasten-stdin-{secrets.token_hex(8)}"
        session.upload(spool, dest_path=_DIRECTORY, filename=name)
    return redirected(command, f"{_DIRECTORY}/{name}")


def is_piped(descriptor: int) -> bool:
    """Return whether a descriptor is a pipe, a file or a socket, and not a terminal or /dev/null."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def redirected(command: str, path: str) -> str:
    """Return shell text that runs a command in the same shell with an unlinked file as its input; pure."""
    file = shlex.quote(path)
    return f"{{ command rm -f -- {file}; builtin eval {shlex.quote(command)}; }} <{file}"


def _copy(source: IO[bytes], spool: IO[bytes]) -> int:
    _tell_if_it_takes_long(source)
    size = 0
    while part := source.read(min(_PIECE_BYTES, MAX_BYTES + 1 - size)):
        size += len(part)
        if size > MAX_BYTES:
            raise CommandLineError("Standard input is longer than 1 GiB. Copy it first: sandkasten cp.")
        spool.write(part)
    return size


def _tell_if_it_takes_long(source: IO[bytes]) -> None:
    if os.name == "posix" and not select.select([source], [], [], _PATIENCE_SECONDS)[0]:
        out.say("Waiting for standard input to end; if there is none, use --no-stdin.")
