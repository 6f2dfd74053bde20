"""A client of an embedded daemon, for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandkasten import SandboxClient


@pytest.fixture(scope="session")
async def client(anyio_backend: str) -> AsyncIterator[SandboxClient]:
    async with SandboxClient() as client:
        yield client
