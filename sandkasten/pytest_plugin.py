"""The pytest plugin of Sandkasten.

pytest imports this module in every run, whatever is tested; so nothing else of the package is loaded
before a test asks for a fixture.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sandkasten.local.launch import LocalDaemon
    from sandkasten.testing import FakeDaemon


@pytest.fixture
def fake_sandkasten(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """A `sandkasten.testing.FakeDaemon` that `SandboxClient()` finds by itself while the test runs."""
    from sandkasten.testing import FakeDaemon  # noqa: PLC0415

    with FakeDaemon() as daemon:
        monkeypatch.setenv("SANDKASTEN_BASE_URL", daemon.url)
        monkeypatch.delenv("SANDKASTEN_API_KEY", raising=False)
        yield daemon


@pytest.fixture(scope="session")
def sandkasten_daemon() -> Iterator[LocalDaemon]:
    """An embedded daemon for the whole run, with its own data directory; a failure where it cannot run."""
    from sandkasten.errors import LocalDaemonError  # noqa: PLC0415
    from sandkasten.local.launch import LocalOptions, start_daemon  # noqa: PLC0415

    data_dir = Path(tempfile.mkdtemp(prefix="sandkasten-tests-"))
    data_dir.chmod(0o711)  # root's sandboxes run as a user of their own, who must get through
    try:
        daemon = start_daemon(LocalOptions(data_dir=data_dir))
    except LocalDaemonError as error:
        pytest.fail(str(error), pytrace=False)
    else:
        yield daemon
        daemon.stop()
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture
def sandkasten_local(
    sandkasten_daemon: LocalDaemon, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalDaemon]:
    """The same daemon, so that `SandboxClient()` finds it; what sessions a test leaves are destroyed."""
    from sandkasten_sync import SandboxClient, SessionNotFoundError  # noqa: PLC0415

    target = sandkasten_daemon.target
    monkeypatch.setenv("SANDKASTEN_BASE_URL", f"unix://{target.socket_path}")
    monkeypatch.setenv("SANDKASTEN_API_KEY", target.api_key or "")
    with SandboxClient() as client:
        yield sandkasten_daemon
        for info in client.list_sessions():
            try:
                client.get_session(info.id).destroy()
            except SessionNotFoundError:
                continue
