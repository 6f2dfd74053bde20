"""The progress of a transfer, as a line below the cell that is written over."""

from __future__ import annotations

import time
from collections.abc import Callable

from sandkasten.notebook.text import one_line, size

# What is smaller is there before anybody has read a line about it.
_WORTH_TELLING_BYTES = 4_000_000
_PAUSE_SECONDS = 0.1


class ProgressLine:
    """Called with the bytes that were moved, and with all of them where that is known."""

    def __init__(
        self, name: str, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without a line."""
        self._name = one_line(name, 60)
        self._write = write
        self._clock = clock
        self._next = 0.0
        self._width = 0

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None:
        """Write how far a transfer is, now and then."""
        now = self._clock()
        if max(done_bytes, total_bytes or 0) < _WORTH_TELLING_BYTES or now < self._next:
            return
        self._next = now + _PAUSE_SECONDS
        if total_bytes:
            done = f"{size(done_bytes)} of {size(total_bytes)} ({100 * done_bytes // total_bytes}%)"
        else:
            done = size(done_bytes)
        line = f"{self._name}: {done}"
        self._write("\r" + line.ljust(self._width))
        self._width = len(line)

    def end(self) -> None:
        """Remove the line."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0
