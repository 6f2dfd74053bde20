"""Requests and answers piped through to a daemon, in both directions, and nothing of them kept.

When the client goes, its request's connection to the daemon is closed, and the daemon does what it does for a
client that goes. When the daemon goes in the middle of an answer, the answer breaks off, so that nobody takes
it for a whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from yarl import URL

from sandkasten.local.api.connections import LIVE
from sandkasten.ray.rules.routing import forwarded, returned

_CONNECT_SECONDS = 2.0
_KEPT_SECONDS = 30.0  # less than a daemon keeps a connection
_PIECE_BYTES = 256 * 1024
_AT_ONCE_BYTES = 64 * 1024
_FAN_OUT_SECONDS = 5.0
# A host that is gone without a word is noticed by the kernel: after 5 s of silence, and then three questions.
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))


class DaemonGoneError(Exception):
    """Nobody listens at the daemon's address, or the connection broke off before an answer came."""

    def __init__(self, *, refused: bool) -> None:
        """Note whether the connection was refused: the daemon is no longer there."""
        super().__init__()
        self.refused = refused


@dataclass(frozen=True)
class Answered:
    """An answer that was read whole."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Daemons:
    """The connections to all daemons, with the cluster's key."""

    def __init__(self, key: str, tls: ssl.SSLContext | None = None) -> None:
        """Connect to nothing yet; within an event loop."""
        self.key = key
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=_KEPT_SECONDS, socket_factory=_socket, ssl=tls or True
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            read_bufsize=_PIECE_BYTES,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Send a request, and give its answer as soon as that begins.

        Raises:
            DaemonGoneError: see there.
        """
        try:
            answer = await self._session.request(
                method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
            )
        except aiohttp.ClientConnectorError as error:
            raise DaemonGoneError(refused=isinstance(error.os_error, ConnectionRefusedError)) from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise DaemonGoneError(refused=False) from error
        try:
            yield answer
        except BaseException:
            answer.close()
            raise
        finally:
            answer.release()

    async def fetch(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answered:
        """Send a request and read its answer.

        Raises:
            DaemonGoneError: see there.
        """
        own = {"authorization": f"Bearer {self.key}"} if headers is None else headers
        try:
            async with self.open(method, url, own, body) as answer:
                return Answered(answer.status, list(answer.raw_headers), await answer.read())
        except aiohttp.ClientError as error:
            raise DaemonGoneError(refused=False) from error

    async def fetch_soon(self, url: str, *, method: str = "GET") -> Answered | None:
        """Send a request to one of several daemons; None if it does not answer in time."""
        try:
            async with asyncio.timeout(_FAN_OUT_SECONDS):
                return await self.fetch(method, url)
        except (DaemonGoneError, TimeoutError):
            return None

    async def answers(self, url: str) -> bool:
        """Return whether a daemon is there and answers."""
        return await self.fetch_soon(f"{url}/healthz") is not None


def _socket(info: Any) -> socket.socket:
    family, kind, proto, _name, _address = info
    made = socket.socket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


class Body:
    """A request's body on its way to a daemon, and then the word that the client has gone."""

    def __init__(self, receive: Receive, *, was_read: bool = False) -> None:
        """Read from a client."""
        self._receive = receive
        self._is_complete = asyncio.Event()
        self.has_left = False
        if was_read:
            self._is_complete.set()

    async def begin(self) -> bytes | AsyncIterator[bytes]:
        """Return the body, if it has come already, or its pieces.

        Raises:
            ClientDisconnect: the client has gone.
        """
        piece, has_more = await self._next()
        return self._pieces(piece) if has_more else piece

    async def while_there(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work until it ends or the client goes; then cancel it."""
        working = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._left())
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.wait({working, leaving})
            for task in (working, leaving):
                if not task.cancelled():
                    task.exception()  # it was raised above, or nobody is there to hear of it

    async def _left(self) -> None:
        """Wait until the client goes; that is heard only once its body is complete."""
        await self._is_complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_left = True

    async def _pieces(self, piece: bytes) -> AsyncIterator[bytes]:
        has_more = True
        while True:
            if piece:
                yield piece
            if not has_more:
                return
            piece, has_more = await self._next()

    async def _next(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.has_left = True
            raise ClientDisconnect
        has_more = message.get("more_body", False)
        if not has_more:
            self._is_complete.set()
        return message.get("body", b""), has_more


class Piped(Response):
    """An answer that comes from a daemon, as it comes."""

    def __init__(
        self,
        daemons: Daemons,
        url: str,
        target: str,
        on_gone: Callable[[DaemonGoneError], Awaitable[Exception]],
    ) -> None:
        """Pipe a request through.

        Args:
            daemons: the connections.
            url: the daemon's.
            target: path and query.
            on_gone: returns the error that the client gets if the daemon is gone.
        """
        self._daemons = daemons
        self._url = url + target
        self._on_gone = on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(receive)
        content = await body.begin()
        headers = forwarded(
            scope["headers"], self._daemons.key, has_body=not isinstance(content, bytes) or bool(content)
        )
        try:
            work = pipe(self._daemons, self._url, scope, send, headers=headers, content=content)
            await body.while_there(work)
        except DaemonGoneError as gone:
            if not body.has_left:
                raise await self._on_gone(gone) from gone


async def pipe(
    daemons: Daemons,
    url: str,
    scope: Scope,
    send: Send,
    *,
    headers: dict[str, str],
    content: bytes | AsyncIterator[bytes],
    on_status: Callable[[int], None] | None = None,
) -> None:
    """Send a request to a daemon, and its answer to the client.

    Args:
        daemons: the connections.
        url: what is asked, of which daemon.
        scope: the client's request.
        send: the way to the client.
        headers: those that go along.
        content: the request's body, or its pieces.
        on_status: called with the answer's status, before the client has it.

    Raises:
        DaemonGoneError: the daemon is gone, and the client was sent nothing.
    """
    if isinstance(content, bytes):
        headers.pop("content-length", None)  # it is counted anew
    async with daemons.open(scope["method"], url, headers, content or None) as answer:
        if answer.content_type == "text/event-stream":
            scope[LIVE] = True
        length = answer.content_length
        is_short = length is not None and length <= _AT_ONCE_BYTES
        try:
            whole = await answer.read() if is_short else b""
        except aiohttp.ClientError as error:
            raise DaemonGoneError(refused=False) from error
        if on_status is not None:
            on_status(answer.status)
        head = returned(answer.raw_headers)
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        if not is_short:
            try:
                async for piece in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except aiohttp.ClientError:
                return  # the answer stays without an end, which breaks off the client's connection
        await send({"type": "http.response.body", "body": whole})
