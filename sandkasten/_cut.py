"""Output that is too long: its head and its tail are kept, and a line says what is missing between them.

The end matters most (an error stands there), then the beginning. Client and daemon share this module; pure.
"""

from __future__ import annotations

import re

# Cuts move to ends of lines that are as near as this, lest half a number is taken for a whole one.
_NEAR_BYTES = 4096
# More than a mark takes, with the line ends around it.
_MARK_BYTES = 64
_MARK = re.compile(r"^\[\.\.\. ([\d,]{1,32}) bytes left out \.\.\.\]$", re.MULTILINE)


def mark(left_out_bytes: int) -> str:
    """Return the line that stands where output was left out."""
    return f"[... {left_out_bytes:,} bytes left out ...]\n"


def find_mark(text: str) -> tuple[re.Match[str], int] | None:
    """Return the mark in a text that is known to be cut, and how many bytes it says are missing.

    A program may print such a line as well, so the one nearest to the middle is taken.
    """
    found = min(_MARK.finditer(text), key=lambda match: abs(2 * match.start() - len(text)), default=None)
    return None if found is None else (found, int(found[1].replace(",", "") or "0"))


class CappedBytes:
    """Bytes that are collected up to a number of them: of more of them the head and the tail."""

    def __init__(self, limit_bytes: int) -> None:
        """Start empty; `limit_bytes` includes the mark, unless that is most of it."""
        room_bytes = max(limit_bytes - _MARK_BYTES, limit_bytes // 2)
        self._tail_bytes = room_bytes // 2
        self._head_bytes = room_bytes - self._tail_bytes
        self._spare_bytes = limit_bytes - self._head_bytes  # what may follow the head if nothing is cut
        self._head: bytearray = bytearray()
        self._tail: bytearray = bytearray()
        self._total_bytes = 0

    @property
    def truncated(self) -> bool:
        """True if there was more than is kept."""
        return self._total_bytes > self._head_bytes + self._spare_bytes

    @property
    def size_bytes(self) -> int:
        """The memory in use, in bytes."""
        return len(self._head) + len(self._tail)

    def add(self, data: bytes) -> bytes:
        """Take the next piece; return the part of it that belongs to the head, however much follows."""
        part = b""
        if self._total_bytes == len(self._head):  # nothing follows the head yet
            part = _until_character_ends(data, self._head_bytes - len(self._head))
            self._head += part
        self._tail += data[len(part) :]
        self._total_bytes += len(data)
        if len(self._tail) > 2 * self._spare_bytes:  # not each time, since the rest is moved
            del self._tail[: -self._spare_bytes or None]
        return part

    def rest(self) -> bytes:
        """Return what follows the head: the mark, if anything is left out, and the tail."""
        return self._after(len(self._head))

    def content(self) -> bytes:
        """Return all that is kept, with the mark."""
        head = self._head[: _line_end(self._head)] if self.truncated else self._head
        return bytes(head) + self._after(len(head))

    def _after(self, head_bytes: int) -> bytes:
        if not self.truncated:
            return bytes(self._tail)
        tail = bytes(self._tail[len(self._tail) - self._tail_bytes :])
        tail = tail[_line_start(tail) :]
        line_end = b"" if self._head[:head_bytes].endswith(b"\n") or not head_bytes else b"\n"
        return line_end + mark(self._total_bytes - head_bytes - len(tail)).encode() + tail


class CappedText:
    """The same for text; the limit is that of its UTF-8."""

    def __init__(self, limit_bytes: int) -> None:
        """Start empty."""
        self._kept = CappedBytes(limit_bytes)

    @property
    def truncated(self) -> bool:
        """True if there was more than is kept."""
        return self._kept.truncated

    @property
    def size_bytes(self) -> int:
        """The memory in use, in bytes."""
        return self._kept.size_bytes

    def add(self, text: str) -> str:
        """Take the next piece; return the part of it that belongs to the head, however much follows."""
        return _text(self._kept.add(text.encode("utf-8", "surrogatepass")))

    def rest(self) -> str:
        """Return what follows the head: the mark, if anything is left out, and the tail."""
        return _text(self._kept.rest())

    def text(self) -> str:
        """Return all that is kept, with the mark."""
        return _text(self._kept.content())


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _until_character_ends(data: bytes, size_bytes: int) -> bytes:
    if len(data) <= size_bytes:
        return data
    while size_bytes and data[size_bytes] & 0xC0 == 0x80:
        size_bytes -= 1
    return data[:size_bytes]


def _line_end(head: bytearray) -> int:
    return head.rfind(b"\n", max(0, len(head) - _NEAR_BYTES)) + 1 or len(head)


def _line_start(tail: bytes) -> int:
    start = tail.find(b"\n", 0, _NEAR_BYTES) + 1
    if 0 < start < len(tail):
        return start
    return next((index for index, byte in enumerate(tail[:4]) if byte & 0xC0 != 0x80), len(tail))
