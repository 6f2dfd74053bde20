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


class FrugalSelector(selectors.EpollSelector):
    """A selector that takes epoll, and poll for the descriptors that epoll refuses.

    The kernel counts epoll's watches for each user (fs.epoll.max_user_watches), so the sandboxes of an
    ordinary user can use up those of the daemon. Poll needs none, but its time grows with its descriptors.
    """

    def __init__(self) -> None:
        """Begin with no descriptors."""
        super().__init__()
        self._poll = selectors.PollSelector()
        self._poll.register(self.fileno(), selectors.EVENT_READ)
        self._polled = self._poll.get_map()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor, in whichever way there is."""
        if not self._is_polled(fileobj):
            try:
                return super().register(fileobj, events, data)
            except OSError as error:
                if error.errno != ENOSPC:
                    raise
        if fileobj in self.get_map():
            raise KeyError(f"{fileobj!r} is registered already.")
        return self._poll.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch a descriptor no more."""
        if self._is_polled(fileobj):
            return self._poll.unregister(fileobj)
        return super().unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor for other events."""
        if self._is_polled(fileobj):
            return self._poll.modify(fileobj, events, data)
        return super().modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events; with nothing but epoll, as fast as that."""
        if not self._polls:
            return super().select(timeout)
        own = self.fileno()
        ready = [(key, events) for key, events in self._poll.select(timeout) if key.fd != own]
        return ready + super().select(0)

    def close(self) -> None:
        """Close both selectors."""
        self._poll.close()
        super().close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return what is watched, by descriptor."""
        found = super().get_map()
        return ChainMap(found, self._polled) if self._polls else found  # type: ignore[arg-type]

    @property
    def _polls(self) -> bool:
        """True if epoll refused a descriptor that is watched."""
        return len(self._polled) > 1  # the first one is epoll itself

    def _is_polled(self, fileobj: Any) -> bool:
        return self._polls and fileobj in self._polled
