"""Descriptors that are waited for once each, and come and go by thousands."""

from __future__ import annotations

import asyncio
import errno
import select
from collections.abc import Callable


class Readiness:
    """Calls a function when a descriptor is ready, in the event loop's thread.

    A reader of the event loop's own costs seven times as much, and can wait for nothing but input. Functions
    must bear to be called for nothing, and remove their descriptor themselves.
    """

    def __init__(self) -> None:
        """Begin with no descriptors."""
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._loop.add_reader(self._epoll.fileno(), self._on_ready)

    def add(self, descriptor: int, events: int, callback: Callable[[], None]) -> None:
        """Wait for a descriptor.

        Args:
            descriptor: which one.
            events: for what, as `select.epoll` has it; 0 waits until nobody can write to it any more.
            callback: the function.

        Raises:
            OSError: the kernel does not watch it.
        """
        try:
            self._epoll.register(descriptor, events)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._loop.add_reader(descriptor, callback)  # which has another way, see `FrugalSelector`
        else:
            self._callbacks[descriptor] = callback

    def remove(self, descriptor: int) -> None:
        """Wait for it no more; nobody need have waited."""
        if self._callbacks.pop(descriptor, None) is None:
            self._loop.remove_reader(descriptor)
        else:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._callbacks.clear()

    def _on_ready(self) -> None:
        for descriptor, _events in self._epoll.poll(0):
            callback = self._callbacks.get(descriptor)
            if callback is not None:
                callback()
