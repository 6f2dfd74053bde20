"""Agents of AutoGen whose code runs in our sandbox, with its own model that replays answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from autogen_agentchat.agents import ApprovalResponse, CodeExecutorAgent
from autogen_agentchat.messages import CodeExecutionEvent
from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock, CodeResult
from autogen_ext.models.replay import ReplayChatCompletionClient

from sandkasten import SandboxClient, SandkastenError, SandkastenInputError, SessionNotFoundError
from sandkasten.integrations.autogen import SandkastenCodeExecutor

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
async def client() -> AsyncIterator[SandboxClient]:
    async with SandboxClient() as client:
        yield client


@pytest.fixture
async def executor(client: SandboxClient) -> AsyncIterator[SandkastenCodeExecutor]:
    async with SandkastenCodeExecutor(client, timeout_seconds=2) as executor:
        yield executor


async def run(executor: SandkastenCodeExecutor, *blocks: tuple[str, str]) -> CodeResult:
    given = [CodeBlock(code, language) for language, code in blocks]
    return await executor.execute_code_blocks(given, CancellationToken())


async def test_an_agent_writes_code_and_reads_its_output(executor: SandkastenCodeExecutor) -> None:
    answers = ["```python\nprint(6 * 7, 'ä☃')\n```", "It is 42."]
    model = ReplayChatCompletionClient(answers)
    agent = CodeExecutorAgent(
        "coder",
        code_executor=executor,
        model_client=model,
        approval_func=lambda _request: ApprovalResponse(approved=True, reason="it is in a sandbox"),
    )
    events = [event async for event in agent.run_stream(task="How much is 6 * 7?")]
    (executed,) = (event for event in events if isinstance(event, CodeExecutionEvent))
    assert executed.result == CodeResult(0, "42 ä☃\n")
    assert events[-1].messages[-1].content == "It is 42."


async def test_blocks_run_one_after_another_to_the_first_that_fails(executor: SandkastenCodeExecutor) -> None:
    done = await run(
        executor,
        ("python", "open('a', 'w').write('ä')\nimport sys\nprint('out')\nprint('err', file=sys.stderr)"),
        ("sh", "cat a; exit 3"),
        ("bash", "echo never"),
    )
    assert (done.exit_code, done.output) == (3, "out\nerr\n\nä")
    assert "no language 'cobol'" in (await run(executor, ("cobol", ""))).output
    assert "ZeroDivisionError" in (await run(executor, ("python", "1 / 0"))).output


async def test_a_timeout_leaves_nothing_and_has_the_output(executor: SandkastenCodeExecutor) -> None:
    done = await run(executor, ("bash", "echo partly; sleep 331 & sleep 331"))
    assert done.exit_code == 124
    assert done.output == "partly\n\nThe code was stopped after 2 seconds."
    assert (await run(executor, ("bash", "pgrep -fx 'sleep 331'"))).exit_code == 1


async def test_a_cancelled_token_stops_the_code(executor: SandkastenCodeExecutor) -> None:
    token = CancellationToken()
    running = asyncio.create_task(executor.execute_code_blocks([CodeBlock("sleep 1.99", "bash")], token))
    while (await run(executor, ("bash", "pgrep -fx 'sleep 1.99'"))).exit_code:
        pass
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await run(executor, ("bash", "pgrep -fx 'sleep 1.99'"))).exit_code == 1


async def test_ten_megabytes_lose_their_middle_and_bytes_that_are_no_text(
    executor: SandkastenCodeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = await run(executor, ("bash", "seq 1500000"))
    assert done.exit_code == 0
    assert len(done.output) < 1_100_000
    assert done.output.endswith("\n1500000\n")
    assert (await run(executor, ("bash", r"printf '\377'"))).output == "\N{REPLACEMENT CHARACTER}"
    monkeypatch.setattr("sandkasten.integrations.autogen.executor._MOST_OUTPUT_BYTES", 100_000)
    done = await run(executor, ("bash", "yes"))
    assert done.exit_code == 1
    assert done.output.endswith("printed more than 100,000 bytes, and was stopped.")


async def test_a_restart_begins_anew_and_a_session_that_died_is_said(
    executor: SandkastenCodeExecutor,
) -> None:
    await executor.session.write("a", "x")
    await executor.restart()
    assert not await executor.session.exists("a")
    await executor.session.destroy()
    with pytest.raises(SessionNotFoundError):
        await run(executor, ("bash", "true"))
    await executor.stop()
    with pytest.raises(SandkastenError, match=r"Await start\(\)"):
        await run(executor, ("bash", "true"))


async def test_a_time_that_cannot_be_meant_is_refused(client: SandboxClient) -> None:
    with pytest.raises(SandkastenInputError, match="timeout_seconds"):
        SandkastenCodeExecutor(client, timeout_seconds=0)


def test_the_example_prints_what_its_page_says(check_example: Callable[[str], None]) -> None:
    check_example("autogen_agent.py")
