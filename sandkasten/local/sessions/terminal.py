"""The output of programs on a session's terminal, read as it comes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

_READ_BYTES = 64 * 1024
# What the kernel buffers for a terminal is less; more than this after a command's end is somebody else's.
_DRAIN_MAX_BYTES = 1024 * 1024


class TerminalReader:
    """The reading end of a terminal, in the event loop's thread."""

    def __init__(self, terminal: int, take: Callable[[bytes], bool]) -> None:
        """Start reading; `take` gets what was printed, and returns whether to pause until `resume`."""
        self._terminal = terminal
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._is_reading = False
        self.resume()

    def resume(self) -> None:
        """Read again what is printed."""
        if not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._terminal, self._read)

    def pause(self) -> None:
        """Read no more: programs wait, as they would on a full pipe."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._terminal)

    def drain(self) -> None:
        """Take what was printed before now: reading makes the kernel hand over all it has."""
        drained = 0
        with suppress(OSError):
            while drained < _DRAIN_MAX_BYTES:
                data = self._read_some()
                drained += len(data)
                self._take(data)

    def _read(self) -> None:
        try:
            data = self._read_some()
        except BlockingIOError:
            return
        except OSError:
            self.pause()  # nobody holds the other end any more; the control channel tells
            return
        if self._take(data):
            self.pause()

    def _read_some(self) -> bytes:
        """Read several times: the kernel gives at most 4 KiB of a terminal's output at once."""
        data = os.read(self._terminal, _READ_BYTES)
        with suppress(OSError):
            while len(data) < _READ_BYTES:
                data += os.read(self._terminal, _READ_BYTES)
        return data
