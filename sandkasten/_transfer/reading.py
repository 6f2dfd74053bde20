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
    """A file that is read from its beginning, and on from where a connection broke.

    Attributes:
        max_bytes: how much of it is wanted; None: all.
        offset: how much came.
        size_bytes: how large the file is, once that is known.
        mode: its permission bits.
        etag: the mark of the file's version, by which a change is noticed.
    """

    max_bytes: int | None = None
    offset: int = 0
    size_bytes: int | None = None
    mode: int = 0o644
    etag: str = ""

    @property
    def wanted_bytes(self) -> int | None:
        """How much there will be, once that is known."""
        if self.size_bytes is None or self.max_bytes is None:
            return self.size_bytes
        return min(self.size_bytes, self.max_bytes)

    @property
    def is_complete(self) -> bool:
        """True if all that is wanted came."""
        return self.wanted_bytes is not None and self.offset >= self.wanted_bytes

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest."""
        if not self.offset and self.max_bytes is None:
            return {}
        last = "" if self.max_bytes is None else self.max_bytes - 1
        again = {"If-Range": self.etag} if self.offset else {}
        return {"Range": f"bytes={self.offset}-{last}", **again}

    def begin(self, status_code: int, headers: Mapping[str, str]) -> bool:
        """Read the head of an answer; whether the file comes from its beginning.

        Raises:
            SandkastenResponseError: it is not the answer to `headers`.
        """
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("content-range", ""), re.ASCII)
        size = found[2] if found else headers.get("content-length", "")
        start = int(found[1]) if found else 0
        if start not in {0, self.offset} or not (size.isascii() and size.isdigit()) or status_code > 206:
            raise SandkastenResponseError("The daemon's answer does not say which part of the file it is.")
        if start and int(size) != self.size_bytes:
            raise SandkastenResponseError("The daemon goes on with another file than the one it began.")
        self.offset, self.size_bytes = start, int(size)
        self.etag = headers.get("etag", "")
        mode = headers.get(FILE_MODE_HEADER.lower(), "")
        self.mode = int(mode, 8) & 0o777 if re.fullmatch("[0-7]{1,4}", mode) else 0o644
        return start == 0

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
    """How often a transfer may go on after its connection broke: so often without getting any further."""

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
