"""Claude's self-hosted worker against a stand-in for its server: what its agents read, and what is left."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
import uvicorn
from anthropic import AsyncAnthropic
from anthropic.lib.environments import EnvironmentWorker
from standin import ENVIRONMENT, KEY, Agent, StandIn

from sandkasten import SandboxClient
from sandkasten.integrations.anthropic import SandkastenToolset

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(stand_in: StandIn) -> AsyncIterator[str]:
    """Yield the address of a server, which ends with the block."""
    server = uvicorn.Server(uvicorn.Config(stand_in.app, lifespan="off", log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = server.force_exit = True
        await running


async def work(client: SandboxClient, workdir: Path, *agents: Agent) -> None:
    """Let a worker serve agents, one after another, to the end of each."""
    async with served(StandIn(*agents)) as url:
        worker = EnvironmentWorker(
            AsyncAnthropic(api_key="not-for-workers", base_url=url),
            environment_id=ENVIRONMENT,
            environment_key=KEY,
            workdir=workdir,
            tools=SandkastenToolset(client),
            max_idle=0.01,
        )
        running = asyncio.create_task(worker.run())
        ends = asyncio.gather(*(agent.ended.wait() for agent in agents))
        await asyncio.wait((running, ends), return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert ends.done()


async def ids(client: SandboxClient) -> set[str]:
    return {info.id for info in await client.list_sessions()}


async def test_each_agent_works_in_a_sandbox_of_its_own(client: SandboxClient, tmp_path: Path) -> None:
    before = await ids(client)
    first = Agent(
        [
            ("bash", {"command": "x=ä☃; cd /tmp; echo $x > /workspace/note; pwd"}),
            ("bash", {"command": "echo $x; echo oh >&2; exit 3"}),
            ("read", {"file_path": "skills/count/SKILL.md"}),
            ("bash", {"command": r"printf '\211PNG\377' > /workspace/a.png; seq 1500000"}),
            ("read", {"file_path": "a.png"}),
            ("bash", {"command": "echo partly; sleep 371", "timeout_ms": 300}),
            ("read", {"file_path": "absent"}),
        ],
        token="sessions-token",
        skill={"SKILL.md": "Count ☃."},
    )
    second = Agent(
        [("glob", {"pattern": "note"}), ("bash", {"command": "pgrep -fx 'sleep 371' || echo gone"})]
    )
    await work(client, tmp_path, first, second)
    assert [result["is_error"] for result in first.results] == [False, True, False, False, False, True, True]
    texts = first.texts
    assert texts[:3] == ["/tmp\n", "ä☃\noh\nexit code 3", "Count ☃."]
    assert len(texts[3]) <= 100 * 1024
    (picture,) = first.results[4]["content"]
    assert base64.b64decode(picture["source"]["data"]) == b"\x89PNG\xff"
    assert texts[5] == "partly\nbash: stopped after 300 ms"
    assert texts[6].startswith("read: ")
    assert second.texts == ["no matches", "gone\n"]
    assert await ids(client) == before
    left = [entry async for entry in anyio.Path(tmp_path).glob("skills/*")]
    assert left == []


async def test_an_agent_reads_that_its_sandbox_died_and_the_next_one_has_another(
    client: SandboxClient, tmp_path: Path
) -> None:
    before = await ids(client)

    async def destroy() -> None:
        (mine,) = await ids(client) - before
        await (await client.get_session(mine)).destroy()

    true = ("bash", {"command": "echo here"})
    first, second = Agent([true, destroy, true]), Agent([true])
    await work(client, tmp_path, first, second)
    assert [result["is_error"] for result in first.results] == [False, True]
    assert "SessionNotFoundError" in first.texts[1]
    assert second.texts == ["here\n"]
    assert await ids(client) == before


async def test_work_that_is_called_off_ends_with_its_command_and_its_sandbox(
    client: SandboxClient, tmp_path: Path
) -> None:
    """The worker lets a tool come to its end, which is that of its time at the latest."""
    before = await ids(client)
    command = ("bash", {"command": "echo partly; sleep 372", "timeout_ms": 2000})
    agent = Agent([command, command], beats=["active", "stopping"])
    await work(client, tmp_path, agent)
    assert agent.texts == ["partly\nbash: stopped after 2000 ms"]
    assert await ids(client) == before
