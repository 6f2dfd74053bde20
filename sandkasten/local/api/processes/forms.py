"""Forms whose last part is read as it arrives, and never held as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from sandkasten.local.api.bodystream import body_of
from sandkasten.local.errors import ApiError, invalid_request

# A part's own headers, and what stands before the first.
_HEAD_BYTES = 16 * 1024

_Event = tuple[str, bytes]


class Form:
    """A form of two parts: a field, and a file."""

    def __init__(self, request: Request, media_type: str) -> None:
        """Read nothing yet.

        Raises:
            ApiError: INVALID_REQUEST, there is no boundary.
        """
        _name, options = parse_options_header(media_type)
        boundary = options.get(b"boundary", b"")
        if not 1 <= len(boundary) <= 70:
            raise invalid_request(
                "The form has no boundary, or a long one. Send the header Content-Type whole."
            )
        self._body: AsyncGenerator[bytes, None] = body_of(request)
        self._events: deque[_Event] = deque()
        self._head_bytes = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": lambda: self._events.append(("part", b"")),
                "on_part_data": lambda data, start, end: self._events.append(("data", data[start:end])),
                "on_part_end": lambda: self._events.append(("part_end", b"")),
                "on_header_field": lambda data, start, end: self._add_head("name", data[start:end]),
                "on_header_value": lambda data, start, end: self._add_head("value", data[start:end]),
                "on_header_end": lambda: self._events.append(("header_end", b"")),
                "on_headers_finished": lambda: self._events.append(("headers", b"")),
                "on_end": lambda: self._events.append(("end", b"")),
            },
        )

    async def field(self, name: str, max_bytes: int) -> bytearray:
        """Return the content of the next part.

        Raises:
            ApiError: INVALID_REQUEST, it has another name or is too large.
            ClientDisconnect: the body ended before its end.
        """
        await self._begin(name)
        data = bytearray()
        async for piece in self._content():
            data += piece
            if len(data) > max_bytes:
                raise invalid_request(f"The part {name!r} is larger than {max_bytes} bytes. Send less.")
        return data

    async def begin_file(self, name: str) -> None:
        """Read the head of the next part; `file` then yields its content.

        Raises:
            ApiError: INVALID_REQUEST, it has another name.
            ClientDisconnect: the body ended before its end.
        """
        await self._begin(name)

    async def file(self) -> AsyncIterator[bytes]:
        """Yield the content of the part that was begun, and read what follows it.

        Raises:
            ApiError: INVALID_REQUEST, the form is broken.
            ClientDisconnect: the body ended before its end.
        """
        async for piece in self._content():
            yield piece
        async for _piece in self._body:
            pass

    async def _begin(self, name: str) -> None:
        head: list[_Event] = []
        while not head or head[-1][0] not in {"headers", "end"}:
            head.append(await self._next())
        found = _name_of(head)
        if found != name:
            raise invalid_request(
                f"The form needs the parts 'request' and 'input', in this order: {name!r} is missing."
            )

    async def _content(self) -> AsyncIterator[bytes]:
        while True:
            kind, data = await self._next()
            if kind == "part_end":
                return
            yield data

    async def _next(self) -> _Event:
        while not self._events:
            piece = await anext(self._body, None)
            if piece is None:
                raise invalid_request("The form ends in the middle. Send all of it.")
            try:
                self._parser.write(piece)
            except FormParserError:
                raise invalid_request("The form cannot be read.") from None
        return self._events.popleft()

    def _add_head(self, kind: str, data: bytes) -> None:
        self._head_bytes += len(data) + 1
        if self._head_bytes > _HEAD_BYTES:
            raise ApiError(
                431, "INVALID_REQUEST", f"The form's parts have heads of more than {_HEAD_BYTES} bytes."
            )
        self._events.append((kind, data))


def _name_of(head: list[_Event]) -> str | None:
    """Return the name in a part's headers."""
    field = value = b""
    for kind, data in head:
        if kind == "name":
            field += data
        elif kind == "value":
            value += data
        elif kind == "header_end":
            if field.lower() == b"content-disposition":
                _kind, options = parse_options_header(value)
                return options.get(b"name", b"").decode("utf-8", "replace")
            field = value = b""
    return None
