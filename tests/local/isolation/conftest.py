"""One lab for all attempts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local.isolation.arena.lab import Annex, Lab, lab


@pytest.fixture(scope="package")
def laboratory() -> Iterator[Lab]:
    """Sandboxes built by hand, and what is on the host to be reached."""
    with lab() as made:
        yield made


@pytest.fixture(scope="package")
def annex(laboratory: Lab) -> Iterator[Annex]:
    """One sandbox of that lab for all attempts that are started beside the shell."""
    with laboratory.annex() as made:
        yield made
