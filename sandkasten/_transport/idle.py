"""Connections that wait for their next request: which of them still may carry one."""

from __future__ import annotations

import select
import time

import httpx

from sandkasten._limits import POOL_LIMITS

# A system without this (Windows) finds out by writing.
_HAS_POLL = hasattr(select, "poll")


class IdleMark:
    """The time from which a connection waits, and a look at whether anything came since."""

    __slots__ = ("_poll", "_since")

    def __init__(self, descriptor: int) -> None:
        """Look at a socket's descriptor."""
        self._since = 0.0
        self._poll = None
        if _HAS_POLL:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)

    def start(self) -> None:
        """Note that the connection waits from now on."""
        self._since = time.monotonic()

    def is_fresh(self) -> bool:
        """Return whether it waits for no longer than it may, and nothing came, the end of it neither."""
        kept_seconds = POOL_LIMITS.keepalive_expiry
        if kept_seconds is not None and time.monotonic() - self._since > kept_seconds:
            return False
        return self._poll is None or not self._poll.poll(0)


def address_of(base_url: str) -> tuple[str, int]:
    """Return the host and the port of an `http://` URL."""
    url = httpx.URL(base_url)
    return url.raw_host.decode("ascii"), url.port or 80
