"""The provider for `dcode`, as its own factory finds and uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from deepagents_code.integrations.sandbox_factory import create_sandbox, verify_sandbox_deps
from deepagents_code.integrations.sandbox_provider import SandboxNotFoundError
from deepagents_code.integrations.sandbox_registry import SandboxRegistry

from sandkasten import SessionNotFoundError
from sandkasten.integrations.deepagents.dcode import SandkastenProvider


@pytest.fixture(autouse=True)
def _settings_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def test_dcode_finds_the_provider_and_where_it_works() -> None:
    """Nothing is started for that."""
    registry = SandboxRegistry(config=None)
    assert isinstance(registry.create_provider("sandkasten"), SandkastenProvider)
    metadata = registry.get_metadata("sandkasten")
    assert metadata is not None
    assert (metadata.working_dir, metadata.supports_sandbox_id) == ("/workspace", True)
    verify_sandbox_deps("sandkasten")


def test_a_sandbox_serves_blocking_and_awaited_calls_of_any_loop_and_ends_with_dcode() -> None:
    """Both forms of call reach the same files."""
    with create_sandbox("sandkasten", params={"image": "python", "env": {"NAME": "World"}}) as backend:
        assert backend.execute("echo Hello, $NAME > greeting; pwd").output == "/workspace\n"
        for _ in range(2):  # each has a loop of its own
            assert asyncio.run(backend.aexecute("cat greeting")).output == "Hello, World\n"
    with pytest.raises(SessionNotFoundError):
        backend.execute("true")


def test_an_id_finds_a_sandbox_that_runs_and_a_wrong_one_is_reported(
    address: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox that was named is not ended."""
    monkeypatch.setenv("SANDKASTEN_BASE_URL", address["base_url"])
    monkeypatch.setenv("SANDKASTEN_API_KEY", address["api_key"])
    provider = SandkastenProvider()
    first = provider.get_or_create()
    with create_sandbox("sandkasten", sandbox_id=first.id) as again:
        assert again.id == first.id
    assert first.execute("echo here").output == "here\n"
    provider.delete(sandbox_id=first.id)
    provider.delete(sandbox_id=first.id)
    with pytest.raises(SandboxNotFoundError):
        provider.get_or_create(sandbox_id=first.id)
