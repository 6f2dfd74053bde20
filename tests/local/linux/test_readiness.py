"""Descriptors that are waited for once, also where epoll has no watches left."""

from __future__ import annotations

import asyncio
import errno
import os
import select
from typing import Any

import pytest

from sandkasten.local.linux import readiness
from sandkasten.local.linux.readiness import Readiness

EPOLL = select.epoll


class FullEpoll:
    """An epoll that takes no descriptor, as at fs.epoll.max_user_watches."""

    def __init__(self) -> None:
        self._epoll = EPOLL()
        self.fileno, self.poll, self.close = self._epoll.fileno, self._epoll.poll, self._epoll.close

    def register(self, *_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(params=["epoll", "none left"])
def is_full(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "none left":
        monkeypatch.setattr(readiness.select, "epoll", FullEpoll)
    return bool(request.param == "none left")


@pytest.mark.usefixtures("is_full")
async def test_functions_are_called_until_their_descriptor_is_removed() -> None:
    ready, called = Readiness(), asyncio.Queue[str]()
    pipes = [os.pipe() for _ in range(3)]
    for name, (reads, _) in zip("abc", pipes, strict=True):
        ready.add(reads, select.EPOLLIN, lambda name=name: called.put_nowait(name))
    os.write(pipes[1][1], b"x")
    assert [await called.get(), await called.get()] == ["b", "b"]
    ready.remove(pipes[1][0])
    while not called.empty():
        called.get_nowait()
    os.write(pipes[2][1], b"x")
    assert await called.get() == "c"
    ready.remove(pipes[0][0])
    ready.remove(pipes[2][0])
    ready.remove(pipes[2][0])
    ready.close()
    for each in (*pipes[0], *pipes[1], *pipes[2]):
        os.close(each)


async def test_what_waits_for_the_last_writer_is_not_called_for_what_it_writes() -> None:
    ready, ended = Readiness(), asyncio.Event()
    reads, writes = os.pipe()
    ready.add(reads, 0, ended.set)
    os.write(writes, b"x")
    other_reads, other = os.pipe()
    seen = asyncio.Event()
    ready.add(other_reads, select.EPOLLIN, seen.set)
    os.write(other, b"x")
    await seen.wait()
    assert not ended.is_set()
    os.close(writes)
    await ended.wait()
    ready.close()
    for each in (reads, other_reads, other):
        os.close(each)
