"""Requests and answers, as handlers have them: no more than these need, since each call pays for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Headers = Mapping[str, str]
"""The headers of a request by their names in lower case; the values of one that came twice are joined."""


class ClientLeftError(Exception):
    """The client closed its connection before it had sent all of its request."""


def headers_of(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return a request's headers; no check takes the join of two values for one of them."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


class Request:
    """A request.

    Attributes:
        scope: what ASGI says of it.
        receive: gives the next part of its body, or says that the client has left.
        headers: its headers.
        path_params: the parts of its path that its route has names for.
        route: the template of its path; "" if there is none.
        digest: a digest of its body, once that was read as JSON.
    """

    __slots__ = ("digest", "headers", "path_params", "receive", "route", "scope")

    def __init__(self, scope: Scope, receive: Receive, path_params: Mapping[str, str] | None = None) -> None:
        """Read nothing of the body yet."""
        self.scope = scope
        self.receive = receive
        self.headers = headers_of(scope["headers"])
        self.path_params = path_params or {}
        self.route = ""
        self.digest = b""

    @property
    def query(self) -> bytes:
        """The query, as it came."""
        query: bytes = self.scope["query_string"]
        return query


class Response:
    """An answer whose body is here.

    Attributes:
        status: the status.
        body: the body.
        headers: as ASGI has them.
    """

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        """Prepare an answer, with its length unless the headers have one."""
        self.status = status
        self.body = body
        self.headers = _encoded(headers or {})
        if media_type is not None:
            self.headers.append((b"content-type", media_type.encode()))
        if headers is None or "Content-Length" not in headers:
            self.headers.append((b"content-length", b"%d" % len(body)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send(self.start)
        await send({"type": "http.response.body", "body": self.body})

    @property
    def start(self) -> Message:
        """The message that begins it."""
        return {"type": "http.response.start", "status": self.status, "headers": self.headers}


class StreamedResponse(Response):
    """An answer whose body is sent as it comes to be; its length is known only where the headers have it."""

    def __init__(self, status: int, headers: Mapping[str, str], media_type: str) -> None:
        """Prepare an answer; `__call__` is for those that have a body."""
        self.status = status
        self.body = b""
        self.headers = [*_encoded(headers), (b"content-type", media_type.encode())]


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
