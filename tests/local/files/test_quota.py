"""The count of what a workspace holds, where looks at the disk overlap with writes."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Iterable
from typing import cast

import pytest

from sandkasten.local.files.quota import DiskQuota
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.usage import Usage

LIMIT_BYTES = 100


class FakeTree:
    """A tree whose size is a number; each look reads it, and while it is slow ends only when it is let to."""

    def __init__(self) -> None:
        """Begin empty, with looks that end at once."""
        self.size_bytes = 0
        self.is_slow = False
        self.began = threading.Semaphore(0)
        self.ends = list[threading.Event]()

    def usage(self, stop_at: int | None, *, insist: bool, step: object = None) -> Usage:
        """Look."""
        seen = self.size_bytes
        if self.is_slow:
            end = threading.Event()
            self.ends.append(end)
            self.began.release()
            assert end.wait(10)
        return Usage(seen, is_whole=True)

    def held_usage(self, members: Iterable[int]) -> Usage:
        """Look at files without a name: there are not any."""
        return Usage(0, is_whole=True)


def quota_of(tree: FakeTree) -> DiskQuota:
    return DiskQuota(cast(Tree, tree), LIMIT_BYTES)


async def write(quota: DiskQuota, tree: FakeTree, size_bytes: int) -> bool:
    if not await quota.has_room_for(size_bytes):
        return False
    with quota.reserved(size_bytes):
        await asyncio.sleep(0)
        tree.size_bytes += size_bytes
    return True


def test_what_is_written_during_a_look_that_did_not_see_it_counts() -> None:
    async def scenario() -> None:
        tree = FakeTree()
        quota = quota_of(tree)
        assert await write(quota, tree, 10)
        tree.is_slow = True
        older = asyncio.create_task(quota.has_room_for(95))  # too much by the count, so it looks
        assert await asyncio.to_thread(tree.began.acquire, timeout=10)
        assert await write(quota, tree, 50)
        younger = asyncio.create_task(quota.has_room_for(60))
        overlaps = await asyncio.to_thread(tree.began.acquire, timeout=0.2)
        tree.is_slow = False
        if overlaps:  # the worst order
            tree.ends[1].set()
            assert not await younger
        tree.ends[0].set()
        assert not await older
        assert not await younger
        assert not await quota.has_room_for(60)
        assert await quota.has_room_for(40)

    asyncio.run(scenario())


def test_nothing_is_admitted_before_the_first_look_has_ended() -> None:
    async def scenario() -> None:
        tree = FakeTree()
        tree.size_bytes = 95
        tree.is_slow = True
        quota = quota_of(tree)
        first, second = (asyncio.create_task(quota.has_room_for(10)) for _ in range(2))
        assert await asyncio.to_thread(tree.began.acquire, timeout=10)
        done, _ = await asyncio.wait([second], timeout=0)
        tree.is_slow = False
        tree.ends[0].set()
        assert not done
        assert await asyncio.gather(first, second) == [False, False]

    asyncio.run(scenario())


def test_what_is_written_until_it_is_stopped_is_not_taken_for_a_writer_that_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandkasten.local.files.quota._INTERVAL_SECONDS", 0)

    async def scenario() -> list[bool]:
        tree = FakeTree()
        tree.size_bytes = LIMIT_BYTES + 1
        stops: list[bool] = []
        lives = [True, False]

        async def stop(again: bool) -> None:
            stops.append(again)
            await asyncio.sleep(0)
            tree.size_bytes += 50  # before the kernel has ended it

        watched = DiskQuota(cast(Tree, tree), LIMIT_BYTES, lambda: lives.pop(0), stop)
        watched.watch()
        assert watched._task is not None
        await watched._task
        assert not lives, "it looked twice"
        return stops

    assert asyncio.run(scenario()) == [False]


def test_while_nothing_of_a_session_runs_the_disk_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is real: it waits for input, and writes when it gets some."""
    monkeypatch.setattr("sandkasten.local.files.quota._INTERVAL_SECONDS", 0)
    monkeypatch.setattr("sandkasten.local.files.quota._LOOK_ANYWAY", 1_000_000_000)

    async def scenario(process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        tree = FakeTree()
        asked = looks = 0

        def members() -> list[int]:
            nonlocal asked
            asked += 1
            return [process.pid]

        def look(stop_at: int | None, *, insist: bool, step: object) -> Usage:
            nonlocal looks
            looks += 1
            return Usage(0, is_whole=True)

        tree.usage = look  # type: ignore[method-assign]
        watched = DiskQuota(cast(Tree, tree), LIMIT_BYTES, lambda: True, members=members)

        async def rests() -> int:
            """Wait until it was asked for processes 100 times without a look, and return the looks so far."""
            before = (asked, -1)
            while asked - before[0] < 100:
                if looks != before[1]:
                    before = (asked, looks)
                await asyncio.sleep(0)
            return looks

        watched.watch()
        try:
            first = await rests()
            process.stdin.write(b"x\n")
            process.stdin.flush()
            await asyncio.to_thread(process.stdout.readline)
            assert await rests() > first
        finally:
            watched.close()

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        asyncio.run(scenario(process))


def test_a_session_that_rests_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandkasten.local.files.quota._INTERVAL_SECONDS", 0)
    monkeypatch.setattr(
        "sandkasten.local.files.quota.run_times", lambda _pids, _most: frozenset({("1", "2")})
    )

    async def scenario() -> None:
        tree, looked = FakeTree(), asyncio.Event()

        async def stop(_again: bool) -> None:
            looked.set()

        watched = DiskQuota(cast(Tree, tree), LIMIT_BYTES, lambda: True, stop)
        watched.watch()
        while not watched._was_measured:
            await asyncio.sleep(0)
        tree.size_bytes = LIMIT_BYTES + 1
        async with asyncio.timeout(30):
            await looked.wait()
        watched.close()

    asyncio.run(scenario())
