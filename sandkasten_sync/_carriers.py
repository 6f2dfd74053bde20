# Made from sandkasten/_carriers.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""The ways in which requests reach a daemon: our own transport, or an HTTP client of httpx.

httpx's client reaches what needs TLS or a proxy; and it is what a caller hands over, with hooks and all.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx

from sandkasten._transport.building import Builder
from sandkasten._wire import Call

from ._seam import (
    HTTPClient,
    body_of,
    carry,
    close_client,
    close_transport,
    deadline,
    limit_body,
    read_body,
)

if TYPE_CHECKING:
    from ._seam import OwnTransport


class ByHTTPX:
    """Sends requests by an HTTP client of httpx."""

    def __init__(self, client: HTTPClient, *, is_own: bool) -> None:
        """Send by a client, which is closed at the end if it is our own."""
        self._client = client
        self._is_own = is_own

    def request(
        self, call: Call[Any], url: str, headers: dict[str, str], silence_seconds: float
    ) -> httpx.Request:
        """Return the request of a call; `silence_seconds` is how long the daemon may stay silent."""
        return self._client.build_request(
            call.method,
            url,
            json=call.json,
            content=body_of(call.content),
            data=call.data,
            files=_files_of(call),
            headers=headers,
            timeout=httpx.Timeout(silence_seconds, read=silence_seconds + call.wait_ms / 1000),
        )

    def send(self, request: httpx.Request, total_seconds: float | None, *, stream: bool) -> httpx.Response:
        """Send a request, and read its answer unless that is a stream; the total is the limit for this.

        Raises:
            httpx.RequestError: there is no answer, by its class.
        """
        with deadline(request, total_seconds):
            return self._client.send(request, stream=stream)

    def read(self, response: httpx.Response, total_seconds: float) -> None:
        """Read the rest of an answer.

        Raises:
            httpx.RequestError: it does not come, by its class.
        """
        with deadline(response.request, total_seconds):
            read_body(response)

    def close(self) -> None:
        """Close all connections."""
        if self._is_own:
            close_client(self._client)


class Direct:
    """Sends requests by a transport of our own, without what a client of httpx does for each of them."""

    def __init__(self, transport: OwnTransport, base_url: str) -> None:
        """Send to the daemon of this address."""
        self._transport = transport
        self._builder = Builder(base_url)
        self._cookies: httpx.Cookies | None = None  # of what stands in front of several daemons

    def request(
        self, call: Call[Any], url: str, headers: dict[str, str], silence_seconds: float
    ) -> httpx.Request:
        """Return the request of a call; `silence_seconds` is how long the daemon may stay silent."""
        read_seconds = silence_seconds + call.wait_ms / 1000
        timeouts = {"connect": silence_seconds, "write": silence_seconds, "read": read_seconds}
        if call.content is None and call.data is None and not call.files:
            return self._builder.small(call.method, url, call.json, headers, timeouts)
        return self._builder.large(
            call.method,
            url,
            headers,
            timeouts,
            content=body_of(call.content),
            data=call.data,
            files=_files_of(call),
        )

    def send(self, request: httpx.Request, total_seconds: float | None, *, stream: bool) -> httpx.Response:
        """Send a request, and read its answer unless that is a stream; the total is the limit for this.

        Raises:
            httpx.RequestError: there is no answer, by its class.
        """
        request.extensions["timeout"]["total"] = total_seconds
        if self._cookies is not None:
            self._cookies.set_cookie_header(request)
        started = time.perf_counter()
        try:
            response = carry(self._transport, request)
        except httpx.RequestError as error:
            error.request = request
            raise
        response.elapsed = timedelta(seconds=time.perf_counter() - started)
        if "set-cookie" in response.headers:
            self._cookies = self._cookies or httpx.Cookies()
            self._cookies.extract_cookies(response)
        if isinstance(response.stream, httpx.ByteStream):
            response.read()  # all of it came with the head
        elif stream:
            limit_body(response, None)
        else:
            read_body(response)
        return response

    def read(self, response: httpx.Response, total_seconds: float) -> None:
        """Read the rest of an answer.

        Raises:
            httpx.RequestError: it does not come, by its class.
        """
        if not response.is_closed:
            limit_body(response, total_seconds)
            read_body(response)

    def close(self) -> None:
        """Close all connections."""
        close_transport(self._transport)


def _files_of(call: Call[Any]) -> list[tuple[str, tuple[str, bytes]]] | None:
    return [("file", file) for file in call.files] or None
