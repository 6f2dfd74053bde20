"""Bytes become an answer; pure. The parser is llhttp (by httptools), and what it leaves open is decided here.

An answer whose end could be understood in two ways is refused: whatever follows would be taken for the
answer to another request.
"""

from __future__ import annotations

import re

import httptools
import httpx

# How long a head may be, those before it (1xx) and trailers included; and what stands between chunks.
MAX_HEAD_BYTES = 64 * 1024
_NO_BODY = {204, 304}
_LENGTH = re.compile(rb"[0-9]{1,18}")


class Answer:
    """One answer, as far as it came.

    Attributes:
        status: its status, once the head is there.
        headers: its headers, once the head is there.
        reason: what stands behind the status.
        has_head: whether the head is there.
        is_complete: whether all of it is there.
        can_reuse: whether the connection may carry another request, once the answer is complete.
        has_begun: whether anything came.
        pending_bytes: how much of the body waits to be taken.
    """

    __slots__ = (
        "_between_bytes",
        "_came_bytes",
        "_head_bytes",
        "_is_interim",
        "_keeps_alive",
        "_parser",
        "_parts",
        "_problem",
        "_size_bytes",
        "_until_end",
        "can_reuse",
        "has_begun",
        "has_head",
        "headers",
        "is_complete",
        "pending_bytes",
        "reason",
        "status",
    )

    def __init__(self) -> None:
        """Wait for the first byte."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.reason = b""
        self.has_head = self.is_complete = self.can_reuse = self.has_begun = False
        self.pending_bytes = 0
        self._parts: list[bytes] = []
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._head_bytes = self._between_bytes = self._came_bytes = 0
        self._is_interim = self._keeps_alive = self._until_end = False
        self._size_bytes: int | None = None
        self._problem = ""

    def feed(self, data: bytes) -> None:
        """Read the next bytes.

        Raises:
            httpx.RemoteProtocolError: they belong to no answer, or to one that can be understood in two ways.
        """
        self.has_begun = True
        if self.is_complete:
            self.can_reuse = False  # nobody asked for more
        elif self._parser is None:
            self._take(data)
        else:
            self._parse(self._parser, data)

    def end(self) -> None:
        """Learn that the connection ended.

        Raises:
            httpx.RemoteProtocolError: the answer did not.
        """
        self.can_reuse = False
        if self._until_end and self.has_head:
            self._complete()
        if not self.has_begun:
            raise httpx.RemoteProtocolError("the connection was closed without an answer")
        if not self.is_complete:
            raise httpx.RemoteProtocolError("the connection was closed within the answer")

    def take(self) -> list[bytes]:
        """Return what came of the body since the last call."""
        parts, self._parts, self.pending_bytes = self._parts, [], 0
        return parts

    def skip(self, count: int) -> None:
        """Count bytes of the body that were read by somebody else, at most `left_bytes`."""
        self._came_bytes += count
        if self._came_bytes == self._size_bytes:
            self._complete()

    @property
    def left_bytes(self) -> int:
        """The number of bytes of the body that are still to come, where that is known; otherwise 0."""
        if self.is_complete or self._parser is not None or self._size_bytes is None:
            return 0
        return self._size_bytes - self._came_bytes

    def _take(self, data: bytes) -> None:
        """Take bytes of a body whose length is known, or whose end is that of the connection."""
        if self._size_bytes is not None:
            left_bytes = self._size_bytes - self._came_bytes
            if len(data) > left_bytes:
                self._keeps_alive = False
                data = data[:left_bytes]
        self.on_body(data)
        if self._came_bytes == self._size_bytes:
            self._complete()

    def _parse(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        was_pending, had_head = self.pending_bytes, self.has_head
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._parser = None
            if not self.is_complete:
                raise httpx.RemoteProtocolError(self._problem or f"that is not HTTP ({error})") from None
            self.can_reuse = False  # the answer is there, and what follows it is nobody's
        if self._problem:
            self._parser = None
            raise httpx.RemoteProtocolError(self._problem)
        if not had_head or self.pending_bytes == was_pending:
            self._between_bytes += len(data)
        if not self.has_head and self._between_bytes > MAX_HEAD_BYTES:
            raise httpx.RemoteProtocolError("the head of the answer is too long")
        if had_head:
            if self.pending_bytes > was_pending:
                self._between_bytes = 0
            elif self._between_bytes > 2 * MAX_HEAD_BYTES:
                raise httpx.RemoteProtocolError("what stands between two chunks is too long")
        if self.is_complete or self._until_end or self._size_bytes is not None:
            self._parser = None  # the rest is counted; and the two would keep each other in memory

    def _complete(self) -> None:
        self.is_complete = True
        self.can_reuse = self._keeps_alive

    # --- what the parser calls; it must not be left by an exception

    def on_message_begin(self) -> None:
        """Begin the answer, or what follows it and is nobody's."""
        if self.is_complete:
            self.can_reuse = False

    def on_status(self, status: bytes) -> None:
        """Note what stands behind the status."""
        if not self.is_complete:
            self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; trailers are only counted."""
        if self.is_complete:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES:
            self._problem = self._problem or "the head of the answer is too long"
        elif not self.has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Find out where the body ends."""
        parser = self._parser
        if self.is_complete or self._problem or parser is None:
            return
        self.status, version = parser.get_status_code(), parser.get_http_version()
        if self.status < 100 or version not in {"1.0", "1.1"}:
            self._problem = "the answer has a status or a version that HTTP/1.1 does not have"
        elif self.status == 101:
            self._problem = "the daemon changed the protocol, which nobody asked for"
        if self._problem or self.status < 200:
            self._is_interim = True
            return
        self._keeps_alive = parser.should_keep_alive() and version == "1.1"
        self._frame()
        self.has_head = not self._problem

    def _frame(self) -> None:
        lengths = [value for name, value in self.headers if name.lower() == b"content-length"]
        codings = [value for name, value in self.headers if name.lower() == b"transfer-encoding"]
        if (lengths and codings) or len(lengths) > 1 or len(codings) > 1:
            self._problem = "the length of the answer is ambiguous"
        elif codings and codings[0].lower() != b"chunked":
            self._problem = "the answer is encoded in a way that nobody asked for"
        elif lengths and not _LENGTH.fullmatch(lengths[0]):
            self._problem = "the length of the answer is not a number"
        elif self.status in _NO_BODY:
            self._size_bytes = 0
        elif lengths:
            self._size_bytes = int(lengths[0])
        else:
            self._until_end = not codings

    def on_body(self, data: bytes) -> None:
        """Keep bytes of the body."""
        if self.is_complete or not self.has_head:
            return
        self._parts.append(data)
        self._came_bytes += len(data)
        self.pending_bytes += len(data)

    def on_message_complete(self) -> None:
        """End the answer, or one of those (1xx) that come before it."""
        if self._is_interim:
            self._is_interim = False
            self.headers.clear()
            self.reason = b""
        elif self.has_head and not self.is_complete:
            if self._size_bytes in {None, self._came_bytes}:
                self._complete()
            else:
                self._problem = "the length of the answer is ambiguous"
