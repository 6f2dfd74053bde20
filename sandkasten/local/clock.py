"""The time by which sessions live and expire; tests hold one of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """A call in the future."""

    def cancel(self) -> None:
        """Do not make the call."""


class Clock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def call_later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """Call a function of the running event loop's thread after some seconds."""
        return asyncio.get_running_loop().call_later(seconds, function)


class Alarm:
    """One call in the future, which may be put off again and again.

    Most are put off or called off. That costs nothing but a number: the loop's timer stays, and looks at it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call nothing yet."""
        self._loop = loop
        self._due: float | None = None
        self._call: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, call: Callable[[], None]) -> None:
        """Make a call after some seconds, in place of the one that was set before."""
        self._due, self._call = self._loop.time() + seconds, call
        if self._timer is None or self._timer.when() > self._due:
            self._arm(self._due)

    def clear(self) -> None:
        """Make no call."""
        self._due = self._call = None

    def close(self) -> None:
        """Make no call any more, and hold on to nothing."""
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_time)

    def _on_time(self) -> None:
        was_due, self._timer = self._timer.when() if self._timer is not None else 0.0, None
        call = self._call
        if self._due is None or call is None:
            return
        if self._due > was_due:
            self._arm(self._due)
            return
        self.clear()
        call()
