"""Fixtures of the blocking tests; written by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten.local.launch import LocalDaemon

from .seam import SandboxClient, Session


@pytest.fixture
def client(daemon: LocalDaemon) -> Iterator[SandboxClient]:
    """A client of the run's embedded daemon."""
    target = daemon.target
    with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        yield client


@pytest.fixture
def session(client: SandboxClient) -> Iterator[Session]:
    """A session of its own."""
    with client.create_session() as session:
        yield session
