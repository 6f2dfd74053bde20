"""Python that remembers: a context of a session, and streams of code that runs in one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType

from sandkasten._protocol import Extension
from sandkasten._python import calls
from sandkasten._python.output import PythonReader
from sandkasten._python.values import PythonChunk, PythonContextInfo, PythonResult, PythonVariable
from sandkasten._wire import Call

from ._http import Connection, ending
from ._seam import close_generator
from .stream import chunks_of

# How long a caller who was interrupted waits for the interpreter's end.
_LAST_SECONDS = 5.0
# How much of each output is kept, which is the most on the local daemon.
KEEP_BYTES = 1024 * 1024


class PythonStream:
    """Iterates over the `PythonChunk`s of running code.

    When the loop is at its end, `result` says how the code ended. The code starts at the first step. Closing
    the stream early interrupts it: where the block of the context manager ends, or at `close()`. A dropped
    connection is made anew, and the stream goes on where it was.
    """

    __slots__ = ("_chunks", "_reader")

    def __init__(self, connection: Connection, call: Call[None], keep_bytes: int) -> None:
        """Prepare the stream; nothing is sent."""
        self._reader = PythonReader(keep_bytes)
        self._chunks = _chunks(connection, call, self._reader)

    def __aiter__(self) -> PythonStream:
        return self

    async def __anext__(self) -> PythonChunk:
        return await self._chunks.__anext__()

    async def __aenter__(self) -> PythonStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def result(self) -> PythonResult:
        """The end of the code, as `python` would have answered; there when the loop is at its end.

        Raises:
            SandkastenError: the code's end was not seen.
        """
        return self._reader.result()

    async def close(self) -> None:
        """Interrupt the code if it still runs, and give the connection back."""
        await close_generator(self._chunks)


class PythonContext:
    r"""A Python interpreter of a session that remembers; code in it runs one after another.

    Variables, imports and functions stay from one call to the next. Each context has its own, and code in
    different contexts runs at the same time. As a context manager it ends its interpreter on exit.

    Example::

        async with session.python_context("analysis") as context:
            await context.run("x = 42")
            assert (await context.run("x + 1")).value == "43"
    """

    __slots__ = ("_connection", "_name", "_path", "_session_id")

    def __init__(self, connection: Connection, session_id: str, name: str) -> None:
        """Bind to a context; nothing is sent. `Session.python_context` returns one.

        Raises:
            SandkastenInputError: a name that cannot be one.
        """
        self._connection = connection
        self._session_id = session_id
        self._name = calls.checked_context(name)
        self._path = calls.path_of(session_id, name)

    def __repr__(self) -> str:
        return f"<PythonContext {self._name}>"

    @property
    def name(self) -> str:
        """The context's name."""
        return self._name

    async def run(self, code: str, *, timeout_ms: int = 30_000, keep_bytes: int = KEEP_BYTES) -> PythonResult:
        """Run code and wait for its end; see `Session.python`.

        Raises:
            ExecTimeoutError: it ran for longer than `timeout_ms`, and was interrupted.
            SandkastenInputError: an argument that no daemon accepts.
            SandkastenError: any other failure.
        """
        call = calls.run(self._session_id, code, self._name, timeout_ms, keep_bytes)
        await self._connection.require(Extension.PYTHON)
        return await self._connection.call(call)

    def stream(self, code: str, *, timeout_ms: int = 30_000, keep_bytes: int = KEEP_BYTES) -> PythonStream:
        """Run code and get what it prints and shows while it runs; see `Session.python_stream`.

        Raises:
            SandkastenInputError: an argument that no daemon accepts.
        """
        call = calls.stream(self._session_id, code, self._name, timeout_ms)
        return PythonStream(self._connection, call, keep_bytes)

    async def variables(self) -> list[PythonVariable]:
        """List the variables; none before the first code.

        Raises:
            SandkastenAPIError: code runs in the context (409 CONFLICT).
            SandkastenError: any other failure.
        """
        await self._connection.require(Extension.PYTHON)
        return await self._connection.call(calls.variables(self._path))

    async def interrupt(self) -> bool:
        """Raise KeyboardInterrupt in the code that runs; the variables stay.

        Returns:
            Whether any code ran.

        Raises:
            SandkastenError: any failure.
        """
        await self._connection.require(Extension.PYTHON)
        return await self._connection.call(calls.interrupt(self._path))

    async def restart(self) -> None:
        """End the interpreter and all that it started; the next code begins in a new one.

        Raises:
            SandkastenError: any failure.
        """
        await self._connection.require(Extension.PYTHON)
        await self._connection.call(calls.restart(self._path))

    async def info(self) -> PythonContextInfo | None:
        """Ask what the daemon knows about the context; None before the first code, and after its end.

        Raises:
            SandkastenError: any failure.
        """
        await self._connection.require(Extension.PYTHON)
        found = await self._connection.call(calls.contexts(self._session_id))
        return next((each for each in found if each.name == self._name), None)

    async def close(self) -> None:
        """End the interpreter and all that it started; there may be none.

        Raises:
            SandkastenError: any failure.
        """
        await self._connection.require(Extension.PYTHON)
        await self._connection.call(calls.close(self._path))

    async def __aenter__(self) -> PythonContext:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with ending(exc, _LAST_SECONDS):
            await self.close()


async def _chunks(
    connection: Connection, call: Call[None], reader: PythonReader
) -> AsyncGenerator[PythonChunk, None]:
    # A generator, since its clean-up runs even where a caller just leaves a loop and forgets it.
    await connection.require(Extension.PYTHON)
    may_resume = await connection.has(Extension.RESUME)

    def go_on() -> Call[None]:
        return calls.from_position(call, reader.position)

    chunks = chunks_of(connection, reader, reader.read, go_on, may_resume=may_resume)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        await close_generator(chunks)
        if not reader.finished:
            await connection.cancel(call)
