"""Bounds on real time, wide enough for any machine: they separate outcomes that are meant to be far apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

# Less than the 15 seconds that a daemon gives a client to come back, and than what blocks wait for otherwise.
SOON_SECONDS = 10


@contextmanager
def soon() -> Iterator[None]:
    """Run a block that must not wait for what would end by itself much later, or never."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SOON_SECONDS
