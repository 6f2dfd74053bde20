"""Requests and answers piped through to a daemon, in both directions, and nothing of them kept.

When the client goes, its request's connection to the daemon is closed, and the daemon does what it does for a
client that goes. When the daemon goes in the middle of an answer, the answer breaks off, so that nobody takes
it for a whole one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from sandkasten.local.api.connections import LIVE
from sandkasten.local.api.http.messages import ClientLeftError, Receive, Response, Scope, Send
from sandkasten.ray.rules.routing import returned

T = TypeVar("T")

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


class State(Enum):
    """The state of a daemon, as seen from here."""

    ANSWERS = "answers"
    SILENT = "does not answer"
    GONE = "nobody listens there"


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

    async def begin(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> Answered | aiohttp.ClientResponse:
        """Send a request; return its answer, whole if it is short, else as soon as it begins.

        Raises:
            DaemonGoneError: see there.
        """
        answer: aiohttp.ClientResponse | None = None
        try:
            answer = await self._session.request(
                method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
            )
            length = answer.content_length
            if length is None or length > _AT_ONCE_BYTES:
                return answer
            return Answered(answer.status, list(answer.raw_headers), await answer.read())
        except aiohttp.ClientConnectorError as error:
            raise DaemonGoneError(refused=isinstance(error.os_error, ConnectionRefusedError)) from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise DaemonGoneError(refused=False) from error
        except BaseException:
            if answer is not None:
                answer.close()
            raise

    async def fetch(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answered:
        """Send a request and read its answer.

        Raises:
            DaemonGoneError: see there.
        """
        own = {"authorization": f"Bearer {self.key}"} if headers is None else headers
        found = await self.begin(method, url, own, body)
        if isinstance(found, Answered):
            return found
        try:
            async with found:
                return Answered(found.status, list(found.raw_headers), await found.read())
        except aiohttp.ClientError as error:
            raise DaemonGoneError(refused=False) from error

    async def fetch_soon(self, url: str, *, method: str = "GET") -> Answered | None:
        """Send a request to one of several daemons; None if it does not answer in time."""
        try:
            async with asyncio.timeout(_FAN_OUT_SECONDS):
                return await self.fetch(method, url)
        except (DaemonGoneError, TimeoutError):
            return None

    async def state(self, url: str) -> State:
        """Find out whether a daemon is there, and answers."""
        try:
            async with asyncio.timeout(_FAN_OUT_SECONDS):
                await self.fetch("GET", f"{url}/healthz")
        except DaemonGoneError as gone:
            return State.GONE if gone.refused else State.SILENT
        except TimeoutError:
            return State.SILENT
        return State.ANSWERS


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
        self._leaving: asyncio.Task[None] | None = None
        if was_read:
            self._is_complete.set()

    async def begin(self) -> bytes | AsyncIterator[bytes]:
        """Return the body, if it has come already, or its pieces.

        Raises:
            ClientLeftError: the client has gone.
        """
        piece, has_more = await self._next()
        return self._pieces(piece) if has_more else piece

    @property
    def is_complete(self) -> bool:
        """True if all of it has come."""
        return self._is_complete.is_set()

    async def while_there(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work until it ends or the client goes; then cancel it.

        Raises:
            ClientLeftError: the client has gone.
        """
        working = asyncio.ensure_future(work)
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._left())
        try:
            await asyncio.wait({working, self._leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientLeftError
            return working.result()
        finally:
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
                if not working.cancelled():
                    working.exception()  # nobody is there to hear of it

    def end(self) -> None:
        """Listen to the client no more."""
        if self._leaving is not None:
            self._leaving.cancel()

    async def _left(self) -> None:
        """Wait until the client goes; that is heard only once its body is complete."""
        await self._is_complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

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
            raise ClientLeftError
        has_more = message.get("more_body", False)
        if not has_more:
            self._is_complete.set()
        return message.get("body", b""), has_more


class Piped(Response):
    """An answer that comes from a daemon, as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse, body: Body) -> None:
        """Take over an answer that has begun."""
        self.status = answer.status
        self.body = b""
        self.headers = returned(answer.raw_headers)
        self._answer = answer
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; if the daemon breaks it off, it stays without an end."""
        if self._answer.content_type == "text/event-stream":
            scope[LIVE] = True
        try:
            await self._body.while_there(self._send(send))
        except (aiohttp.ClientError, ClientLeftError):
            return  # without an end, which breaks off the client's connection
        finally:
            self._answer.close()
            self._body.end()

    async def _send(self, send: Send) -> None:
        await send(self.start)
        async for piece in self._answer.content.iter_any():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        self._answer.release()
        await send({"type": "http.response.body", "body": b""})


def passed_on(done: Answered) -> Response:
    """Return an answer that was read whole, for the client."""
    response = Response(done.body, done.status)
    response.headers += [row for row in returned(done.headers) if row[0] != b"content-length"]
    return response


async def pipe(
    daemons: Daemons,
    method: str,
    url: str,
    *,
    headers: dict[str, str],
    content: bytes | AsyncIterator[bytes],
    body: Body,
) -> Response:
    """Send a request to a daemon, and return its answer, as soon as that begins.

    Args:
        daemons: the connections.
        method: the request's.
        url: what is asked, of which daemon.
        headers: those that go along.
        content: the request's body, or its pieces.
        body: which says when the client goes.

    Raises:
        DaemonGoneError: the daemon is gone.
        ClientLeftError: the client is.
    """
    if isinstance(content, bytes):
        headers.pop("content-length", None)  # it is counted anew
    is_piped = False
    try:
        found = await body.while_there(daemons.begin(method, url, headers, content or None))
        is_piped = isinstance(found, aiohttp.ClientResponse)
        return Piped(found, body) if isinstance(found, aiohttp.ClientResponse) else passed_on(found)
    finally:
        if not is_piped:
            body.end()
