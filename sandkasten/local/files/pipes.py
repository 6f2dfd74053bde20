"""The extension `pipes`: a command's standard input and output as pipes, byte for byte, while it runs.

A terminal is no place for an archive: programs refuse to write one there, and text cannot carry one. So the
command gets FIFOs, which lie in the workspace until the shell has opened them, and whose other ends are held
here. The kernel then says what is to be read, when the reader is gone, and what was printed before the end.

The pipes were made here a moment ago, but the sandbox can put something else in their place: only FIFOs are
used, and a sandbox that misuses its own pipes harms nobody else.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shlex
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

from sandkasten.local.identity import Identity

_READ_BYTES = 64 * 1024
_HIGH_WATER_BYTES = 256 * 1024
_OPENED = b"\0"  # the first byte that the shell sends


class Pipes:
    """The pipes of one command. Lives in the event loop's thread."""

    def __init__(self, workspace: Path, identity: Identity, *, has_input: bool, has_output: bool) -> None:
        """Make the FIFOs, and hold their other ends.

        Raises:
            OSError: they cannot be made.
        """
        self._workspace = workspace
        self._name = f".sandkasten-{secrets.token_hex(8)}"
        self._has_output = has_output
        self.input: Input | None = None
        self._output = _make(workspace, f"{self._name}.out", identity, os.O_RDONLY)
        try:
            if has_input:
                self.input = Input(_make(workspace, f"{self._name}.in", identity, os.O_RDONLY))
        except BaseException:
            self.close()
            raise
        self._wake: Callable[[], None] = _nothing
        self._taken = bytearray()
        self._is_opened = False
        self._is_read = False

    def redirected(self, cmd: str) -> str:
        """Return shell text that runs a command in the same shell with the pipes as input and output.

        Before it begins, `$?` is what it was and the FIFOs are not in the workspace any more.
        """
        inside = f"/workspace/{self._name}"
        tell = f"builtin printf '\\0' >{inside}.out; command rm -f {inside}.in {inside}.out"
        places = [f"<{inside}.in"] * (self.input is not None) + [f">{inside}.out"] * self._has_output
        return f"{{ (s=$?; {tell}; exit $s) && :; builtin eval {shlex.quote(cmd)}; }} {' '.join(places)}"

    def start(self, wake: Callable[[], None]) -> None:
        """Read what is printed, and call `wake` when there is some."""
        self._wake = wake
        self._read_on()

    def take(self) -> bytes:
        """Return what was printed and not yet taken."""
        data = bytes(self._taken)
        self._taken.clear()
        self._read_on()
        return data

    def finish(self) -> bytes:
        """Return the rest of what was printed, now that the command has ended.

        A background job may go on printing: that is read, lest it ends by a signal, and dropped.
        """
        if self._output >= 0:
            capacity = fcntl.fcntl(self._output, fcntl.F_GETPIPE_SZ)
            while capacity > 0 and (count := self._read(_READ_BYTES)):
                capacity -= count
        data = bytes(self._taken)
        self._wake = self._taken.clear
        self._taken.clear()
        self._read_on()
        self._unlink()
        if self.input is not None:
            self.input.close()
        return data

    def close(self) -> None:
        """Give everything up."""
        self._stop_reading()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1
        if self.input is not None:
            self.input.close()
        self._unlink()

    def _read_on(self) -> None:
        if self._output >= 0 and not self._is_read:
            self._is_read = True
            asyncio.get_running_loop().add_reader(self._output, self._on_readable)

    def _stop_reading(self) -> None:
        if self._is_read:
            self._is_read = False
            asyncio.get_running_loop().remove_reader(self._output)

    def _on_readable(self) -> None:
        if self._read(_READ_BYTES):
            self._wake()
        if len(self._taken) >= _HIGH_WATER_BYTES:
            self._stop_reading()

    def _read(self, size: int) -> int:
        """Read once; how many bytes came. At the end of the pipe it is closed."""
        try:
            data = os.read(self._output, size)
        except BlockingIOError:
            return 0
        if not data:
            self._stop_reading()
            os.close(self._output)
            self._output = -1
            return 0
        self._taken += data if self._is_opened else data.removeprefix(_OPENED)
        if not self._is_opened:
            self._is_opened = True
            if self.input is not None:
                self.input.on_opened()
        return len(data)

    def _unlink(self) -> None:
        for end in ("in", "out"):
            with suppress(OSError):  # the shell did it
                (self._workspace / f"{self._name}.{end}").unlink()


class Input:
    """The pipe that a command reads."""

    def __init__(self, reader: int) -> None:
        """Hold the writing end, and a reading end as long as the command has not opened its own."""
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self._reader = reader
        self._writer = os.open(f"/proc/self/fd/{reader}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def on_opened(self) -> None:
        """Leave the reading end to the command, so that the kernel reports when nobody reads any more."""
        self._opened.set()
        self._close_reader()

    async def fill(self, pieces: AsyncIterator[bytes]) -> None:
        """Write what an iterator yields into the pipe, until either that or the command ends.

        Raises:
            Exception: what the iterator raises while the command can still read.
        """
        tasks = [asyncio.ensure_future(wait) for wait in (self._pump(pieces), self._closed.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()

    def close(self) -> None:
        """The command has ended."""
        self._closed.set()
        self._close_writer()
        self._close_reader()

    async def _pump(self, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            if not await self._write(piece):
                await self._closed.wait()  # no answer before the body's end, and nobody reads that
        await self._opened.wait()  # a pipe that nobody holds is empty
        self._close_writer()

    async def _write(self, data: bytes) -> bool:
        """Write all of it; False if the command has closed its end."""
        view = memoryview(data)
        while view:
            if self._writer < 0:  # the command has ended meanwhile
                return False
            try:
                view = view[os.write(self._writer, view) :]
            except BlockingIOError:
                await self._until_writable()
            except BrokenPipeError:
                return False
        return True

    async def _until_writable(self) -> None:
        writable = asyncio.Event()
        asyncio.get_running_loop().add_writer(self._writer, writable.set)
        await writable.wait()
        self._stop_writing()

    def _stop_writing(self) -> None:
        if self._writer >= 0:
            asyncio.get_running_loop().remove_writer(self._writer)

    def _close_writer(self) -> None:
        self._stop_writing()
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def _close_reader(self) -> None:
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1


def _make(workspace: Path, name: str, identity: Identity, flags: int) -> int:
    directory = os.open(workspace, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.mkfifo(name, 0o600, dir_fd=directory)
        if identity.drops:
            os.chown(name, identity.uid, identity.gid, dir_fd=directory, follow_symlinks=False)
        opened = os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)
    if not stat.S_ISFIFO(os.fstat(opened).st_mode):
        os.close(opened)
        raise FileExistsError(f"{name} was replaced")
    return opened


def _nothing() -> None:
    pass
