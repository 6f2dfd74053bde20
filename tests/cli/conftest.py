"""Homes, with and without a daemon in the background."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sandkasten.cli.parsing.place import choose
from sandkasten.errors import SandkastenAPIError
from sandkasten_sync import SandboxClient
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


@pytest.fixture(scope="session")
def client(cli: Home) -> Iterator[SandboxClient]:
    """A client of the daemon in the background: what a test only needs is had without a process for it."""
    place = choose(cli.environ, os.geteuid())
    with SandboxClient(base_url=place.url, api_key=place.key.read_text().strip()) as client:
        yield client


@pytest.fixture
def session(client: SandboxClient) -> Iterator[str]:
    """The id of a new session."""
    session = client.create_session()
    yield session.id
    with suppress(SandkastenAPIError):  # the test may have ended it
        session.destroy()
