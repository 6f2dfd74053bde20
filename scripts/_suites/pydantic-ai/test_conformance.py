"""Pydantic AI's own rules for a workspace, as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from pydantic_ai.workspaces import WorkspaceBackend, WorkspaceRef
from pydantic_ai.workspaces.conformance import WorkspaceBackendSuite

from sandkasten import SandboxClient
from sandkasten.integrations.pydantic_ai import SandkastenWorkspace


class TestWorkspace(WorkspaceBackendSuite):
    """All of them: no fixture is left out, so that none is skipped."""

    @pytest.fixture
    async def backend(self, client: SandboxClient) -> AsyncIterator[WorkspaceBackend]:
        backend = SandkastenWorkspace(client)
        yield backend
        await backend.destroy()

    @pytest.fixture
    def fresh_backend(self, client: SandboxClient) -> Callable[[], WorkspaceBackend]:
        return lambda: SandkastenWorkspace(client)

    @pytest.fixture
    def attach_backend(self, client: SandboxClient) -> Callable[[WorkspaceRef], WorkspaceBackend]:
        return lambda ref: SandkastenWorkspace(client, ref)

    @pytest.fixture
    def destroy_environment(self) -> Callable[[WorkspaceBackend], Awaitable[None]]:
        async def destroy(backend: WorkspaceBackend) -> None:
            assert isinstance(backend, SandkastenWorkspace)
            await backend.destroy()

        return destroy
