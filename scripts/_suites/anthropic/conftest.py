"""A client of an embedded daemon, for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandkasten import SandboxClient


@pytest.fixture(scope="session")
async def client(anyio_backend: str, address: dict[str, str]) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(**address) as client:
        yield client
