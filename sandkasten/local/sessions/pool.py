"""Sessions that are ready before anybody asks for them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from sandkasten.local.errors import ApiError

# Below this part of the machine's memory, what is free is left to those who work.
_SPARE_MEMORY = 0.15
# Whoever just got a session is about to use it, and filling would be in the way.
_FILL_AFTER_SECONDS = 0.05

T = TypeVar("T")


class WarmPool(Generic[T]):
    """Keeps a few sessions per image ready, of the images that were asked for. One event loop's."""

    def __init__(self, size: int, build: Callable[[str], Awaitable[T]]) -> None:
        """Start empty; `build` makes a session of an image."""
        self._size = size
        self._build = build
        self._ready: dict[str, list[T]] = defaultdict(list)
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._filling: dict[str, asyncio.Task[None]] = {}

    def take(self, image: str) -> T | None:
        """Give a ready session, if there is one, and see to the next."""
        ready = self._ready[image]
        session = ready.pop() if ready else None
        if image not in self._waiting and image not in self._filling and len(ready) < self._size:
            loop = asyncio.get_running_loop()
            self._waiting[image] = loop.call_later(_FILL_AFTER_SECONDS, self._start_filling, image)
        return session

    def __len__(self) -> int:
        """Return how many sessions are ready."""
        return sum(map(len, self._ready.values()))

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Forget some of those that are ready, and give them."""
        removed = [session for sessions in self._ready.values() for session in sessions if unwanted(session)]
        for image, sessions in self._ready.items():
            self._ready[image] = [session for session in sessions if session not in removed]
        return removed

    async def close(self) -> list[T]:
        """Stop filling, and give all that are ready."""
        self._size = 0
        for timer in self._waiting.values():
            timer.cancel()
        await asyncio.gather(*self._filling.values(), return_exceptions=True)
        return self.remove(lambda _: True)

    def _start_filling(self, image: str) -> None:
        del self._waiting[image]
        task = self._filling[image] = asyncio.create_task(self._fill(image))
        task.add_done_callback(lambda _: self._filling.pop(image, None))

    async def _fill(self, image: str) -> None:
        while len(self._ready[image]) < self._size and available_memory() > _SPARE_MEMORY:
            try:
                self._ready[image].append(await self._build(image))
            except ApiError:
                return  # whoever asks for such a session next is told why


def available_memory() -> float:
    """Return the part of the machine's memory that could be used at once, from 0 to 1."""
    with open("/proc/meminfo", encoding="ascii") as file:
        rows = dict(line.split(":") for line in file)
    total, available = (int(rows[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return available / total
