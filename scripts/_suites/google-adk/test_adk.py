"""Agents of Google's ADK whose code and commands run in our sandbox, with a model that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.code_executors.code_execution_utils import CodeExecutionInput, CodeExecutionResult, File
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types
from pydantic import Field

import sandkasten_sync
from sandkasten import SandkastenError, SandkastenInputError, Session, SessionNotFoundError
from sandkasten.client import SandboxClient
from sandkasten.integrations.google_adk import SandkastenCodeExecutor, SandkastenEnvironment
from sandkasten.local.launch import LocalDaemon

pytestmark = pytest.mark.anyio


class ScriptedModel(BaseLlm):
    """One that writes one text after another."""

    model: str = "scripted"
    texts: list[str]
    heard: list[str] = Field(default_factory=list)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        self.heard.append(str(llm_request.contents[-1]))
        content = types.Content(role="model", parts=[types.Part(text=self.texts.pop(0))])
        yield LlmResponse(content=content)


async def test_an_agent_computes_and_its_files_are_artifacts(blocking: sandkasten_sync.Session) -> None:
    code = "```python\nopen('a.csv', 'w').write('ä')\nprint(6 * 7)\n```"
    model = ScriptedModel(texts=[code, "It is 42."])
    agent = LlmAgent(name="coder", model=model, code_executor=SandkastenCodeExecutor(blocking))
    runner = InMemoryRunner(agent, app_name="app")
    await runner.session_service.create_session(app_name="app", user_id="u", session_id="s")
    asked = types.Content(role="user", parts=[types.Part(text="How much is 6 * 7?")])
    events = [event async for event in runner.run_async(user_id="u", session_id="s", new_message=asked)]
    assert events[-1].content.parts[0].text == "It is 42."
    assert "42" in model.heard[-1]
    artifact = await runner.artifact_service.load_artifact(
        app_name="app", user_id="u", session_id="s", filename="a.csv"
    )
    assert artifact.inline_data.data == "ä".encode()


def execute(executor: SandkastenCodeExecutor, code: str, **given: Any) -> CodeExecutionResult:
    return executor.execute_code(None, CodeExecutionInput(code, **given))  # type: ignore[arg-type]


def test_code_reads_files_and_leaves_files(blocking: sandkasten_sync.Session) -> None:
    executor = SandkastenCodeExecutor(blocking)
    blocking.write("old", "x")
    done = execute(
        executor,
        "import sys\nopen('b.bin', 'wb').write(b'\\xff' + open('in.bin', 'rb').read())\n"
        "print('warned', file=sys.stderr)",
        input_files=[File("in.bin", b"\0")],
    )
    assert done == CodeExecutionResult(
        "warned\n", "", [File("b.bin", b"\xff\0", "application/octet-stream")], 0
    )
    failed = execute(executor, "print('so far')\n1 / 0")
    assert (failed.stdout, failed.exit_code) == ("so far\n", 1)
    assert "ZeroDivisionError" in failed.stderr
    assert execute(executor, "import sys; sys.exit(3)").stderr == "The code ended with the exit code 3."
    big = execute(executor, "print('x' * 10_000_000)\nprint('end')")
    assert len(big.stdout) < 1_100_000
    assert big.stdout.endswith("\nend\n")


def test_variables_stay_for_each_session_of_a_stateful_executor(blocking: sandkasten_sync.Session) -> None:
    executor = SandkastenCodeExecutor(blocking, stateful=True)
    assert execute(executor, "x = 'ä☃'", execution_id="one").exit_code == 0
    assert execute(executor, "x", execution_id="one").stdout == "'ä☃'\n"
    assert "NameError" in execute(executor, "x", execution_id="two").stderr


@pytest.mark.parametrize("stateful", [False, True])
def test_a_timeout_is_a_result_with_the_output(blocking: sandkasten_sync.Session, stateful: bool) -> None:
    executor = SandkastenCodeExecutor(blocking, stateful=stateful, timeout_seconds=1)
    done = execute(executor, "print('partly', flush=True)\nimport time\ntime.sleep(60)")
    assert (done.stdout, done.stderr, done.exit_code) == (
        "partly\n",
        "The code was stopped after 1 seconds.",
        124,
    )


def test_a_session_that_died_is_said(blocking: sandkasten_sync.Session) -> None:
    executor = SandkastenCodeExecutor(blocking)
    blocking.destroy()
    with pytest.raises(SessionNotFoundError):
        execute(executor, "1")


def test_sessions_and_times_that_cannot_be_meant_are_refused(blocking: sandkasten_sync.Session) -> None:
    with pytest.raises(SandkastenInputError, match="timeout_seconds"):
        SandkastenCodeExecutor(blocking, timeout_seconds=601)
    with pytest.raises(SandkastenInputError, match="sandkasten_sync"):
        SandkastenCodeExecutor(Session.__new__(Session))  # type: ignore[arg-type]


async def test_an_environment_runs_commands_and_has_files(daemon: LocalDaemon) -> None:
    url = f"unix://{daemon.target.socket_path}"
    async with SandboxClient(base_url=url, api_key=daemon.target.api_key) as client:
        box = SandkastenEnvironment(client, env={"WORD": "ä"})
        with pytest.raises(SandkastenError, match="initialize"):
            await box.execute("true")
        await box.initialize()
        done = await box.execute("pwd; echo $WORD >&2; exit 3")
        assert (done.exit_code, done.stdout, done.stderr, done.timed_out) == (3, "/workspace\n", "ä\n", False)
        assert (await box.execute("head -c 10000000 /dev/zero")).stdout == "\0" * 10_000_000
        late = await box.execute("echo partly; sleep 341 & sleep 341", timeout=0.5)
        assert (late.stdout, late.timed_out) == ("partly\n", True)
        command = asyncio.create_task(box.execute("sleep 342"))
        while (await box.execute("pgrep -fx 'sleep 342'")).exit_code:
            pass
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command
        assert (await box.execute("pgrep -fx 'sleep 34[12]'")).exit_code == 1
        await box.write_file(Path("d/ä.bin"), b"\xff")
        assert await box.read_file(box.working_dir / "d/ä.bin") == b"\xff"
        with pytest.raises(FileNotFoundError):
            await box.read_file(Path("absent"))
        await box.session.destroy()
        with pytest.raises(SessionNotFoundError):
            await box.execute("true")
        await box.close()
        assert not box.is_initialized


def test_the_example_prints_what_its_page_says(check_example: Callable[[str], None]) -> None:
    check_example("adk_agent.py")
