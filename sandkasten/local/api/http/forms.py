"""Forms whose parts are read as they arrive, one after another, and never held as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sandkasten.local.errors import invalid_request
from sandkasten.local.records import dataclass

# A part's own headers, and what stands before the first.
_HEAD_BYTES = 16 * 1024

_Event = tuple[str, bytes]


@dataclass(frozen=True)
class Part:
    """The head of a part: its name, and the name of the file that it brings, or None if it is a field."""

    name: str
    filename: str | None


class Form:
    """The parts of a form, in their order."""

    def __init__(self, media_type: str, body: AsyncGenerator[bytes, None]) -> None:
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
        self._body = body
        self._events: deque[_Event] = deque()
        self._head_bytes = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_head,
                "on_part_data": lambda data, start, end: self._events.append(("data", data[start:end])),
                "on_part_end": lambda: self._events.append(("part_end", b"")),
                "on_header_field": lambda data, start, end: self._add_head("name", data[start:end]),
                "on_header_value": lambda data, start, end: self._add_head("value", data[start:end]),
                "on_header_end": lambda: self._events.append(("header_end", b"")),
                "on_headers_finished": lambda: self._events.append(("headers", b"")),
                "on_end": lambda: self._events.append(("end", b"")),
            },
        )

    async def next_part(self) -> Part | None:
        """Return the head of the next part, whose content comes next; None after the last.

        Raises:
            ApiError: INVALID_REQUEST, the form is broken, or a part has no name.
            ClientLeftError: the body ended before its end.
        """
        head: list[_Event] = []
        while not head or head[-1][0] != "headers":
            head.append(await self._next())
            if head[-1][0] == "end":
                return None
        return _part_of(head)

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the content of the part whose head was read last.

        Raises:
            ApiError: INVALID_REQUEST, the form is broken.
            ClientLeftError: the body ended before its end.
        """
        while True:
            kind, data = await self._next()
            if kind == "part_end":
                return
            yield data

    async def field(self, name: str, max_bytes: int) -> bytearray:
        """Return the content of the part whose head was read last.

        Raises:
            ApiError: INVALID_REQUEST, it is too large, or the form is broken.
            ClientLeftError: the body ended before its end.
        """
        data = bytearray()
        async for piece in self.content():
            data += piece
            if len(data) > max_bytes:
                raise invalid_request(f"The part {name!r} is larger than {max_bytes} bytes. Send less.")
        return data

    async def drop_rest(self) -> None:
        """Read the body to its end.

        Raises:
            ClientLeftError: it ended before its end.
        """
        async for _piece in self._body:
            pass

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

    def _begin_head(self) -> None:
        self._head_bytes = 0

    def _add_head(self, kind: str, data: bytes) -> None:
        self._head_bytes += len(data) + 1
        if self._head_bytes > _HEAD_BYTES:
            raise invalid_request(
                f"A part of the form has a head of more than {_HEAD_BYTES} bytes. Send shorter headers."
            )
        self._events.append((kind, data))


def _part_of(head: list[_Event]) -> Part:
    """Read a part's headers.

    Raises:
        ApiError: INVALID_REQUEST, the part has no name.
    """
    field = value = b""
    for kind, data in head:
        if kind == "name":
            field += data
        elif kind == "value":
            value += data
        elif kind == "header_end":
            if field.lower() == b"content-disposition":
                return _named(value)
            field = value = b""
    return _named(b"")


def _named(disposition: bytes) -> Part:
    _kind, options = parse_options_header(disposition)
    name, filename = options.get(b"name"), options.get(b"filename")
    if name is None:
        raise invalid_request("A part of the form has no name. Name each in its header Content-Disposition.")
    return Part(_text(name), None if filename is None else _text(filename))


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
