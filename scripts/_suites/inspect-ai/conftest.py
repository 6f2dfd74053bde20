"""A sandbox of Inspect's, made as Inspect makes it: found by its name, for a task and a sample."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from inspect_ai.util import SandboxEnvironment
from inspect_ai.util._sandbox.registry import registry_find_sandboxenv


@pytest.fixture(scope="session")
async def task(anyio_backend: str) -> AsyncIterator[type[SandboxEnvironment]]:
    provider = registry_find_sandboxenv("sandkasten")
    await provider.task_init("task", None)
    yield provider
    await provider.task_cleanup("task", None, True)


@pytest.fixture
async def sandbox_env(task: type[SandboxEnvironment]) -> AsyncIterator[SandboxEnvironment]:
    environments = await task.sample_init("task", None, {})
    yield environments["default"]
    await task.sample_cleanup("task", None, environments, False)
