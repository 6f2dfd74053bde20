"""A process beside the shell, while it runs and afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from functools import partial
from types import TracebackType

from sandkasten._processes import arguments as check
from sandkasten._processes import calls
from sandkasten._processes.output import OutputReader
from sandkasten.errors import (
    ProcessInputClosedError,
    ProcessNotFoundError,
    SandkastenError,
    SessionExpiredError,
    SessionNotFoundError,
    WaitTimeoutError,
)
from sandkasten.models import ProcessChunk, ProcessInfo, ProcessResult

from ._http import Connection, ending, was_interrupted
from ._seam import close_response, make_lock
from .stream import chunks_of

# How long a caller who was interrupted waits for the process's end.
_LAST_SECONDS = 5.0
READ_BYTES = 1024 * 1024  # at most, by one `Process.read` that does not name another number


class Process:
    r"""A process that runs in a session, beside its shell and other processes; iterates over its output.

    A loop over it yields `ProcessChunk`s until the process ends. It can be left and begun again: each loop
    goes on where the one before it stopped. A dropped connection is made anew, and nothing is lost or doubled
    by that. As a context manager it ends the process, and all that this started, on exit.

    Example::

        async with await session.start(["python3", "-u", "-c", "print(input())"], stdin=True) as process:
            await process.write("Hello\n")
            async for chunk in process:
                print(chunk.stream, chunk.text)
            print("ended with", process.result.exit_code)
    """

    __slots__ = ("_connection", "_id", "_known", "_path", "_reader", "_session_id", "_writing")

    def __init__(self, connection: Connection, session_id: str, process_id: str, position: int = 0) -> None:
        """Bind to a process; nothing is sent. A session's `start` and `process` return them.

        Raises:
            SandkastenInputError: an id or a position that cannot be one.
        """
        self._connection = connection
        self._session_id = session_id
        self._id = check.process_id(process_id)
        self._path = calls.path_of(session_id, self._id)
        self._reader = OutputReader(check.position(position))
        self._known: ProcessResult | None = None
        self._writing = make_lock()

    def __repr__(self) -> str:
        return f"<Process {self._id}>"

    @property
    def id(self) -> str:
        """The process's id, by which `Session.process` finds it, from another client too."""
        return self._id

    @property
    def position(self) -> int:
        """The output read here, in bytes of both channels together, from its beginning."""
        return self._reader.position

    @property
    def result(self) -> ProcessResult:
        """The end of the process and its output; there after a loop over it, `wait` or `close`.

        After a loop its outputs are what was read here, of more than 1 MiB the head and the tail.

        Raises:
            SandkastenError: the process's end was not seen.
        """
        found = self._reader.result if self._reader.is_whole else self._known or self._reader.result
        if found is None:
            raise SandkastenError(
                "The process has no result yet: its end was not seen.", "Iterate to the end, or wait()."
            )
        return found

    def __aiter__(self) -> AsyncGenerator[ProcessChunk, None]:
        reader = self._reader
        read = partial(reader.read_in, reader.begin())
        return chunks_of(self._connection, reader, read, lambda: calls.output(self._path, reader.position))

    async def read(self, timeout_ms: int = 0, *, max_bytes: int = READ_BYTES) -> list[ProcessChunk]:
        """Return the output that came since the last read or loop, without waiting for the process's end.

        Example::

            async with await session.start("echo started; sleep 60") as process:
                await process.read(timeout_ms=100)

        Args:
            timeout_ms: how long to collect what comes, in milliseconds, at most to the process's end; 0
                returns what there is.
            max_bytes: how much is enough before that; the rest is there for the next call.

        Raises:
            SandkastenInputError: a number that is out of range.
            SandkastenError: any other failure.
        """
        limit_ms = check.wait_timeout_ms(timeout_ms) or 0
        call = calls.output(self._path, self.position, (limit_ms, check.read_bytes(max_bytes)))
        chunks: list[ProcessChunk] = []
        reader = self._reader
        turn = reader.begin()
        if reader.result is not None:
            return chunks
        response = await self._connection.open_stream(call)
        reader.response = response
        try:
            async for event in self._connection.events(response):
                chunk = reader.read_in(turn, event)
                if chunk is not None:
                    chunks.append(chunk)
        finally:
            await close_response(response)
        return chunks

    async def write(self, content: str | bytes) -> None:
        """Write to the process's standard input, and wait until the process has taken it.

        For a process that was started with `stdin`, or in a terminal, where this is what is typed. It may be
        written to from several clients that take turns.

        Args:
            content: text, sent as UTF-8, or bytes.

        Raises:
            ProcessInputClosedError: the input was closed, or the process ended (a `BrokenPipeError` too).
            SandkastenError: any other failure.
        """
        data = check.given_input(content, "content")
        async with self._writing:
            position = await self._connection.call(calls.put_input(self._path, 0, b""))
            for start in range(0, len(data), calls.INPUT_PIECE_BYTES):
                piece = data[start : start + calls.INPUT_PIECE_BYTES]
                position = await self._connection.call(calls.put_input(self._path, position, piece))

    async def close_stdin(self) -> None:
        """End the process's standard input; it may be closed already. In a terminal that is Ctrl-D.

        Raises:
            SandkastenError: any failure.
        """
        async with self._writing:
            try:
                position = await self._connection.call(calls.put_input(self._path, 0, b""))
                await self._connection.call(calls.put_input(self._path, position, b"", close=True))
            except ProcessInputClosedError:
                return

    async def send_signal(self, signal: str | int) -> bool:
        """Send a signal to the process and those of its group.

        Args:
            signal: a name such as `INT` or `SIGINT`, or a number.

        Returns:
            Whether it still ran.

        Raises:
            SandkastenInputError: there is no such signal.
            SandkastenError: any other failure.
        """
        return await self._connection.call(calls.signal(self._path, check.signal(signal)))

    async def terminate(self) -> bool:
        """Ask the process to end (SIGTERM); return whether it still ran.

        Raises:
            SandkastenError: any failure.
        """
        return await self.send_signal("TERM")

    async def kill(self) -> bool:
        """Kill the process and those of its group (SIGKILL); return whether it still ran.

        Raises:
            SandkastenError: any failure.
        """
        return await self.send_signal("KILL")

    async def wait(self, timeout_ms: int | None = None) -> ProcessResult:
        """Wait for the process's end.

        It need not be read for that: what nobody reads is thrown away beyond what the daemon keeps.

        Args:
            timeout_ms: how long to wait, in milliseconds; None is until it ends.

        Returns:
            How it ended, and what it printed: all of it after a whole loop, otherwise what the daemon still
            has. For a process that was stopped because its own time was over, `end` is `timeout`.

        Raises:
            WaitTimeoutError: it goes on; it is a `TimeoutError` too.
            SandkastenError: any other failure.
        """
        limit_ms = check.wait_timeout_ms(timeout_ms)
        until = None if limit_ms is None else time.monotonic() + limit_ms / 1000
        if self._known is None and not self._reader.is_whole:
            self._known = await self._ended(until, limit_ms)
        return self.result

    async def _ended(self, until: float | None, limit_ms: int | None) -> ProcessResult:
        while True:
            round_ms = calls.ROUND_MS
            if until is not None:
                round_ms = min(round_ms, max(0, round((until - time.monotonic()) * 1000)))
            info = await self._connection.call(calls.result(self._path, round_ms))
            if info.result is not None:
                return await self._with_outputs(info.result)
            if until is not None and time.monotonic() >= until:
                raise WaitTimeoutError(
                    f"The process {self._id} did not end within {limit_ms} ms.",
                    "It goes on: wait longer, or end it with terminate() or kill().",
                )

    async def _with_outputs(self, result: ProcessResult) -> ProcessResult:
        """Return the result with what the daemon still has of the output."""
        if not result.stdout_total_bytes + result.stderr_total_bytes:
            return result
        other = Process(self._connection, self._session_id, self._id)
        async for _chunk in other:
            pass
        return other.result

    async def resize(self, columns: int, rows: int) -> None:
        """Give the process's terminal another size; programs in it learn of that.

        Raises:
            SandkastenInputError: a size that no terminal has.
            InvalidRequestError: the process has no terminal.
            SandkastenError: any other failure.
        """
        await self._connection.call(calls.resize(self._path, check.size(columns, rows)))

    async def info(self) -> ProcessInfo:
        """Ask what the daemon knows about the process.

        Raises:
            ProcessNotFoundError: the session knows no such process.
            SandkastenError: any other failure.
        """
        return await self._connection.call(calls.info(self._path))

    async def close(self, *, force: bool = False) -> None:
        """End the process and all that it started, and wait for that; it may have ended already.

        Args:
            force: kill at once. Without, SIGTERM comes first, and 2 seconds to clean up.

        Raises:
            SandkastenError: any failure.
        """
        try:
            ended = await self._connection.call(calls.end(self._path, force=force))
        except (ProcessNotFoundError, SessionNotFoundError, SessionExpiredError):
            return  # gone is what was wanted
        if self._known is None and ended.result is not None:
            self._known = self._reader.with_outputs(ended.result)

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with ending(exc, _LAST_SECONDS):
            await self.close(force=was_interrupted(exc))
