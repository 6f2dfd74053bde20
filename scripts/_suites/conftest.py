"""For all suites: asyncio, and sessions of both packages on one embedded daemon that a test asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import sandkasten_sync
from sandkasten import SandboxClient, Session
from sandkasten.local.launch import LocalDaemon, start_daemon


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def daemon() -> Iterator[LocalDaemon]:
    daemon = start_daemon()
    yield daemon
    daemon.stop()


@pytest.fixture
async def session(daemon: LocalDaemon) -> AsyncIterator[Session]:
    url = f"unix://{daemon.target.socket_path}"
    client = SandboxClient(base_url=url, api_key=daemon.target.api_key)
    async with client, await client.create_session() as session:
        yield session


@pytest.fixture
def blocking(daemon: LocalDaemon) -> Iterator[sandkasten_sync.Session]:
    url = f"unix://{daemon.target.socket_path}"
    client = sandkasten_sync.SandboxClient(base_url=url, api_key=daemon.target.api_key)
    with client, client.create_session() as session:
        yield session
