"""The output of programs on a session's terminal, read as it comes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress

_READ_BYTES = 64 * 1024
# Output of which there is always more is read in small pieces and with rests while other sessions are used.
SHARED_READ_BYTES = 16 * 1024
REST_SECONDS = 0.001
# Sessions that are used less often than this do not notice when somebody else's output is read.
_LATELY_SECONDS = 1.0
# What the kernel buffers for a terminal is less; more than this after a command's end is somebody else's.
_DRAIN_MAX_BYTES = 1024 * 1024


class Turns:
    """The sessions of a daemon that were used lately; lives in the event loop's thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody; `now` is a clock in seconds."""
        self._now = now
        self._last: tuple[object, float] | None = None
        self._other: tuple[object, float] | None = None  # the last one besides that

    def use(self, user: object) -> None:
        """Note that somebody is used now."""
        if self._last is not None and self._last[0] is not user:
            self._other = self._last
        self._last = (user, self._now())

    def is_shared(self, user: object) -> bool:
        """Return whether somebody besides this one was used lately."""
        found = self._other if self._last is None or self._last[0] is user else self._last
        return found is not None and self._now() - found[1] < _LATELY_SECONDS


class TerminalReader:
    """The reading end of a terminal, in the event loop's thread."""

    def __init__(self, terminal: int, take: Callable[[bytes], bool], turns: Turns | None = None) -> None:
        """Start reading.

        Args:
            terminal: the descriptor.
            take: gets what was printed, and returns whether to pause until `resume`.
            turns: knows who shares the event loop with this one; None: nobody does.
        """
        self._terminal = terminal
        self._take = take
        self._turns = turns or Turns()
        self._loop = asyncio.get_running_loop()
        self._is_wanted = False
        self._is_reading = False
        self._rest: asyncio.TimerHandle | None = None
        self.resume()

    def resume(self) -> None:
        """Read again what is printed."""
        self._is_wanted = True
        if not self._is_reading and self._rest is None:
            self._is_reading = True
            self._loop.add_reader(self._terminal, self._read)

    def pause(self) -> None:
        """Read no more: programs wait, as they would on a full pipe."""
        self._is_wanted = False
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._terminal)

    def _begin_rest(self) -> None:
        self._stop_reading()
        self._rest = self._loop.call_later(REST_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        if self._is_wanted:
            self.resume()

    def note_use(self) -> None:
        """Note that somebody uses this session now, so that others' output leaves it the time."""
        self._turns.use(self)

    def drain(self) -> None:
        """Take what was printed before now: reading makes the kernel hand over all it has."""
        drained = 0
        with suppress(OSError):
            while drained < _DRAIN_MAX_BYTES:
                data = self._read_some(_READ_BYTES)
                drained += len(data)
                self._take(data)

    def _read(self) -> None:
        is_shared = self._turns.is_shared(self)
        size_bytes = SHARED_READ_BYTES if is_shared else _READ_BYTES
        try:
            data = self._read_some(size_bytes)
        except BlockingIOError:
            return
        except OSError:
            self.pause()  # nobody holds the other end any more; the control channel tells
            return
        if self._take(data):
            self.pause()
        elif is_shared and len(data) >= size_bytes:
            self._begin_rest()

    def _read_some(self, size_bytes: int) -> bytes:
        """Read several times: the kernel gives at most 4 KiB of a terminal's output at once."""
        data = os.read(self._terminal, size_bytes)
        with suppress(OSError):
            while len(data) < size_bytes:
                data += os.read(self._terminal, size_bytes)
        return data
