"""Bodies that are not in memory as a whole: received and sent in pieces, by clients that may stall or go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeVar

from sandkasten.local.api.asgi import when_client_leaves
from sandkasten.local.api.http.exchange import abort
from sandkasten.local.api.http.messages import (
    ClientLeftError,
    Message,
    Receive,
    Request,
    Scope,
    Send,
    StreamedResponse,
)
from sandkasten.local.errors import ApiError
from sandkasten.local.files.tarballs import PIECE_BYTES, BrokenOffError
from sandkasten.local.threads import in_thread

T = TypeVar("T")

# How long nothing may move.
IDLE_SECONDS = 60.0
_AWAKE_SECONDS = 1.0
_ABORT_SECONDS = 1.0


class Behind:
    """Calls what blocks in a thread, one call after another, while its caller goes on with the next."""

    def __init__(self) -> None:
        """Begin before any call."""
        self._call: asyncio.Future[object] | None = None

    async def then(self, function: Callable[..., object], *arguments: Any) -> None:
        """Wait for the call before, and begin this one.

        Raises:
            Exception: what the call before raised.
        """
        await self.wait()
        self._call = asyncio.ensure_future(in_thread(function, *arguments))

    async def wait(self) -> None:
        """Wait for what was called.

        Raises:
            Exception: what it raised.
        """
        call, self._call = self._call, None
        if call is not None:
            await call

    async def settle(self) -> None:
        """Wait for a task, whether it fails or not."""
        with suppress(Exception):
            await self.wait()


async def read_ahead(read_on: Callable[[], bytes]) -> AsyncGenerator[bytes, None]:
    """Yield what a blocking function returns until it is empty; it is called while a piece is being sent."""
    reading = asyncio.ensure_future(in_thread(read_on))
    try:
        while piece := await reading:
            reading = asyncio.ensure_future(in_thread(read_on))
            yield piece
    finally:
        await asyncio.wait([reading])
        if not reading.cancelled():
            reading.exception()  # it was seen; nobody waits for it any more


async def pieces_of(request: Request) -> AsyncIterator[tuple[bytes, bool]]:
    """A request's body in pieces of about 1 MiB, and whether there are more.

    Raises:
        ClientLeftError: it ended before its end.
        ApiError: nothing came for too long.
    """
    pending: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive_in_time(request)
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        body, more = message.get("body", b""), message.get("more_body", False)
        pending.append(body)
        size += len(body)
        if size >= PIECE_BYTES or not more:
            yield b"".join(pending), more
            pending, size = [], 0


async def body_of(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield a request's body as it comes, however slowly.

    Raises:
        ClientLeftError: it ended before its end.
    """
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def receive_in_time(request: Request) -> Message:
    """Receive the next part of a body that is not complete.

    Raises:
        ApiError: nothing came for too long.
    """
    try:
        return await _patiently(request.receive)
    except TimeoutError:
        sentence = f"Nothing came for {IDLE_SECONDS:g} s, so the transfer was given up. Begin it again."
        raise ApiError(408, "REQUEST_TIMEOUT", sentence) from None


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Wait until something moves; what was cancelled, when nothing did, may be called once more.

    Not only a client can stall: where it was the daemon itself (SIGSTOP, a machine that was suspended), what
    came meanwhile is there at once.

    Raises:
        TimeoutError: nothing moved.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(IDLE_SECONDS):
            return await call()
    async with asyncio.timeout(_AWAKE_SECONDS):
        return await call()


class BodyStream(StreamedResponse):
    """An answer whose body is sent as it is read; a client that leaves or stalls ends it."""

    def __init__(
        self,
        request: Request,
        pieces: AsyncGenerator[bytes, None],
        status: int,
        headers: Mapping[str, str],
        close: Callable[[], object],
        *,
        media_type: str = "application/octet-stream",
    ) -> None:
        """Prepare an answer.

        Args:
            request: what is answered.
            pieces: the body.
            status: the status.
            headers: without a Content-Length its length is not said.
            close: called in a thread when nothing is sent any more.
            media_type: what the body is.
        """
        super().__init__(status, headers, media_type)
        self._request = request
        self._pieces = pieces
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = asyncio.Event()
        with when_client_leaves(self._request.receive, left.set):
            try:
                await send(self.start)
                if scope["method"] != "HEAD":
                    await self._send_pieces(send, left)
                await send({"type": "http.response.body", "body": b""})
            except (BrokenOffError, TimeoutError, ApiError):
                abort(self._request.receive)
                with suppress(TimeoutError):
                    await asyncio.wait_for(left.wait(), _ABORT_SECONDS)
            finally:
                await in_thread(self._close)

    async def _send_pieces(self, send: Send, left: asyncio.Event) -> None:
        async with aclosing(self._pieces):
            async for piece in self._pieces:
                await _patiently(
                    partial(send, {"type": "http.response.body", "body": piece, "more_body": True})
                )
                if left.is_set():
                    return
