"""The channel to one interpreter. It never waits, and what it keeps for the peer is bounded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sandkasten.local.sessions.interpreters.events import Event, event_of
from sandkasten.local.sessions.interpreters.frames import FrameError, FrameReader, packed, unpacked
from sandkasten.local.sessions.processes.channels import IsShared
from sandkasten.local.sessions.terminal import REST_SECONDS, SHARED_READ_BYTES

_READ_BYTES = 64 * 1024
# What an interpreter may send unasked for: its first words, and the end of what was stopped.
IDLE_BYTES = 256 * 1024


class Control:
    """See above. Lives in the event loop's thread."""

    def __init__(
        self,
        channel: socket.socket,
        take: Callable[[Event], None],
        on_broken: Callable[[bool], None],
        is_shared: IsShared,
    ) -> None:
        """Own the socket.

        Args:
            channel: a stream.
            take: gets each event.
            on_broken: called when the peer has closed its end (True), or sends what it must not.
            is_shared: returns whether others need the event loop just now.
        """
        channel.setblocking(False)
        self._channel = channel
        self._take = take
        self._on_broken = on_broken
        self._is_shared = is_shared
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._left_bytes = IDLE_BYTES
        self._is_reading = self._is_writing = False
        self._rest: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """True before it is closed or broken."""
        return self._channel.fileno() >= 0

    def ask(self, message: dict[str, Any], answer_bytes: int) -> None:
        """Send an object, and expect answers of at most so many bytes from now on."""
        self._left_bytes = answer_bytes + IDLE_BYTES
        self.send(packed(message))

    def send(self, data: bytes) -> None:
        """Send bytes; nothing more than before is expected."""
        if self.is_open:
            self._unsent += data
            self._write()

    def resume(self) -> None:
        """Read what comes; how much that may be is bounded by what was sent."""
        if self.is_open and not self._is_reading and self._rest is None:
            self._is_reading = True
            asyncio.get_running_loop().add_reader(self._channel.fileno(), self._on_readable)

    def drain(self) -> None:
        """Take what was sent before now."""
        while self._read(_READ_BYTES):
            pass

    def close(self) -> None:
        """Give it up."""
        if self.is_open:
            self._stop_reading()
            self._stop_writing()
            self._unsent.clear()
            self._channel.close()

    # --- reading

    def _on_readable(self) -> None:
        if self._read(_READ_BYTES) >= SHARED_READ_BYTES and self._is_shared():
            self._stop_reading()
            self._rest = asyncio.get_running_loop().call_later(REST_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        self.resume()

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            asyncio.get_running_loop().remove_reader(self._channel.fileno())

    def _read(self, size_bytes: int) -> int:
        """Read once, and hand over what came; return how much that was."""
        if not self.is_open:
            return 0
        try:
            # What is sent along (descriptors) is not taken.
            data = self._channel.recv(size_bytes)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        try:
            self._left_bytes -= len(data)
            if not data:
                self.close()
                self._on_broken(True)
            if self._left_bytes < 0:
                raise FrameError("it is far too much")
            for frame in self._reader.feed(data):
                event = event_of(unpacked(frame), len(frame))
                if event is not None and self.is_open:
                    self._take(event)
        except FrameError:
            self.close()
            self._on_broken(False)
        return len(data)

    # --- writing

    def _write(self) -> None:
        with suppress(BlockingIOError):
            try:
                while self._unsent:
                    count = self._channel.send(self._unsent[:_READ_BYTES], socket.MSG_NOSIGNAL)
                    del self._unsent[:count]
            except BlockingIOError:
                raise
            except OSError:
                self._unsent.clear()  # it is closed, which is seen when it is read
        if self._unsent and not self._is_writing:
            self._is_writing = True
            asyncio.get_running_loop().add_writer(self._channel.fileno(), self._write)
        elif not self._unsent:
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self._is_writing:
            self._is_writing = False
            asyncio.get_running_loop().remove_writer(self._channel.fileno())
