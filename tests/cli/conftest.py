"""Homes, with and without a daemon in the background."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.program import ROOT, Home
from tests.cli.warm import Warm


@pytest.fixture(scope="session")
def _warm() -> Iterator[Warm]:
    warm = Warm({"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm", "PYTHONPATH": str(ROOT)})
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def _homes(_warm: Warm) -> Iterator[Callable[[], Home]]:
    made: list[Home] = []

    def make() -> Home:
        # Not tmp_path: the user that root's sandboxes run as must reach the data.
        path = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
        path.chmod(0o711)
        made.append(Home(path, _warm))
        return made[-1]

    yield make
    for home in made:
        if home.was_used:
            home.run("down", expect=None)
        shutil.rmtree(home.directory, ignore_errors=True)


@pytest.fixture
def make_home(_homes: Callable[[], Home]) -> Callable[[], Home]:
    """Makes homes without a daemon; whatever runs in them ends with the tests."""
    return _homes


@pytest.fixture
def home(make_home: Callable[[], Home]) -> Home:
    """A home without a daemon."""
    return make_home()


@pytest.fixture(scope="session")
def cli(_homes: Callable[[], Home]) -> Home:
    """A home with a daemon in the background, one for the whole run."""
    home = _homes()
    home("up")
    return home


@pytest.fixture
def session(cli: Home) -> Iterator[str]:
    """The id of a new session."""
    session_id = cli("new").strip()
    yield session_id
    cli.run("rm", session_id, expect=None)
