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
