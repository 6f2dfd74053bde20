"""The whole run of a program, and files that are written as `open` does."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from sandkasten.errors import (
    ExecTimeoutError,
    ExtensionMissingError,
    ProcessInputClosedError,
    SandboxFileNotFoundError,
    SandboxNotADirectoryError,
    SandkastenConnectionError,
    SessionExpiredError,
    SessionNotFoundError,
)
from sandkasten.integrations._adapters.making import made
from sandkasten.process import Process
from sandkasten.session import Session

# The errors that mean: this sandbox is not going to do anything any more.
GONE = (SessionNotFoundError, SessionExpiredError, SandkastenConnectionError)

# What a model reads of a command that was ended for want of room, by the word of `ProcessResult.end`.
NOTES = {
    "out_of_memory": "[The sandbox's memory was full, and the command was ended.]",
    "disk_full": "[The sandbox's disk was full, and the command was ended.]",
}

# How long a caller who was interrupted waits for the program's end.
_LAST_SECONDS = 5.0
_MOST_TIMEOUT_MS = 600_000  # of `Session.run`; a process that was started has no such limit


@dataclass(frozen=True)
class Whole:
    """The end of a program, and all that it printed.

    Attributes:
        exit_code: its status; 128 + n for the signal n.
        end: why it ended, as `ProcessResult.end`.
        stdout: its standard output.
        stderr: its standard error.
    """

    exit_code: int
    end: str
    stdout: bytes
    stderr: bytes


class OutputTooLongError(Exception):
    """A program printed more than its caller takes, and was stopped; the beginnings are there."""

    def __init__(self, stdout: bytes, stderr: bytes) -> None:
        """Keep the beginnings of both outputs."""
        super().__init__(f"The program printed more than {max(len(stdout), len(stderr))} bytes.")
        self.stdout = stdout
        self.stderr = stderr


async def run_whole(
    session: Session,
    args: str | Sequence[str],
    *,
    most_bytes: int,
    stdin: str | bytes | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_ms: int | None = None,
) -> Whole:
    """Run a program without a limit of time other than `timeout_ms`, and return all of its output.

    A process in the background goes on afterwards. A caller who is cancelled leaves nothing of it.

    Raises:
        OutputTooLongError: one of the outputs is longer than `most_bytes`.
        CannotStartError: there is no such program, or no such directory.
        SandkastenError: any other failure.
    """
    try:
        process = await _started(
            session, args, stdin=stdin is not None, cwd=cwd, env=env, timeout_ms=timeout_ms
        )
    except ExtensionMissingError:
        return await _run(
            session, args, most_bytes=most_bytes, stdin=stdin, cwd=cwd, env=env, timeout_ms=timeout_ms
        )
    outputs = {"stdout": bytearray(), "stderr": bytearray()}
    try:
        if stdin is None:
            await _read(process, outputs, most_bytes)
        else:
            await _talk(process, outputs, most_bytes, stdin)
    except BaseException:
        with anyio.move_on_after(_LAST_SECONDS, shield=True):
            await process.close(force=True)
        raise
    result = process.result
    return Whole(result.exit_code, result.end, bytes(outputs["stdout"]), bytes(outputs["stderr"]))


async def _started(session: Session, args: str | Sequence[str], **options: Any) -> Process:
    return await made(session.start(args, **options), partial(Process.close, force=True))


async def write_as_open_does(session: Session, path: str, content: str | bytes) -> None:
    """Write a file, except one whose own permissions are against it, which `Session.write` would replace.

    Raises:
        PermissionError: the file may not be written to.
        SandkastenError: as `Session.write` does.
    """
    try:
        mode = (await session.stat(path)).mode
    except (SandboxFileNotFoundError, SandboxNotADirectoryError):
        mode = None  # `write` makes it, or says why not
    if mode is not None and not mode & 0o200:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    await session.write(path, content)


async def _read(process: Process, outputs: Mapping[str, bytearray], most_bytes: int) -> None:
    async with aclosing(aiter(process)) as chunks:
        async for chunk in chunks:
            if chunk.stream in outputs:
                outputs[chunk.stream].extend(chunk.data)
            if chunk.missed_bytes or any(len(output) > most_bytes for output in outputs.values()):
                heads = (bytes(output[:most_bytes]) for output in outputs.values())
                raise OutputTooLongError(*heads)


async def _talk(
    process: Process, outputs: Mapping[str, bytearray], most_bytes: int, stdin: str | bytes
) -> None:
    """Read and write at the same time: a program may print more than a pipe holds before it reads."""
    failures: list[Exception] = []  # a group of tasks would wrap them

    async def write() -> None:
        try:
            if stdin:
                await process.write(stdin)
            await process.close_stdin()
        except ProcessInputClosedError:
            pass  # it did not want all of it
        except Exception as error:
            # Mostly the process has ended meanwhile; then its end is read now, and that is what counts.
            await anyio.sleep(_LAST_SECONDS)
            failures.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        try:
            await _read(process, outputs, most_bytes)
        except Exception as error:
            failures.insert(0, error)
        tasks.cancel_scope.cancel()
    if failures:
        raise failures[0]


async def _run(
    session: Session,
    args: str | Sequence[str],
    *,
    most_bytes: int,
    stdin: str | bytes | None,
    cwd: str | None,
    env: Mapping[str, str] | None,
    timeout_ms: int | None,
) -> Whole:
    """Do it on a daemon that starts no processes, as far as that goes."""
    limit_ms = min(timeout_ms or _MOST_TIMEOUT_MS, _MOST_TIMEOUT_MS)
    try:
        result = await session.run(
            args, input=stdin, cwd=cwd, env=env, timeout_ms=limit_ms, keep_bytes=most_bytes
        )
    except ExecTimeoutError as error:
        return Whole(124, "timeout", error.stdout.encode(), error.stderr.encode())
    if result.truncated:
        raise OutputTooLongError(result.stdout_bytes, result.stderr_bytes)
    return Whole(result.exit_code, result.end, result.stdout_bytes, result.stderr_bytes)
