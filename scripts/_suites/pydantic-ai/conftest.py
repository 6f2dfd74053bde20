"""A client of an embedded daemon, in both kinds of event loops that Pydantic AI's suite may run in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandkasten import SandboxClient


@pytest.fixture(scope="session", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
async def client(anyio_backend: str, address: dict[str, str]) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(**address) as client:
        yield client
