"""The transport of the extra `fast`: aiohttp below httpx, several times as fast with many calls at once.

httpx-aiohttp does the work. Here its errors are told apart as the retries need it: whether a
connection was never made, or was lost with a request in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

import aiohttp
import httpx
import httpx_aiohttp

from sandkasten._limits import POOL_LIMITS

_WHOLE_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024


class AiohttpTransport(httpx_aiohttp.AiohttpTransport):
    """Carries the requests to one daemon."""

    def __init__(self, socket_path: str | None, *, uses_tls: bool) -> None:
        """Connect to a Unix socket, or to where each request's URL says."""
        super().__init__(
            verify=uses_tls, limits=POOL_LIMITS, client=lambda: _open_client(self.ssl_context, socket_path)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's body is read later."""
        with _told_apart():
            response = await super().handle_async_request(_in_pieces(request))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Body(response.stream)
        return response


def _in_pieces(request: httpx.Request) -> httpx.Request:
    """Return a request that aiohttp sends without holding up the event loop, of which it would warn."""
    try:
        content = request.content
    except httpx.RequestNotRead:  # it comes in pieces already
        return request
    if len(content) <= _WHOLE_BYTES:
        return request
    stream, extensions = _Pieces(content), request.extensions
    return httpx.Request(
        request.method, request.url, headers=request.headers, stream=stream, extensions=extensions
    )


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), _PIECE_BYTES):
            yield self._content[start : start + _PIECE_BYTES]


class _Body(httpx.AsyncByteStream):
    def __init__(self, body: httpx.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _told_apart():
            async for part in self._body:
                yield part

    async def aclose(self) -> None:
        with _told_apart():
            await self._body.aclose()


def _open_client(ssl_context: object, socket_path: str | None) -> aiohttp.ClientSession:
    # No limit, and for how long idle ones are kept: as in httpx's own transport, see `_limits`.
    kept_seconds = POOL_LIMITS.keepalive_expiry
    connector: aiohttp.BaseConnector
    if socket_path:
        connector = aiohttp.UnixConnector(socket_path, limit=0, keepalive_timeout=kept_seconds)
    else:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=kept_seconds, ssl=ssl_context)  # type: ignore[arg-type]
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    # It would repeat by itself what `_retry` decides about; there is no public switch.
    session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
    return session


@contextmanager
def _told_apart() -> Generator[None, None, None]:
    try:
        yield
    except httpx.ConnectTimeout as error:
        # It takes everything that can happen to a connection for one that was not made in time.
        cause = error.__cause__
        if isinstance(cause, TimeoutError | None):
            raise
        if isinstance(
            cause, aiohttp.ClientConnectorError
        ):  # whose own text speaks of TLS where there is none
            raise httpx.ConnectError(str(cause.os_error)) from error
        raise httpx.ReadError(str(cause) or "the connection was lost") from error
    except aiohttp.ClientError as error:  # what it does not translate, such as an answer that is not HTTP
        raise httpx.RemoteProtocolError(str(error)) from error
