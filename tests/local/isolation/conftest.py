"""One lab for all attempts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local.isolation.arena.lab import Lab, lab


@pytest.fixture(scope="package")
def laboratory() -> Iterator[Lab]:
    """Sandboxes built by hand, and what is on the host to be reached."""
    with lab() as made:
        yield made
