"""A daemon for all tests of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sandkasten.local.launch import start_daemon

# There is no dcode for deepagents 0.6.
collect_ignore = [] if os.environ["SUITE"] == "deepagents/0.7" else ["test_dcode.py"]


@pytest.fixture(scope="session")
def address() -> Iterator[dict[str, str]]:
    """The address of an embedded daemon, for clients of both kinds."""
    daemon = start_daemon()
    yield {"base_url": f"unix://{daemon.target.socket_path}", "api_key": daemon.target.api_key or ""}
    daemon.stop()
