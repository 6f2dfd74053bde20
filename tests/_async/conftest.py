"""Fixtures of the async tests; `tests/_sync/conftest.py` is their twin."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandkasten.local.launch import LocalDaemon

from .seam import SandboxClient, Session


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(daemon: LocalDaemon) -> AsyncIterator[SandboxClient]:
    """A client of the run's embedded daemon."""
    target = daemon.target
    async with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        yield client


@pytest.fixture
async def session(client: SandboxClient) -> AsyncIterator[Session]:
    """A session of its own."""
    async with await client.create_session() as session:
        yield session
