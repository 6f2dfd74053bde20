"""The transport of the async client: HTTP/1.1 on asyncio's own streams of bytes, one request after the other.

Its blocking twin is `sandkasten_sync/_transport.py`. A connection carries the next request only if the last
answer ended where it said, and nothing came since: whatever else happens to one, it is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import cast

import httpx

from sandkasten._config import Target
from sandkasten._limits import POOL_LIMITS
from sandkasten._transport.answers import Answer
from sandkasten._transport.idle import IdleMark, address_of
from sandkasten._transport.requests import Outgoing, Patience, outgoing, patience_of

# How much of an answer may wait to be read before no more of it is taken from the socket.
_AHEAD_BYTES = 1024 * 1024
# Names with addresses of both kinds are tried on both, the second kind so much later.
_HEAD_START_SECONDS = 0.25


class Transport(httpx.AsyncBaseTransport):
    """Carries the requests to one daemon. It belongs to the event loop in which it is first used."""

    def __init__(self, target: Target) -> None:
        """Connect nothing yet."""
        self._target = target
        self._idle: list[_Link] = []
        self._links: set[_Link] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return its answer as soon as the head is there.

        Raises:
            httpx.TransportError: there is no answer, by its class. A `ConnectError` or `ConnectTimeout` means
                that nothing was sent.
        """
        out = outgoing(request)
        patience = patience_of(request, asyncio.get_running_loop().time())
        link, answer = await self._begun(out, patience)
        try:
            if out.body is None:
                await _send_body(link, answer, out, request, patience)
            while not answer.has_head:
                await link.more(patience)
        except BaseException:
            link.drop()
            raise
        stream: httpx.AsyncByteStream = Body(link, answer, patience)
        if answer.is_complete:  # as that of nearly every small call
            stream = httpx.ByteStream(b"".join(answer.take()))
            link.release(answer)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=stream,
            request=request,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": answer.reason},
        )

    async def aclose(self) -> None:
        """Close all connections, those that carry requests too."""
        for link in list(self._links):
            link.drop()
        await asyncio.sleep(0)  # asyncio closes their sockets in its next round

    async def _begun(self, out: Outgoing, patience: Patience) -> tuple[_Link, Answer]:
        """Return a connection on which the head was written, with the body if that is in memory."""
        first = out.head + out.body if out.body else out.head
        while self._idle:
            link = self._idle.pop()
            # Where the system refuses the first bytes, the daemon has seen none of them.
            if link.is_usable() and (answer := link.begin(first, is_whole=out.body is not None)):
                return link, answer
            link.drop()
        link = await self._connected(patience)
        if answer := link.begin(first, is_whole=out.body is not None):
            return link, answer
        link.drop()
        raise httpx.WriteError("the connection was closed at once")

    async def _connected(self, patience: Patience) -> _Link:
        loop = asyncio.get_running_loop()
        make = partial(_Link, loop, self._links, self._idle)
        try:
            async with asyncio.timeout(patience.connect):
                if self._target.socket_path:
                    _, link = await loop.create_unix_connection(make, self._target.socket_path)
                else:
                    host, port = address_of(self._target.base_url)
                    _, link = await loop.create_connection(
                        make, host, port, happy_eyeballs_delay=_HEAD_START_SECONDS
                    )
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:  # it is not the system's
                raise httpx.ConnectTimeout(f"no connection within {patience.connect:g} s") from error
            raise httpx.ConnectError(str(error)) from error
        return link


