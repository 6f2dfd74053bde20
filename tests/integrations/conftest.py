"""Sessions of both packages, on the run's one embedded daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import sandkasten
import sandkasten_sync
from sandkasten.local.launch import LocalDaemon


@pytest.fixture(autouse=True)
def _no_traces_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(daemon: LocalDaemon) -> AsyncIterator[sandkasten.SandboxClient]:
    """An async client."""
    url = f"unix://{daemon.target.socket_path}"
    async with sandkasten.SandboxClient(base_url=url, api_key=daemon.target.api_key) as client:
        yield client


@pytest.fixture
async def session(client: sandkasten.SandboxClient) -> AsyncIterator[sandkasten.Session]:
    """An async session of its own."""
    async with await client.create_session() as session:
        yield session


@pytest.fixture
def blocking_client(daemon: LocalDaemon) -> Iterator[sandkasten_sync.SandboxClient]:
    """A blocking client."""
    url = f"unix://{daemon.target.socket_path}"
    with sandkasten_sync.SandboxClient(base_url=url, api_key=daemon.target.api_key) as client:
        yield client


@pytest.fixture
def blocking_session(
    blocking_client: sandkasten_sync.SandboxClient,
) -> Iterator[sandkasten_sync.Session]:
    """A blocking session of its own."""
    with blocking_client.create_session() as session:
        yield session
