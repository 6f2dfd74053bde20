"""Fixtures that both twins and the daemon's own tests share."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from tests.go_daemon import GoDaemon
from tests.go_peer import PEERS, GoPeer, real_peer
from tests.go_rules import Config
from tests.held import HeldDaemon
from tests.wheels import Index, fill, serving

# What starts the tests in the background may have these ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SANDKASTEN_BASE_URL", "SANDKASTEN_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """The directory for workspaces of the daemon that all tests share."""
    with _data_dir() as path:
        yield path


@pytest.fixture
def own_data_dir() -> Iterator[Path]:
    """A directory for workspaces in which none are."""
    with _data_dir() as path:
        yield path


@contextmanager
def _data_dir() -> Iterator[Path]:
    """Not in tmp_path, which is closed to the user that root's sandboxes run as."""
    path = Path(tempfile.mkdtemp(prefix="sandkasten-data-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def daemon(data_dir: Path) -> Iterator[LocalDaemon]:
    """The real embedded daemon, one for the whole run."""
    daemon = start_daemon(LocalOptions(data_dir=data_dir))
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def package_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index of wheels on loopback."""
    directory = tmp_path_factory.mktemp("index")
    fill(directory, tmp_path_factory.mktemp("marks") / "mark")
    with serving(directory) as index:
        yield index


@pytest.fixture(scope="session")
def package_daemon(package_index: Index) -> Iterator[LocalDaemon]:
    """An embedded daemon that has packages of that index, one for the whole run."""
    with _data_dir() as path:
        daemon = start_daemon(LocalOptions(data_dir=path, package_index=package_index.url))
        yield daemon
        daemon.stop()


@pytest.fixture(scope="session")
def held_daemon(data_dir: Path) -> Iterator[HeldDaemon]:
    """An embedded daemon whose sessions live by a clock that tests hold, one for the whole run."""
    daemon = HeldDaemon(data_dir)
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def go_daemon(daemon: LocalDaemon) -> Iterator[GoDaemon]:
    """A daemon with the limits and habits of the Go daemon, set up so that every session may write."""
    with GoDaemon(daemon, Config(readonly_rootfs=False)) as go_daemon:
        yield go_daemon


@pytest.fixture(scope="session", params=PEERS)
def go_peer(request: pytest.FixtureRequest, daemon: LocalDaemon) -> Iterator[GoPeer]:
    """A Go daemon as it is set up by default: the stand-in, and a real one if the environment names one."""
    if request.param == "real":
        yield real_peer()
        return
    with GoDaemon(daemon) as go_daemon:
        yield GoPeer(go_daemon.url, go_daemon.api_key)


@pytest.fixture
def host_secret() -> Iterator[Path]:
    """A file of the host's that everybody on the host may read, and nobody in a sandbox may see."""
    descriptor, name = tempfile.mkstemp(prefix="secret-", dir="/tmp")
    os.write(descriptor, b"the host's secret")
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)
    yield Path(name)
    os.unlink(name)
