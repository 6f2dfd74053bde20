"""A file that is read by the extension `files`, over connections that may break; without any waiting."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import define

from sandkasten._protocol import FILE_MODE_HEADER
from sandkasten.errors import (
    LocalDaemonError,
    SandkastenConnectionError,
    SandkastenResponseError,
    SandkastenTimeoutError,
)


@define(eq=False, repr=False)
class Fetch:
    """A file that is read from some place on, and again from where a connection broke.

    Attributes:
        max_bytes: how much of it is wanted; None: all.
        start: the place in the file where that begins.
        offset: how much came.
        size_bytes: how large the file is, once that is known.
        mode: its permission bits.
        etag: the mark of the file's version, by which a change is noticed.
    """

    max_bytes: int | None = None
    start: int = 0
    offset: int = 0
    size_bytes: int | None = None
    mode: int = 0o644
    etag: str = ""

    @property
    def wanted_bytes(self) -> int | None:
        """The number of bytes that there will be, once that is known."""
        if self.size_bytes is None:
            return None
        left_bytes = max(0, self.size_bytes - self.start)
        return left_bytes if self.max_bytes is None else min(left_bytes, self.max_bytes)

    @property
    def is_cut(self) -> bool:
        """True if the file has more behind what was wanted."""
        return self.start + self.offset < (self.size_bytes or 0)

    def end(self) -> None:
        """Learn that the file ends before `start`."""
        self.offset, self.size_bytes = 0, self.start

    @property
    def is_complete(self) -> bool:
        """True if all that is wanted came."""
        return self.wanted_bytes is not None and self.offset >= self.wanted_bytes

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest."""
        first = self.start + self.offset
        if not first and self.max_bytes is None:
            return {}
        last = "" if self.max_bytes is None else self.start + self.max_bytes - 1
        again = {"If-Range": self.etag} if self.offset else {}
        return {"Range": f"bytes={first}-{last}", **again}

    def begin(self, status_code: int, headers: Mapping[str, str]) -> bool:
        """Read the head of an answer; return whether what is wanted comes from its beginning.

        Raises:
            SandkastenResponseError: it is not the answer to `headers`.
        """
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("content-range", ""), re.ASCII)
        size = found[2] if found else headers.get("content-length", "")
        start = int(found[1]) if found else 0
        if (
            start not in {0, self.start + self.offset}
            or not (size.isascii() and size.isdigit())
            or status_code > 206
        ):
            raise SandkastenResponseError("The daemon's answer does not say which part of the file it is.")
        is_first = start == self.start if found else not self.start
        if start and not is_first and int(size) != self.size_bytes:
            raise SandkastenResponseError("The daemon goes on with another file than the one it began.")
        if not is_first and not found:  # it was changed, and comes whole now: it must be asked for once more
            self.offset, self.size_bytes = 0, None if int(size) else 0
            return True
        self.offset, self.size_bytes = start - self.start, int(size)
        self.etag = headers.get("etag", "")
        mode = headers.get(FILE_MODE_HEADER.lower(), "")
        self.mode = int(mode, 8) & 0o777 if re.fullmatch("[0-7]{1,4}", mode) else 0o644
        return is_first

    def take(self, count: int) -> None:
        """Count the bytes that came.

        Raises:
            SandkastenResponseError: it is more than was said.
        """
        self.offset += count
        if self.offset > (self.wanted_bytes or 0):
            raise SandkastenResponseError("The daemon sent more of the file than it said.")


@define(eq=False, repr=False)
class Tries:
    """The number of times that a transfer may go on after a broken connection without getting further."""

    max_retries: int
    failed: int = 0
    reached: int = 0

    def allow(self, error: SandkastenConnectionError, reached: int = 0) -> bool:
        """Count a failure, and decide."""
        if reached > self.reached:
            self.reached, self.failed = reached, 0
        self.failed += 1
        is_final = isinstance(error, SandkastenTimeoutError | LocalDaemonError)
        return self.failed <= self.max_retries and not is_final
