"""The output of a process: kept in part for a result, or for those who read it while the process runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from sandkasten._cut import CappedBytes
from sandkasten.local.sessions.execution import GRACE_SECONDS, Piece, Replay
from sandkasten.local.sessions.job import Channel

OUTPUTS = (Channel.STDOUT, Channel.STDERR)
# A reader that lags behind by so much is waited for.
_LAG_BYTES = 256 * 1024


class Sink(Protocol):
    """A taker of the output of a process."""

    counts: dict[Channel, int]

    def add(self, channel: Channel, data: bytes) -> None:
        """Take a piece."""
        ...

    @property
    def is_full(self) -> bool:
        """True if the process is to wait, as on a full pipe."""
        ...


class Captured:
    """Head and tail of each channel, for a result; it is never full.

    Attributes:
        counts: how much there was of each channel.
    """

    def __init__(self, keep_bytes: int) -> None:
        """Keep at most so much of each channel."""
        self.counts: dict[Channel, int] = dict.fromkeys(OUTPUTS, 0)
        self._kept: dict[Channel, CappedBytes] = {channel: CappedBytes(keep_bytes) for channel in OUTPUTS}

    @property
    def is_full(self) -> bool:
        """See `Sink`."""
        return False

    @property
    def size_bytes(self) -> int:
        """The memory in use, in bytes."""
        return sum(kept.size_bytes for kept in self._kept.values())

    @property
    def truncated(self) -> bool:
        """True if there was more than is kept."""
        return any(kept.truncated for kept in self._kept.values())

    def add(self, channel: Channel, data: bytes) -> None:
        """See `Sink`."""
        self.counts[channel] += len(data)
        self._kept[channel].add(data)

    def content(self, channel: Channel) -> bytes:
        """Return what is kept of a channel, with a line where something is missing."""
        return self._kept[channel].content()


class Tape:
    """The end of both channels, for any number of readers, each with a position of its own.

    A reader that is there gets everything: the process waits for the slowest. For one that has left, or has
    not come yet, it waits for a while once enough is kept; after that, or while somebody waits only for the
    end, the oldest is dropped.

    Attributes:
        counts: how much there was of each channel.
    """

    def __init__(self, limit_bytes: int, on_room: Callable[[], None]) -> None:
        """Begin empty, and wait for a reader; `on_room` is called when the tape may not be full any more."""
        self.counts: dict[Channel, int] = dict.fromkeys(OUTPUTS, 0)
        self._replay = Replay(limit_bytes)
        self._on_room = on_room
        self._readers: dict[TapeReader, None] = {}
        self._waiting = 0
        self._changed = asyncio.Event()
        self._last_read = 0
        self._grace: asyncio.TimerHandle | None = None
        self._await_reader()

    @property
    def end(self) -> int:
        """The number of bytes that both channels had."""
        return self._replay.end

    @property
    def size_bytes(self) -> int:
        """The number of bytes kept."""
        return self._replay.size_bytes

    @property
    def is_full(self) -> bool:
        """See `Sink`."""
        if self._readers:
            return self._unread_bytes >= min(_LAG_BYTES, self._replay.limit_bytes)
        return self._keeps_unread and self._unread_bytes >= self._replay.limit_bytes

    def add(self, channel: Channel, data: bytes) -> None:
        """See `Sink`."""
        self.counts[channel] += len(data)
        self._replay.add(data, channel, spare_after=self._spare_after)
        self.notify()

    def limit(self, limit_bytes: int) -> None:
        """Keep at most so much from now on, besides what somebody is about to read."""
        if limit_bytes != self._replay.limit_bytes:
            self._replay.limit_bytes = limit_bytes
            self._replay.trim(spare_after=self._spare_after)
            self._on_room()

    def notify(self) -> None:
        """Let those who wait look around."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changes(self, timeout_seconds: float | None) -> bool:
        """Wait until there is more, or an end; return False if the time has passed before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                return await self._changed.wait()
        return False

    def read_from(self, position: int) -> TapeReader:
        """Attach a reader."""
        reader = TapeReader(self, position)
        self._readers[reader] = None
        self._stop_grace()
        return reader

    @contextmanager
    def only_waiting(self) -> Generator[None, None, None]:
        """Drop the oldest during the block, unless somebody reads: its owner waits for the end."""
        self._waiting += 1
        self._on_room()
        try:
            yield
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """The process has ended: wait for nobody."""
        self._stop_grace()
        self.notify()

    # --- called by readers

    def after(self, position: int) -> Iterator[Piece]:
        """Return what is kept after a position."""
        return self._replay.after(position)

    def missed_bytes(self, position: int) -> int:
        """Return how much of what follows a position is gone."""
        return self._replay.missed_bytes(position)

    def on_read(self, reader: TapeReader) -> None:
        """A reader came to its position."""
        self._last_read = max(self._last_read, reader.position)
        self._on_room()

    def on_left(self, reader: TapeReader) -> None:
        """A reader is gone."""
        del self._readers[reader]
        if not self._readers:
            self._await_reader()
        self.notify()
        self._on_room()

    # --- what is kept for whom

    @property
    def _keeps_unread(self) -> bool:
        return bool(self._readers) or (self._grace is not None and not self._waiting)

    @property
    def _read_up_to(self) -> int:
        # The last of what was sent to a reader that is gone may never have come to it.
        sent = max(0, self._last_read - self._replay.limit_bytes // 2)
        return min((reader.position for reader in self._readers), default=sent)

    @property
    def _unread_bytes(self) -> int:
        return self._replay.end - self._read_up_to

    @property
    def _spare_after(self) -> int | None:
        return self._read_up_to if self._keeps_unread else None

    def _await_reader(self) -> None:
        self._stop_grace()
        self._grace = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._on_grace_over)

    def _on_grace_over(self) -> None:
        self._grace = None
        self._replay.trim()
        self._on_room()

    def _stop_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        self._grace = None


class TapeReader:
    """One who reads a tape."""

    def __init__(self, tape: Tape, position: int) -> None:
        """Made by `Tape.read_from`."""
        self.position = position
        self.has_left = False
        self._tape = tape

    def came_to(self, position: int) -> None:
        """It has read up to a position."""
        self.position = position
        self._tape.on_read(self)

    def leave(self) -> None:
        """It is gone, or has all it wanted."""
        if not self.has_left:
            self.has_left = True
            self._tape.on_left(self)
