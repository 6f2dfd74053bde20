"""The quota of a workspace on the disk, measured while anything runs in its session.

An ordinary user cannot set a kernel quota for a directory, so this is accounting by the measurements of
`usage.py`: a command can exceed the limit between two measurements, and is then stopped. Writes from outside
are counted, and measured when the count exceeds the limit, since the count knows nothing of files that were
replaced or deleted.

All sessions of a daemon share one budget for looking, see `budget.py`. Programs that only wait, such as an
interpreter between two runs, write nothing. While no thread of the session has run since the last
measurement, there is none.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager, suppress

from sandkasten.local.files.budget import Budget, Pace
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.usage import Usage
from sandkasten.local.linux.processes import run_times

_INTERVAL_SECONDS = 0.5
_REMEMBERED_MAX = 1000
# While nothing runs, each so many times it looks all the same; with more threads, always.
_LOOK_ANYWAY = 20
_MOST_THREADS = 64


def _never() -> bool:
    return False


async def _nothing(_again: bool) -> None:
    pass


def _nobody() -> Iterable[int]:
    return ()


class DiskQuota:
    """Watches one workspace. Lives in the event loop's thread."""

    def __init__(
        self,
        tree: Tree,
        limit_bytes: int | None,
        is_running: Callable[[], bool] = _never,
        on_exceeded: Callable[[bool], Awaitable[None]] = _nothing,
        members: Callable[[], Iterable[int]] = _nobody,
        *,
        budget: Budget | None = None,
    ) -> None:
        """Watch nothing yet.

        Args:
            tree: its files.
            limit_bytes: how much may be in it; None is no limit.
            is_running: whether anything could write.
            on_exceeded: stops what writes, each time it is found to have grown beyond the limit; called with
                True if the look before found that, too.
            members: all processes that use these files; called in a thread.
            budget: the time that this and others may take for looking; None: it has one of its own.
        """
        self._tree = tree
        self._limit_bytes = limit_bytes
        self._is_running = is_running
        self._on_exceeded = on_exceeded
        self._was_exceeded = False
        self._members = members
        self._is_whole = True  # whether everything could be read
        self._used_bytes = 0
        self._written_bytes = 0  # from outside, since that was measured
        self._reserved_bytes = 0  # admitted, and not on the disk yet
        self._was_measured = False
        self._measuring = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._budget = budget or Budget()
        self._pace: Pace | None = None
        self._look_seconds = 0.0  # of the last look at all files

    @property
    def _counted_bytes(self) -> int:
        return self._used_bytes + self._written_bytes + self._reserved_bytes

    def watch(self) -> None:
        """Look from time to time, until nothing runs any more."""
        if self._limit_bytes is not None and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._watch(self._limit_bytes))

    async def has_room_for(self, size_bytes: int) -> bool:
        """Return whether this much more may be written from outside; call `wrote` after the write."""
        if self._limit_bytes is None:
            return True
        room_bytes = self._limit_bytes - size_bytes
        if not self._was_measured or not self._is_whole or self._counted_bytes > room_bytes:
            await self._measure(insist=True)
        return self._is_whole and self._counted_bytes <= room_bytes

    def wrote(self, size_bytes: int) -> None:
        """Count what was written from outside."""
        self._written_bytes += size_bytes

    @contextmanager
    def reserved(self, size_bytes: int) -> Generator[None, None, None]:
        """Keep room for what is written during the block, and count it after that."""
        self._reserved_bytes += size_bytes
        try:
            yield
        finally:
            self._reserved_bytes -= size_bytes
            self.wrote(size_bytes)

    def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self, limit_bytes: int) -> None:
        self._budget.watchers += 1
        try:
            await self._look_until_nothing_runs(limit_bytes)
        finally:
            self._budget.watchers -= 1

    async def _look_until_nothing_runs(self, limit_bytes: int) -> None:
        seen, rests, worked_seconds = None, 0, 0.0
        while True:
            await asyncio.sleep(max(_INTERVAL_SECONDS, self._budget.pause_seconds(worked_seconds)))
            insist = not self._is_whole
            async with self._budget.turn(self._look_seconds) as pace:
                ran = await asyncio.to_thread(lambda: run_times(self._members(), _MOST_THREADS))
                is_idle = ran is not None and ran == seen and rests < _LOOK_ANYWAY and self._is_running()
                rests = rests + 1 if is_idle else 0
                # Beyond the limit only growth counts: what deletes files must be let to.
                allowed_bytes = max(limit_bytes, self._used_bytes)
                was_measured = is_idle or await self._try_to_measure(allowed_bytes + 1, pace, insist=insist)
                worked_seconds = pace.worked_seconds
            if is_idle:
                continue
            self._look_seconds = worked_seconds
            if was_measured:
                worked_seconds += await self._judge(allowed_bytes, insist=insist)
            # Of before the look: what ran during it may have written behind it.
            seen = ran if was_measured and self._is_whole and not self._was_exceeded else None
            if not self._is_running() and (self._is_whole or insist):
                self._was_exceeded = False
                return

    async def _try_to_measure(self, stop_at: int, pace: Pace, *, insist: bool) -> bool:
        with suppress(OSError):  # once more next time, whatever keeps it from being measured
            await self._measure(stop_at, insist=insist, pace=pace)
            return True
        return False

    async def _judge(self, allowed_bytes: int, *, insist: bool) -> float:
        """Stop what writes if it is too much by now; return how many seconds another look took then."""
        # What cannot be read now may be readable in a moment, as in many a test; twice, it is hidden.
        again = self._was_exceeded
        self._was_exceeded = self._used_bytes > allowed_bytes or (insist and not self._is_whole)
        if not self._was_exceeded:
            return 0.0
        with suppress(OSError):
            await self._on_exceeded(again)
            started = time.monotonic()
            await self._measure()  # what still grows from here on was not stopped
            return time.monotonic() - started
        return 0.0

    async def _measure(
        self, stop_at: int | None = None, *, insist: bool = False, pace: Pace | None = None
    ) -> None:
        if pace is None and self._pace is not None:
            self._pace.hurry()  # who asks now waits for that look first
        # One look at a time: of two, the one that ends last may be the older, and not know of a file whose
        # bytes the younger one has taken over from `_written_bytes`.
        async with self._measuring:
            self._pace = pace
            written_bytes = self._written_bytes  # the look sees them; what is written meanwhile, perhaps
            try:
                usage = await asyncio.to_thread(self._usage, stop_at, insist=insist, pace=pace)
            finally:
                self._pace = None
            self._used_bytes, self._is_whole = usage.size_bytes, usage.is_whole
            self._written_bytes -= written_bytes
            self._was_measured = True

    def _usage(self, stop_at: int | None, *, insist: bool, pace: Pace | None) -> Usage:
        # In this order: what loses its name meanwhile is missed once rather than counted twice.
        if pace is None:
            return self._tree.held_usage(self._members()) + self._tree.usage(stop_at, insist=insist)
        held = self._tree.held_usage(pace.paced(self._members()))
        return held + self._tree.usage(stop_at, insist=insist, step=pace.step)


class WorkspaceQuotas:
    """Counts what is written to workspaces that no session uses."""

    def __init__(self, limit_bytes: int | None) -> None:
        """Know of none yet; `limit_bytes` is how much may be in each."""
        self._limit_bytes = limit_bytes
        self._quotas = OrderedDict[str, DiskQuota]()

    def get(self, workspace_id: str, tree: Tree) -> DiskQuota:
        """Return a workspace's count, which begins with a measurement."""
        quota = self._quotas.pop(workspace_id, None) or DiskQuota(tree, self._limit_bytes)
        self._quotas[workspace_id] = quota
        while len(self._quotas) > _REMEMBERED_MAX:
            self._quotas.popitem(last=False)
        return quota

    def forget(self, workspace_id: str | None) -> None:
        """Measure a workspace anew next time: a session uses it from now on, or it is deleted."""
        self._quotas.pop(workspace_id or "", None)
