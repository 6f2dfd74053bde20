"""The life of a session: a time after its last use, and as long as it is in use.

This is the one place that decides it. Whatever uses a session (a command that waits or runs, a transfer of
files) says so from its beginning to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sandkasten.local.clock import Clock, Timer


class Lifetime:
    """The lifetime of one session. Lives in the event loop's thread."""

    def __init__(self, clock: Clock) -> None:
        """Begin nothing yet: a session that nobody asked for does not expire."""
        self._clock = clock
        self.created_at = clock.now()
        self._last_activity = self.created_at
        self._ttl_seconds = 0
        self._on_end: Callable[[], None] | None = None
        self._uses = 0
        self._timer: Timer | None = None
        self.is_unclaimed = False

    def start(self, ttl_seconds: int, on_end: Callable[[], None]) -> None:
        """Begin; `on_end` is called once the session was not used for its lifetime."""
        self.created_at = self._clock.now()
        self._ttl_seconds = ttl_seconds
        self._on_end = on_end
        self.renew()

    def stop(self) -> None:
        """End nothing any more: the session has ended."""
        self._on_end = None
        self._set_timer(None)

    @property
    def last_activity(self) -> datetime:
        """The end of the last use; now, during one."""
        return self._clock.now() if self._uses else self._last_activity

    @property
    def expires_at(self) -> datetime:
        """The time at which the session ends, if it is not used before."""
        return self.last_activity + timedelta(seconds=self._ttl_seconds)

    def renew(self, ttl_seconds: int = 0) -> None:
        """Count the lifetime from now on; 0 leaves it as long as it is."""
        self.is_unclaimed = False
        self._ttl_seconds = ttl_seconds or self._ttl_seconds
        self._last_activity = self._clock.now()
        self._set_timer(self._ttl_seconds)

    def await_claim(self, seconds: float) -> None:
        """Wait only so long for the first use: the client left before it knew of the session."""
        if not self._uses:
            self.is_unclaimed = True
            self._set_timer(seconds)

    def begin_use(self) -> None:
        """Keep the session until as many calls of `end_use` followed."""
        self._uses += 1

    def end_use(self) -> None:
        """End one use."""
        self._uses -= 1
        self.renew()

    @contextmanager
    def used(self) -> Generator[None, None, None]:
        """Keep the session during the block."""
        self.begin_use()
        try:
            yield
        finally:
            self.end_use()

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds is not None and self._on_end is not None:
            self._timer = self._clock.call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if not self._uses and self._on_end is not None:  # otherwise the end of the use renews it
            self._on_end()
