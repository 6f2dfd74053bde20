"""Agents of Strands in our sandbox, with a model that follows a script: what model and program get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from strands import Agent
from strands.models.model import Model
from strands.sandbox import ExecutionResult, FileInfo, StreamChunk
from strands.sandbox.errors import SandboxPathNotFoundError, SandboxTimeoutError

import sandkasten_sync
from sandkasten import Session, SessionNotFoundError
from sandkasten.integrations.strands import SandkastenSandbox

pytestmark = pytest.mark.anyio


class ScriptedModel(Model):
    """One that asks for tools, and then says `done`."""

    def __init__(self, *steps: tuple[str, dict[str, Any]]) -> None:
        self.steps = list(steps)
        self.heard: list[str] = []

    def update_config(self, **model_config: Any) -> None: ...

    def get_config(self) -> Any:
        return {}

    async def structured_output(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for block in messages[-1]["content"]:
            if "toolResult" in block:
                self.heard.append(json.dumps(block["toolResult"], ensure_ascii=False))
        yield {"messageStart": {"role": "assistant"}}
        if is_tool := bool(self.steps):
            name, given = self.steps.pop(0)
            yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": name}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(given)}}}}
        else:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": "done"}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if is_tool else "end_turn"}}


STEPS = (
    ("shell", {"command": "pwd; echo ä☃ > note; echo oh >&2; exit 3"}),
    ("file_editor", {"command": "view", "path": "/workspace/note"}),
    ("shell", {"command": "echo partly; sleep 321", "timeout": 1}),
)


def check(model: ScriptedModel) -> None:
    shell, editor, late = model.heard
    assert "/workspace" in shell
    assert "oh" in shell
    assert "3" in shell
    assert "ä☃" in editor
    assert "timed out" in late
    assert "partly" in late


async def test_an_async_agent_works_in_a_session(session: Session) -> None:
    model = ScriptedModel(*STEPS)
    agent = Agent(model=model, sandbox=SandkastenSandbox(session), callback_handler=None)
    assert str(await agent.invoke_async("Go.")).strip() == "done"
    check(model)


def test_an_agent_that_is_called_works_in_a_blocking_session(blocking: sandkasten_sync.Session) -> None:
    model = ScriptedModel(*STEPS)
    agent = Agent(model=model, sandbox=SandkastenSandbox(blocking), callback_handler=None)
    assert str(agent("Go.")).strip() == "done"
    check(model)


@pytest.fixture(params=["async", "blocking"])
def sandbox(
    request: pytest.FixtureRequest, session: Session, blocking: sandkasten_sync.Session
) -> SandkastenSandbox:
    return SandkastenSandbox(session if request.param == "async" else blocking)


async def test_output_streams_with_its_result_at_last(sandbox: SandkastenSandbox) -> None:
    pieces = [piece async for piece in sandbox.execute_streaming("echo ä; echo oh >&2", env={"A": "b"})]
    assert pieces[-1] == ExecutionResult(0, "ä\n", "oh\n")
    assert sorted(pieces[:-1], key=str) == [StreamChunk("oh\n", "stderr"), StreamChunk("ä\n", "stdout")]
    assert (await sandbox.execute("pwd", cwd="/tmp")).stdout == "/tmp\n"
    assert (await sandbox.execute("echo $A", env={"A": "b"})).stdout == "b\n"
    assert (await sandbox.execute("true", cwd="/absent")).exit_code == 127


async def test_code_runs_in_an_interpreter(sandbox: SandkastenSandbox) -> None:
    code = "import os\nprint('\"☃$HOME', os.getcwd())"
    assert (await sandbox.execute_code(code, "python3")).stdout == '"☃$HOME /workspace\n'
    assert (await sandbox.execute_code("exit 4", "no-such-language")).exit_code == 127
    with pytest.raises(ValueError, match="interpreter"):
        await sandbox.execute_code("", "sh -c")
    assert (await sandbox.execute("ls /tmp/code-*")).exit_code == 2


async def test_ten_megabytes_stream_whole_and_the_result_has_head_and_tail(
    sandbox: SandkastenSandbox,
) -> None:
    pieces = [piece async for piece in sandbox.execute_streaming("seq 1500000")]
    assert "".join(piece.data for piece in pieces[:-1]) == "".join(f"{n}\n" for n in range(1, 1500001))
    assert len(pieces[-1].stdout) < 1_100_000
    assert pieces[-1].stdout.endswith("\n1500000\n")


async def test_a_timeout_leaves_nothing_and_has_the_output(sandbox: SandkastenSandbox) -> None:
    with pytest.raises(SandboxTimeoutError) as caught:
        await sandbox.execute("echo out; echo err >&2; sleep 322 & sleep 322", timeout=0.5)
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "err\n")
    assert (await sandbox.execute("pgrep -fx 'sleep 322'")).exit_code == 1


async def test_a_cancelled_command_stops(sandbox: SandkastenSandbox) -> None:
    command = asyncio.create_task(sandbox.execute("sleep 323"))
    while (await sandbox.execute("pgrep -fx 'sleep 323'")).exit_code:
        pass
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert (await sandbox.execute("pgrep -fx 'sleep 323'")).exit_code == 1


async def test_files_of_any_kind(sandbox: SandkastenSandbox) -> None:
    content = bytes(range(256))
    await sandbox.write_file("d/ä ☃.bin", content)
    assert await sandbox.read_file("/workspace/d/ä ☃.bin") == content
    assert await sandbox.list_files("d") == [FileInfo("ä ☃.bin", False, 256)]
    await sandbox.remove_file("d/ä ☃.bin")
    for call in (sandbox.read_file("absent"), sandbox.remove_file("absent")):
        with pytest.raises(FileNotFoundError):
            await call
    for path in ("absent", "/etc/passwd"):
        with pytest.raises(SandboxPathNotFoundError):
            await sandbox.list_files(path)
    with pytest.raises(OSError, match="proc"):
        await sandbox.write_file("/proc/x", b"")


async def test_a_session_that_died_is_said(sandbox: SandkastenSandbox) -> None:
    await sandbox._either.call(sandbox.session.destroy)
    with pytest.raises(SessionNotFoundError):
        await sandbox.execute("true")
    with pytest.raises(OSError, match="session"):
        await sandbox.read_file("a")


def test_the_example_prints_what_its_page_says(check_example: Callable[[str], None]) -> None:
    check_example("strands_agent.py")
