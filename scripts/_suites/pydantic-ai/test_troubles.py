"""The things that an agent's program gets from a workspace when all does not go well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from pydantic_ai.workspaces import (
    WorkspaceOutputLimitError,
    WorkspaceRef,
    WorkspaceTimeoutError,
    WorkspaceUnavailableError,
)

from sandkasten import SandboxClient, SandkastenInputError
from sandkasten.integrations.pydantic_ai import SandkastenWorkspace

pytestmark = pytest.mark.anyio


@pytest.fixture
async def workspace(client: SandboxClient) -> AsyncIterator[SandkastenWorkspace]:
    workspace = SandkastenWorkspace(client)
    yield workspace
    await workspace.destroy()


async def test_a_timeout_leaves_nothing_and_has_the_output(workspace: SandkastenWorkspace) -> None:
    with pytest.raises(WorkspaceTimeoutError) as caught:
        await workspace.run("echo out; echo err >&2; sleep 311 & sleep 311", shell=True, timeout=0.5)
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "err\n")
    assert (await workspace.run(["pgrep", "-fx", "sleep 311"])).exit_code == 1


async def test_a_cancelled_command_stops(workspace: SandkastenWorkspace) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(workspace.run, ["sleep", "312"])
        while (await workspace.run(["pgrep", "-fx", "sleep 312"])).exit_code:
            pass
        tasks.cancel_scope.cancel()
    assert (await workspace.run(["pgrep", "-fx", "sleep 312"])).exit_code == 1


async def test_ten_megabytes_come_whole_and_more_is_an_error(workspace: SandkastenWorkspace) -> None:
    result = await workspace.run(["head", "-c", "10000000", "/dev/zero"])
    assert result.stdout == "\0" * 10_000_000
    with pytest.raises(WorkspaceOutputLimitError) as caught:
        await workspace.run("yes", shell=True)
    assert caught.value.stdout.startswith("y\ny\n")


async def test_bytes_and_names_of_any_kind(workspace: SandkastenWorkspace) -> None:
    for name in ("ä ☃\n.bin", "\udcff.bin"):
        path = f"/workspace/{name}"
        await workspace.write_bytes(path, bytes(range(256)))
        assert await workspace.read_bytes(path) == bytes(range(256))
        assert path in [entry.path for entry in await workspace.list_dir("/workspace")]
    result = await workspace.run(["printf", "%s", "☃"], env={"A": "ä"})
    assert result.stdout == "☃"


async def test_a_session_that_died_is_unavailable(
    client: SandboxClient, workspace: SandkastenWorkspace
) -> None:
    await (await workspace.session()).destroy()
    for call in (workspace.run(["true"]), workspace.read_bytes("/workspace/a"), workspace.working_dir()):
        with pytest.raises(WorkspaceUnavailableError):
            await call


async def test_programs_that_cannot_be_started_are_results(workspace: SandkastenWorkspace) -> None:
    assert (await workspace.run(["/etc/passwd"])).exit_code == 126
    missing = await workspace.run(["no-such-program"])
    assert missing.exit_code == 127
    assert "no-such-program" in missing.stderr


async def test_a_ref_of_somebody_else_is_refused(client: SandboxClient) -> None:
    with pytest.raises(SandkastenInputError, match="other"):
        SandkastenWorkspace(client, WorkspaceRef(provider="other", id="1"))


def test_the_example_prints_what_its_page_says(check_example: Callable[[str], None]) -> None:
    check_example("pydantic_agent.py")
