# Made from sandkasten/stream.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Streams: the output of a command while it runs, and changes of files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from itertools import takewhile
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import httpx
from httpx_sse import ServerSentEvent

from sandkasten._events import KEEP_BYTES, EventReader, StreamReader
from sandkasten._protocol import Extension
from sandkasten._wire import Call, exec_input, resumed
from sandkasten.errors import SandkastenConnectionError
from sandkasten.models import ExecChunk, ExecResult

from ._http import Connection
from ._seam import First, close_generator, close_response

if TYPE_CHECKING:
    from sandkasten._transfer.watching import FileChange

T = TypeVar("T")


class ExecStream:
    """Iterates over the `ExecChunk`s of a running command; the last one has `done` set.

    When the loop is at its end, `result` says how the command ended.

    The command starts at the first step. Closing the stream early stops it: where the block of the context
    manager ends, or at `close()`. A dropped connection is made anew, and the stream goes on where it was,
    on daemons that can do it.
    """

    __slots__ = ("_call", "_chunks", "_connection", "_reader")

    def __init__(
        self,
        connection: Connection,
        call: Call[None],
        needs: str | None = None,
        keep_bytes: int = KEEP_BYTES,
        prepare: First[Call[None]] | None = None,
    ) -> None:
        """Prepare the stream, which may need an extension, and a call that is made first; nothing is sent."""
        self._connection = connection
        self._call = call
        self._reader = StreamReader(keep_bytes)
        self._chunks = _chunks(connection, call, needs, self._reader, prepare)

    def __iter__(self) -> ExecStream:
        return self

    def __next__(self) -> ExecChunk:
        return self._chunks.__next__()

    def __enter__(self) -> ExecStream:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def result(self) -> ExecResult:
        """The end of the command, as `exec` would have answered; there when the loop is at its end.

        Its `output` is the text of all chunks. Beyond `keep_bytes` the middle of that is left out: a line in
        it says so, and `truncated` is true.

        Raises:
            SandkastenError: the command's end was not seen.
        """
        return self._reader.result()

    def send_input(self, pieces: Iterable[bytes]) -> None:
        """Send the command's standard input, and wait until the command has taken it, closed it, or ended.

        For a command that was run with `pipe_input`. Call this beside the iteration, in a task or a thread of
        its own: the command begins with the iteration, and may not read on until somebody takes its output.
        The pieces are asked for one by one, as the command reads; after the last one its input ends. If this
        fails, or is interrupted, the command is stopped.

        Raises:
            SandkastenError: any failure.
        """
        self._connection.require(Extension.PIPES)
        # A daemon reads to its end what nobody takes any more; that end must come.
        wanted = takewhile(lambda _piece: not self._reader.is_over, pieces)
        self._connection.call(exec_input(self._call, wanted))

    def close(self) -> None:
        """Stop the command if it still runs, and give the connection back."""
        close_generator(self._chunks)


class Watch:
    """Iterates over the `FileChange`s below a directory, until it is closed or the directory is gone.

    Watching begins where the block of the context manager does, or at the first step.
    """

    __slots__ = ("_call", "_changes", "_connection", "_response")

    def __init__(self, connection: Connection, call: Call[None]) -> None:
        """Prepare the watch; nothing is sent."""
        self._connection = connection
        self._call = call
        self._response: httpx.Response | None = None
        self._changes = self._read()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> FileChange:
        return self._changes.__next__()

    def __enter__(self) -> Watch:
        self._begin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the watch, and give the connection back."""
        close_generator(self._changes)
        if self._response is not None:  # no step was made
            close_response(self._response)

    def _begin(self) -> httpx.Response:
        if self._response is None:
            self._connection.require(Extension.WATCH)
            self._response = self._connection.open_stream(self._call)
        return self._response

    def _read(self) -> Generator[FileChange, None]:
        from sandkasten._transfer.watching import change_of, cut_short  # noqa: PLC0415  (few watch)

        response = self._begin()
        try:
            for event in self._connection.events(response):
                if event.event == "done":
                    return
                change = change_of(event, response)
                if change is not None:
                    yield change
        finally:
            close_response(response)
        raise cut_short()


def _chunks(
    connection: Connection,
    call: Call[None],
    needs: str | None,
    reader: StreamReader,
    prepare: First[Call[None]] | None,
) -> Generator[ExecChunk, None]:
    # A generator, since its clean-up runs even where a caller just leaves a loop and forgets it.
    if needs is not None:
        connection.require(needs)
    if prepare is not None:
        call = prepare()
    may_resume = connection.has(Extension.RESUME)
    reader.has_prompts = not connection.names_itself()

    def go_on() -> Call[None]:
        return resumed(call, reader.position) if may_resume else call

    chunks = chunks_of(connection, reader, reader.read, go_on, may_resume=may_resume)
    try:
        for chunk in chunks:
            yield chunk
    finally:
        close_generator(chunks)
        reader.is_over = True
        if not reader.finished:
            connection.cancel(call)


def chunks_of(
    connection: Connection,
    reader: EventReader,
    read: Callable[[ServerSentEvent], T | None],
    go_on: Callable[[], Call[None]],
    *,
    may_resume: bool = True,
) -> Generator[T, None]:
    """Iterate over the chunks of a stream to its end; where its connection drops, another one goes on there.

    Args:
        connection: to the daemon.
        reader: knows how far the stream has come, and what the end of a connection means.
        read: has it read an event, and makes a chunk of that.
        go_on: makes the call for the stream from there on.
        may_resume: whether the daemon can go on there.

    Raises:
        SandkastenError: the stream could not begin, or its end was not seen.
    """
    while not reader.finished:
        reason: SandkastenConnectionError | None = None
        try:
            response = connection.open_stream(go_on())
            reader.response = response
            try:
                for event in connection.events(response):
                    chunk = read(event)
                    if chunk is not None:
                        yield chunk
            finally:
                close_response(response)
        except SandkastenConnectionError as error:
            if reader.response is None:  # it never began
                raise
            reason = error
        reader.cut(reason, may_resume=may_resume, max_cuts=connection.max_retries)
