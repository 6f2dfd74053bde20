"""The things that Inspect gets from a sandbox when all does not go well."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from inspect_ai.util import (
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
)

from sandkasten.integrations.inspect_ai import SandkastenConfig, SandkastenEnvironment

pytestmark = pytest.mark.anyio


async def runs(environment: SandboxEnvironment, command: str) -> bool:
    return (await environment.exec(["pgrep", "-fx", command])).success


async def test_a_timeout_leaves_nothing(sandbox_env: SandboxEnvironment) -> None:
    with pytest.raises(TimeoutError, match="1 seconds"):
        await sandbox_env.exec(["sh", "-c", "sleep 311 & sleep 311"], timeout=1)
    assert not await runs(sandbox_env, "sleep 311")


async def test_a_cancelled_command_stops(sandbox_env: SandboxEnvironment) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sandbox_env.exec, ["sleep", "312"])
        while not await runs(sandbox_env, "sleep 312"):
            pass
        tasks.cancel_scope.cancel()
    assert not await runs(sandbox_env, "sleep 312")


async def test_ten_megabytes_come_whole_and_more_is_an_error(sandbox_env: SandboxEnvironment) -> None:
    result = await sandbox_env.exec(["head", "-c", "10000000", "/dev/zero"])
    assert result.stdout == "\0" * 10_000_000
    with pytest.raises(OutputLimitExceededError) as caught:
        await sandbox_env.exec(["yes"])
    assert str(caught.value.truncated_output).startswith("y\ny\n")


async def test_input_that_nobody_reads_is_no_error(sandbox_env: SandboxEnvironment) -> None:
    assert (await sandbox_env.exec(["true"], input="x" * 3_000_000)).success


async def test_bytes_and_names_of_any_kind(sandbox_env: SandboxEnvironment) -> None:
    await sandbox_env.write_file("ä ☃\n.bin", bytes(range(256)))
    assert await sandbox_env.read_file("ä ☃\n.bin", text=False) == bytes(range(256))
    with pytest.raises(UnicodeDecodeError):
        await sandbox_env.read_file("ä ☃\n.bin")


async def test_a_session_that_died_is_unavailable(sandbox_env: SandboxEnvironment) -> None:
    await sandbox_env.as_type(SandkastenEnvironment).session.destroy()
    calls = (sandbox_env.exec(["true"]), sandbox_env.read_file("a"), sandbox_env.write_file("a", "b"))
    for call in calls:
        with pytest.raises(SandboxUnavailableError):
            await call


async def test_its_own_user_is_accepted_and_another_is_not(sandbox_env: SandboxEnvironment) -> None:
    user = (await sandbox_env.exec(["id", "-un"])).stdout.strip()
    assert (await sandbox_env.exec(["true"], user=user)).success
    with pytest.raises(SandboxUserUnsupportedError, match="root"):
        await sandbox_env.exec(["true"], user="root")


async def test_options_reach_the_session(task: type[SandboxEnvironment]) -> None:
    config = task.config_deserialize({"env": {"NAME": "World"}, "limits": {"processes": 40}})
    assert isinstance(config, SandkastenConfig)
    environments = await task.sample_init("task", config, {})
    try:
        result = await environments["default"].exec(["printenv", "NAME"])
    finally:
        await task.sample_cleanup("task", config, environments, False)
    assert result.stdout == "World\n"


def test_the_example_prints_what_its_page_says(check_example: Callable[[str], None]) -> None:
    check_example("inspect_task.py")
