"""Sessions whose processes run on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.processes.beside import Beside
from tests.local.processes.stand import StandDaemon, stand_daemon


@pytest.fixture(scope="package")
def stand() -> Iterator[StandDaemon]:
    """A daemon for all of them."""
    with (
        tempfile.TemporaryDirectory(prefix="sandkasten-stand-") as directory,
        stand_daemon(Path(directory)) as daemon,
    ):
        yield daemon


@pytest.fixture
def beside(stand: StandDaemon) -> Iterator[Beside]:
    """A session."""
    with stand.connect() as client:
        session = Beside(client)
        yield session
        session.destroy()