class _Link(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_answer", "_failure", "_idle", "_is_held", "_is_over", "_is_taken", "_links", "_loop", "_mark",
        "_transport", "_waiter", "is_sent",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, links: set[_Link], idle: list[_Link]) -> None:
        self._loop, self._links, self._idle = loop, links, idle
        self._waiter: asyncio.Future[bool] | None = None
        self._failure: httpx.TransportError | None = None
        self._is_held = self._is_over = False
        self._is_taken = True  # whether what is written goes out
        self._answer: Answer | None = None
        self.is_sent = False  # whether all of the request was written

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._mark = IdleMark(transport.get_extra_info("socket").fileno())
        self._links.add(self)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nobody asked
            self.drop()
            return
        try:
            answer.feed(data)
        except httpx.RemoteProtocolError as error:
            self._fail(error)
            self.drop()
            return
        if answer.pending_bytes >= _AHEAD_BYTES and not self._is_held:
            self._is_held = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._links.discard(self)
        if self in self._idle:
            self._idle.remove(self)
        self._ended(exc)

    def pause_writing(self) -> None:
        self._is_taken = False

    def resume_writing(self) -> None:
        self._is_taken = True
        self._wake()

    # --- what the transport calls

    def is_usable(self) -> bool:
        """Return whether the connection waits for a request."""
        return not self._is_over and self._mark.is_fresh()

    def begin(self, data: bytes, *, is_whole: bool) -> Answer | None:
        """Write the beginning of a request, or all of it; return None if nothing of it was sent."""
        self._answer, self.is_sent = Answer(), is_whole
        self._transport.write(data)
        return None if self._transport.is_closing() else self._answer

    async def write(self, data: bytes | memoryview, answer: Answer, patience: Patience) -> bool:
        """Write more of a request, and wait until it is taken; return False if no more is wanted."""
        if not self._is_over:
            self._transport.write(data)
        since = self._loop.time()
        while not (self._is_taken or self._is_over or answer.has_head):
            if not await self._moved(patience.moment(since, patience.write)):
                raise patience.too_late(self._loop.time(), writing=True)
        return not (self._is_over or answer.has_head)

    async def more(self, patience: Patience) -> None:
        """Wait until something more comes."""
        if self._failure is not None:
            raise self._failure
        if self._is_held:
            self._is_held = False
            self._transport.resume_reading()
        now = self._loop.time()
        if patience.is_over(now) or not await self._moved(patience.moment(now, patience.read)):
            raise patience.too_late(self._loop.time())

    def release(self, answer: Answer) -> None:
        """Let the connection carry another request than that of an answer, or close it if it cannot."""
        if self._answer is not answer:
            return  # it does already
        self._answer = None
        is_sent = self.is_sent and not self._transport.get_write_buffer_size()
        idle, limit = self._idle, POOL_LIMITS.max_keepalive_connections or 0
        if not (answer.can_reuse and is_sent) or self._is_over or len(idle) >= limit:
            self.drop()
            return
        self._mark.start()
        idle.append(self)
        if len(idle) > 1 and not idle[0].is_usable():  # the one that waits for the longest
            idle.pop(0).drop()

    def drop(self) -> None:
        """Close the connection, whatever it carries."""
        self._fail(httpx.ReadError("the connection was closed here"))
        self._answer = None
        self._transport.abort()

    # --- inside

    async def _moved(self, moment: float | None) -> bool:
        """Wait until anything happens to the connection; return False if that does not come in time."""
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiter = waiter
        timer = None if moment is None else self._loop.call_at(moment, _wake, waiter, False)
        try:
            return await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None:
            _wake(self._waiter, True)

    def _fail(self, error: httpx.TransportError) -> None:
        self._is_over = True
        self._failure = self._failure or error
        self._wake()

    def _ended(self, reason: Exception | None) -> None:
        error: httpx.TransportError | None = None if reason is None else httpx.ReadError(str(reason))
        if error is None and self._answer is not None:
            try:
                self._answer.end()
            except httpx.RemoteProtocolError as found:
                error = found
        self._fail(error or httpx.ReadError("the connection was closed"))


class Body(httpx.AsyncByteStream):
    """The body of an answer that is still coming."""

    def __init__(self, link: _Link, answer: Answer, patience: Patience) -> None:
        """Read from a connection, which is let go of at the end."""
        self._link, self._answer, self._patience = link, answer, patience

    async def __aiter__(self) -> AsyncIterator[bytes]:
        answer = self._answer
        try:
            while True:
                parts = answer.take()
                for part in parts:
                    yield part
                if parts:
                    continue  # more may have come meanwhile
                if answer.is_complete:
                    break
                await self._link.more(self._patience)
        finally:
            await self.aclose()

    def limit(self, seconds: float | None) -> None:
        """Let the rest of the body take so many seconds; None: as long as something comes."""
        self._patience.restart(asyncio.get_running_loop().time(), seconds)

    async def aclose(self) -> None:
        """Let go of the connection."""
        self._link.release(self._answer)


async def _send_body(
    link: _Link, answer: Answer, out: Outgoing, request: httpx.Request, patience: Patience
) -> None:
    """Send a body piece by piece; stop where the daemon answers before its end."""
    assert isinstance(request.stream, httpx.AsyncByteStream)
    async for piece in request.stream:
        for data in out.framed(piece):
            if not await link.write(data, answer, patience):
                return
    link.is_sent = await link.write(out.end(), answer, patience)


def _wake(waiter: asyncio.Future[bool], moved: bool) -> None:
    if not waiter.done():
        waiter.set_result(moved)
