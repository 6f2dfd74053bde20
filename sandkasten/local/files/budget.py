"""The time that looks at disks may take: a tenth of a core together, however many sessions are looked at.

Looks happen one at a time. The longest wait goes first, but a long look waits longer than a short one, so
that a session with many files is no reason why others are looked at seldom. And a look does not hold up the
event loop: it is work in a thread, which has a rest after each short piece, since both share one interpreter.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")

# All looks together take this part of the time.
SHARE = 0.1
_PIECE_SECONDS = 0.0005
# After each piece of a look; the rest of what is owed follows the look, so that its result is known soon.
_REST_PER_PIECE = 3


class StoppedError(OSError):
    """Nobody waits for the look any more."""


class Pace:
    """The rests of one look. `step` is called in its thread, all else in the event loop's."""

    def __init__(self) -> None:
        """Begin to work."""
        self.rested_seconds = 0.0
        self._began_at = time.perf_counter()
        self._piece_began_at = self._began_at
        self._is_hurried = self._is_stopped = False

    def step(self) -> None:
        """Rest if it is time to.

        Raises:
            StoppedError: nobody waits for the look any more.
        """
        now = time.perf_counter()
        if now - self._piece_began_at < _PIECE_SECONDS:
            return
        if self._is_stopped:
            raise StoppedError
        if not self._is_hurried:
            time.sleep((now - self._piece_began_at) * _REST_PER_PIECE)
            woken_at = time.perf_counter()
            self.rested_seconds += woken_at - now
            now = woken_at
        self._piece_began_at = now

    def paced(self, found: Iterable[T]) -> Iterator[T]:
        """Yield what is found, with rests."""
        for one in found:
            self.step()
            yield one

    def hurry(self) -> None:
        """Have no more rests: somebody waits for the result."""
        self._is_hurried = True

    def stop(self) -> None:
        """End the look at its next step."""
        self._is_stopped = True

    @property
    def worked_seconds(self) -> float:
        """The time that it worked so far."""
        return time.perf_counter() - self._began_at - self.rested_seconds


class Budget:
    """Gives turns to those who want to look. Lives in the event loop's thread.

    Attributes:
        watchers: how many of them there are.
    """

    def __init__(self) -> None:
        """Nobody looks yet."""
        self.watchers = 0
        self._is_taken = False
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    def pause_seconds(self, worked_seconds: float) -> float:
        """Return for how long one should not look again whose look took so long: all have equal shares."""
        return worked_seconds / SHARE * max(1, self.watchers)

    @asynccontextmanager
    async def turn(self, expected_seconds: float) -> AsyncGenerator[Pace, None]:
        """Wait for a turn to look, which takes about so long; others have theirs once that is paid."""
        await self._take(expected_seconds)
        pace = Pace()
        try:
            yield pace
        finally:
            pace.stop()
            owed_seconds = pace.worked_seconds * (1 / SHARE - 1) - pace.rested_seconds
            asyncio.get_running_loop().call_later(max(0.0, owed_seconds), self._pass_on)

    async def _take(self, expected_seconds: float) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        loop = asyncio.get_running_loop()
        given = loop.create_future()
        rank = loop.time() + self.pause_seconds(expected_seconds)
        heapq.heappush(self._waiting, (rank, next(self._numbers), given))
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():  # it was given when nobody wanted it any more
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _rank, _number, given = heapq.heappop(self._waiting)
            if not given.done():
                given.set_result(None)
                return
        self._is_taken = False
