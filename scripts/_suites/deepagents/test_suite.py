"""LangChain's suite for sandboxes of deepagents, on our backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from langchain_tests.integration_tests import SandboxIntegrationTests

import sandkasten_sync
from sandkasten import SandboxClient
from sandkasten.integrations.deepagents import SandkastenBackend


class TestSandbox(SandboxIntegrationTests):
    """All tests are theirs."""

    @pytest_asyncio.fixture(scope="class", loop_scope="session")
    async def sandbox(self, address: dict[str, str]) -> AsyncIterator[SandkastenBackend]:
        """Yield a sandbox for blocking and for awaited calls."""
        async with SandboxClient(**address) as client, await client.create_session() as session:
            with sandkasten_sync.SandboxClient(**address) as blocking_client:
                blocking = blocking_client.get_session(session.id)
                yield SandkastenBackend(session=blocking, async_session=session)
