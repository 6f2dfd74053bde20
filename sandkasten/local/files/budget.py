"""The time that looks at disks may take: in the long run a tenth of a core, however many are looked at.

Looks that take about as long as each other happen one at a time, in a lane. A look never waits behind a
much longer one, not even behind one that took less time before. Otherwise code with millions of files
would keep all other sessions from being looked at, and those could write beyond their limits meanwhile.
In a lane the longest wait goes first, but a longer look waits longer. Each watcher pauses for its share
of the time, so all lanes together keep to the budget.

And a look does not hold up the event loop: it is work in a thread, which has a rest after each short piece,
since both share one interpreter.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")

# All looks together take this part of the time.
SHARE = 0.1
_PIECE_SECONDS = 0.0005
# Looks up to this long are in the first lane, up to so many times as long in the next, and so on.
_SHORT_SECONDS, _LANE_FACTOR = 0.05, 4
# So many looks may have let others pass that take longer than expected; each has a thread of the daemon.
_MOST_LATE = 4
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
        late: how many looks take longer than expected, and hold up nobody any more.
    """

    def __init__(self) -> None:
        """Nobody looks yet."""
        self.watchers = 0
        self._lanes: dict[int, _Lane] = {}
        self.late = 0

    def pause_seconds(self, worked_seconds: float) -> float:
        """Return for how long one should not look again whose look took so long: all have equal shares."""
        return worked_seconds / SHARE * max(1, self.watchers)

    @asynccontextmanager
    async def turn(self, expected_seconds: float) -> AsyncGenerator[Pace, None]:
        """Wait for a turn to look, which takes about so long; others have theirs once that is paid."""
        loop = asyncio.get_running_loop()
        number = _lane_of(expected_seconds)
        lane = self._lanes.setdefault(number, _Lane())
        await lane.take(loop.time() + self.pause_seconds(expected_seconds))
        # A look that takes longer than expected holds up its lane no longer than one of the next lane would.
        holding = _Holding(self, lane)
        last = loop.call_later(_SHORT_SECONDS * _LANE_FACTOR ** (number + 1) / SHARE, holding.let_pass)
        pace = Pace()
        try:
            yield pace
        finally:
            pace.stop()
            last.cancel()
            owed_seconds = pace.worked_seconds * (1 / SHARE - 1) - pace.rested_seconds
            loop.call_at(
                min(max(last.when(), loop.time()), loop.time() + max(0.0, owed_seconds)), holding.end
            )


class _Holding:
    """The turn of one look."""

    def __init__(self, budget: Budget, lane: _Lane) -> None:
        """Hold up a lane."""
        self._budget = budget
        self._lane = lane
        self._is_late = False

    def let_pass(self) -> None:
        """Hold up nobody any more, although the look goes on; not if too many do so."""
        if self._budget.late < _MOST_LATE:
            self._budget.late += 1
            self._is_late = True
            self._lane.pass_on()

    def end(self) -> None:
        """The look has ended, and what it owed is paid, or is paid by its watcher's pause."""
        if self._is_late:
            self._budget.late -= 1
        else:
            self._lane.pass_on()


def _lane_of(expected_seconds: float) -> int:
    """Return the number of the lane for looks that take about so long."""
    return max(0, math.ceil(math.log(max(expected_seconds, _SHORT_SECONDS) / _SHORT_SECONDS, _LANE_FACTOR)))


class _Lane:
    """A line of watchers that look one after another."""

    def __init__(self) -> None:
        """Nobody looks yet."""
        self._is_taken = False
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    async def take(self, rank: float) -> None:
        """Wait for a turn; the lowest rank goes first."""
        if not self._is_taken:
            self._is_taken = True
            return
        given = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._numbers), given))
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():  # it was given when nobody wanted it any more
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """Give the turn to the next one who still waits."""
        while self._waiting:
            _rank, _number, given = heapq.heappop(self._waiting)
            if not given.done():
                given.set_result(None)
                return
        self._is_taken = False
