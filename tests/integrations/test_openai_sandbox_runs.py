"""Whole runs of sandbox agents of the OpenAI Agents SDK, with its scripted model."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

import pytest
from agents import RunConfig, Runner
from agents.sandbox import (
    Dir,
    LocalFile,
    LocalSnapshotSpec,
    Manifest,
    SandboxAgent,
    SandboxRunConfig,
)
from agents.sandbox.capabilities import Filesystem, Shell
from agents.sandbox.entries import File
from agents.sandbox.errors import (
    ExecTransportError,
    WorkspaceArchiveReadError,
)
from agents.sandbox.manifest import Environment
from agents.testing import ScriptedModel, assistant_message, function_call
from openai.types.responses import ResponseCustomToolCall

from sandkasten import SandboxClient
from sandkasten.integrations.openai_agents.sandbox import (
    SandkastenSandboxClient,
    SandkastenSandboxSessionState,
)


@pytest.fixture
def sandboxes(client: SandboxClient) -> SandkastenSandboxClient:
    return SandkastenSandboxClient(client)


def run_config(sandboxes: SandkastenSandboxClient, **options: Any) -> RunConfig:
    return RunConfig(sandbox=SandboxRunConfig(client=sandboxes, **options), tracing_disabled=True)


def outputs_of(model: ScriptedModel) -> list[str]:
    """Return the outputs of tools that the model read."""
    items = model.calls[-1].input
    assert isinstance(items, list)
    return [str(item["output"]) for item in items if "output" in item]  # type: ignore[typeddict-item]


async def test_an_agent_works_in_a_sandbox_with_the_sdks_own_tools(
    client: SandboxClient,
    sandboxes: SandkastenSandboxClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the SDK copies files from there only
    Path("table.csv").write_text("a,b\n1,2\n")
    files = {"in": Dir(children={"t.csv": LocalFile(src=Path("table.csv"))}), "note": File(content=b"x")}
    manifest = Manifest(entries=files, environment=Environment(value={"WORD": "ä☃"}))
    patch = "*** Begin Patch\n*** Update File: note\n@@\n-x\n+y ☃\n*** End Patch"
    custom = ResponseCustomToolCall(type="custom_tool_call", name="apply_patch", call_id="2", input=patch)
    steps = [
        [function_call("exec_command", {"cmd": "pwd; cat in/t.csv note"}, call_id="1")],
        [custom],
        [function_call("exec_command", {"cmd": "cat note; echo; echo $WORD >&2; exit 3"}, call_id="3")],
        [assistant_message("done")],
    ]
    model = ScriptedModel(steps)
    capabilities = [Shell(), Filesystem()]
    agent = SandboxAgent(name="coder", model=model, default_manifest=manifest, capabilities=capabilities)
    before = {info.id for info in await client.list_sessions()}
    config = run_config(sandboxes, snapshot=LocalSnapshotSpec(base_path=tmp_path))
    assert (await Runner.run(agent, "Go.", run_config=config)).final_output == "done"
    first, second, third = outputs_of(model)
    assert first.endswith("exited with code 0\nOutput:\n/workspace\na,b\n1,2\nx")
    assert "Updated note" in second
    assert "exited with code 3" in third
    assert third.endswith("y ☃\nä☃\n")
    assert {info.id for info in await client.list_sessions()} == before


async def test_an_agent_sees_nothing_of_its_host(
    sandboxes: SandkastenSandboxClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The questions of the SDK's own probe, whose script needs a writable `/`."""
    secret = secrets.token_hex(16)
    monkeypatch.setenv("A_KEY", secret)
    (tmp_path / "key").write_text(secret)
    look = (
        "env; for root in /workspace /tmp /run /var /etc /root /home /app /opt /dev/shm; do "
        "find $root -type f -size -64k -exec cat {} + 2>/dev/null; done; "
        f"cat {tmp_path}/key; for p in /proc/[0-9]*; do cat $p/cmdline $p/environ; done; "
        "echo looked at: /proc"
    )
    call = function_call("exec_command", {"cmd": look, "yield_time_ms": 30_000}, call_id="1")
    model = ScriptedModel([[call], [assistant_message("done")]])
    agent = SandboxAgent(name="spy", model=model, capabilities=[Shell()])
    config = run_config(sandboxes, snapshot=LocalSnapshotSpec(base_path=tmp_path))
    result = await Runner.run(agent, "Look around.", run_config=config)
    (seen,) = outputs_of(model)
    assert "looked at: /proc" in seen
    assert f"{tmp_path}/key: No such file" in seen
    assert secret not in seen + repr(result.to_state().to_json())


async def test_a_session_that_died_ends_the_run(
    client: SandboxClient, sandboxes: SandkastenSandboxClient
) -> None:
    box = await sandboxes.create()
    await box.start()
    call = function_call("exec_command", {"cmd": "true"}, call_id="1")
    model = ScriptedModel([[call], [assistant_message("never said")]])
    agent = SandboxAgent(name="coder", model=model, capabilities=[Shell()])
    running = await box.pty_exec_start("cat", tty=True, yield_time_s=0)
    assert isinstance(box.state, SandkastenSandboxSessionState)
    await (await client.get_session(box.state.sandbox_id)).destroy()
    assert not await box.running()
    for attempt in (box.exec("true"), box.pty_exec_start("true")):
        with pytest.raises(ExecTransportError, match="session"):
            await attempt
    assert running.process_id is not None
    with pytest.raises(ExecTransportError, match="session"):
        await box.pty_write_stdin(session_id=running.process_id, chars="x")
    with pytest.raises(WorkspaceArchiveReadError):
        await box.persist_workspace()
    with pytest.raises(Exception, match="session") as caught:
        await Runner.run(agent, "Go.", run_config=run_config(sandboxes, session=box))
    assert model.remaining_steps, caught.value


async def test_a_run_that_is_cancelled_leaves_no_sandbox(
    client: SandboxClient, sandboxes: SandkastenSandboxClient, tmp_path: Path
) -> None:
    before = {info.id for info in await client.list_sessions()}
    call = function_call("exec_command", {"cmd": "sleep 61", "yield_time_ms": 30_000}, call_id="1")
    agent = SandboxAgent(name="coder", model=ScriptedModel([[call]]), capabilities=[Shell()])
    config = run_config(sandboxes, snapshot=LocalSnapshotSpec(base_path=tmp_path))
    run = asyncio.create_task(Runner.run(agent, "Go.", run_config=config))
    while not (new := {info.id for info in await client.list_sessions()} - before):
        await asyncio.sleep(0.02)
    session = await client.get_session(new.pop())
    while not await session.processes():
        await asyncio.sleep(0.02)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    while {info.id for info in await client.list_sessions()} - before:
        await asyncio.sleep(0.02)
