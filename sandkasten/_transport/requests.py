"""Requests become bytes: heads, the framing of bodies, and how long anything may take; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import httpx
from attrs import define

# What is written in one go with the head; more is cut, so that an answer is noticed meanwhile.
PIECE_BYTES = 256 * 1024

# A line break in a value would be another header, or another request.
_HEAD = re.compile(
    rb"[A-Z]+ [!-~]+ HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~\x80-\xff]*\r\n)+", re.ASCII
)


@define(eq=False, repr=False)
class Outgoing:
    """The bytes of one request.

    Attributes:
        head: the request line and the headers.
        body: what follows, if it is in memory; None: it comes piece by piece from the request's stream.
        size_bytes: how long a body that comes in pieces is; None: that is not known, and it goes in chunks.
    """

    head: bytes
    body: bytes | None
    size_bytes: int | None = None
    _sent_bytes: int = 0

    def framed(self, piece: bytes) -> Iterator[bytes | memoryview]:
        """Yield what is to be written for a piece of the body.

        Raises:
            httpx.LocalProtocolError: the body gets longer than the head says.
        """
        if not piece:
            return
        self._sent_bytes += len(piece)
        if self.size_bytes is None:
            yield b"%x\r\n" % len(piece)
        elif self._sent_bytes > self.size_bytes:
            raise httpx.LocalProtocolError("Too much data for declared Content-Length")
        view = memoryview(piece)
        for start in range(0, len(view), PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]
        if self.size_bytes is None:
            yield b"\r\n"

    def end(self) -> bytes:
        """Return what is to be written after the last piece.

        Raises:
            httpx.LocalProtocolError: the body is shorter than the head says.
        """
        if self.size_bytes is None:
            return b"0\r\n\r\n"
        if self._sent_bytes < self.size_bytes:
            raise httpx.LocalProtocolError("Too little data for declared Content-Length")
        return b""


def outgoing(request: httpx.Request) -> Outgoing:
    """Return the bytes of a request.

    Raises:
        httpx.LocalProtocolError: it cannot be sent as it is.
    """
    headers = request.headers.raw
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b\r\n" % header for header in headers]
    head = b"".join(lines)
    if head.count(b"\n") != len(lines) or not _HEAD.fullmatch(head):
        raise httpx.LocalProtocolError("a header or the path cannot be sent")
    head += b"\r\n"
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    is_chunked = any(name.lower() == b"transfer-encoding" for name, _ in headers)
    if len(lengths) + is_chunked > 1:
        raise httpx.LocalProtocolError("the length of the body is ambiguous")
    if isinstance(request.stream, httpx.ByteStream):
        body = b"".join(request.stream)
        if is_chunked or int(lengths[0] if lengths else 0) != len(body):
            raise httpx.LocalProtocolError("the body is not as long as the head says")
        return Outgoing(head, body)
    if not lengths and not is_chunked:
        return Outgoing(head, b"")
    return Outgoing(head, None, int(lengths[0]) if lengths else None)


@define(eq=False, repr=False)
class Patience:
    """The time that each part of a request may take, in seconds; None is for ever.

    Attributes:
        connect: to connect.
        write: until something more was taken.
        read: until something more comes.
        total: the whole time.
        ends_at: the moment at which that is over.
    """

    connect: float | None
    write: float | None
    read: float | None
    total: float | None
    ends_at: float | None

    def moment(self, now: float, seconds: float | None) -> float | None:
        """Return the moment until which something is waited for, if it may take so many seconds."""
        if seconds is None:
            return self.ends_at
        return now + seconds if self.ends_at is None else min(now + seconds, self.ends_at)

    def is_over(self, now: float) -> bool:
        """Return whether the whole time is over."""
        return self.ends_at is not None and now >= self.ends_at

    def too_late(self, now: float, *, writing: bool = False) -> httpx.TimeoutException:
        """Return the error for a moment that has come."""
        if self.is_over(now):
            return httpx.ReadTimeout(f"no whole answer within {self.total:g} s")
        if writing:
            return httpx.WriteTimeout(f"nothing was taken for {self.write:g} s")
        return httpx.ReadTimeout(f"nothing came for {self.read:g} s")

    def restart(self, now: float, total: float | None) -> None:
        """Let what is left take so many seconds."""
        self.total, self.ends_at = total, None if total is None else now + total


def patience_of(request: httpx.Request, now: float) -> Patience:
    """Return the patience that a request asks for: the timeouts of httpx, and `total` beside them."""
    asked = cast("dict[str, float | None]", request.extensions.get("timeout", {}))
    total = asked.get("total")
    return Patience(
        asked.get("connect"),
        asked.get("write"),
        asked.get("read"),
        total,
        None if total is None else now + total,
    )
