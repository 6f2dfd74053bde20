"""The daemon's event loop, which goes on when its user's epoll watches are used up."""

from __future__ import annotations

import asyncio
import selectors
from collections import ChainMap
from collections.abc import Coroutine, Mapping
from errno import ENOSPC
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(FrugalSelector())) as runner:
        return runner.run(main)


class FrugalSelector(selectors.BaseSelector):
    """A selector that takes epoll, and poll for the descriptors that epoll refuses.

    The kernel counts epoll's watches for each user (fs.epoll.max_user_watches), so the sandboxes of an
    ordinary user can use up those of the daemon. Poll needs none, but its time grows with its descriptors.
    """

    def __init__(self) -> None:
        """Begin with no descriptors."""
        self._epoll = selectors.EpollSelector()
        self._poll = selectors.PollSelector()
        self._poll.register(self._epoll, selectors.EVENT_READ)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor, in whichever way there is."""
        if fileobj in self.get_map():
            raise KeyError(f"{fileobj!r} is registered already.")
        try:
            return self._epoll.register(fileobj, events, data)
        except OSError as error:
            if error.errno != ENOSPC:
                raise
        return self._poll.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch a descriptor no more."""
        return self._of(fileobj).unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor for other events."""
        return self._of(fileobj).modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events; with nothing but epoll, as fast as that."""
        if len(self._poll.get_map()) == 1:
            return self._epoll.select(timeout)
        ready = [
            (key, events) for key, events in self._poll.select(timeout) if key.fileobj is not self._epoll
        ]
        return ready + self._epoll.select(0)

    def close(self) -> None:
        """Close both selectors."""
        self._poll.close()
        self._epoll.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return what is watched, by descriptor."""
        return ChainMap(self._epoll.get_map(), self._poll.get_map())  # type: ignore[arg-type]

    def _of(self, fileobj: Any) -> selectors.BaseSelector:
        return self._poll if fileobj in self._poll.get_map() else self._epoll
