"""A daemon for all tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten.local.launch import start_daemon


@pytest.fixture(scope="session")
def address() -> Iterator[dict[str, str]]:
    """The address of an embedded daemon, for clients of both kinds."""
    daemon = start_daemon()
    yield {"base_url": f"unix://{daemon.target.socket_path}", "api_key": daemon.target.api_key or ""}
    daemon.stop()
