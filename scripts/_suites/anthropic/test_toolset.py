"""The tools of Claude's self-hosted worker in our sandbox, called as the worker calls them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from anthropic.lib.environments import EnvironmentWorker
from anthropic.lib.tools import ToolError
from anthropic.lib.tools._beta_functions import aclose_runnable_tool
from anthropic.lib.tools.agent_toolset import AgentToolContext, beta_agent_toolset_20260401

from sandkasten import SandboxClient, SessionNotFoundError
from sandkasten.integrations.anthropic import SandkastenToolset

pytestmark = pytest.mark.anyio


class Tools:
    """The tools of a session, as the worker makes and ends them."""

    def __init__(self, client: SandboxClient, workdir: Path) -> None:
        toolset = SandkastenToolset(client)
        worker = EnvironmentWorker(AsyncAnthropic(api_key="none"), workdir=workdir, tools=toolset)
        self.tools = {tool.name: tool for tool in worker._tools_for(AgentToolContext(workdir=workdir))}

    async def use(self, name: str, **given: Any) -> Any:
        return await self.tools[name].call(given)

    async def close(self) -> None:
        for tool in self.tools.values():
            await aclose_runnable_tool(tool)


@pytest.fixture
async def tools(client: SandboxClient, tmp_path: Path) -> AsyncIterator[Tools]:
    (tmp_path / "skills" / "count").mkdir(parents=True)
    (tmp_path / "skills" / "count" / "SKILL.md").write_text("Count ä.")
    tools = Tools(client, tmp_path)
    yield tools
    await tools.close()


async def test_they_are_those_of_the_package(client: SandboxClient, tmp_path: Path) -> None:
    theirs = {tool.name: tool.input_schema for tool in beta_agent_toolset_20260401(AgentToolContext())}
    tools = Tools(client, tmp_path).tools
    assert {name: tool.input_schema for name, tool in tools.items()} == theirs


async def test_a_session_has_a_sandbox_of_its_own_with_its_skills(
    client: SandboxClient, tools: Tools
) -> None:
    before = {info.id for info in await client.list_sessions()}
    assert await tools.use("read", file_path="skills/count/SKILL.md") == "Count ä."
    assert len(await client.list_sessions()) == len(before) + 1
    await tools.close()
    assert {info.id for info in await client.list_sessions()} == before


async def test_bash_remembers_until_it_is_restarted(tools: Tools) -> None:
    assert await tools.use("bash", command="x=ä☃; cd /tmp; echo $x") == "ä☃\n"
    assert await tools.use("bash", command="echo $x; pwd") == "ä☃\n/tmp\n"
    assert await tools.use("bash", restart=True) == "bash session restarted"
    assert await tools.use("bash", command="echo [$x]") == "[]\n"
    with pytest.raises(ToolError, match=r"oh\n.*exit code 3"):
        await tools.use("bash", command="echo oh >&2; exit 3")
    with pytest.raises(ToolError, match="required"):
        await tools.use("bash")


async def test_a_timeout_is_said_with_the_output_and_a_cancelled_command_stops(tools: Tools) -> None:
    with pytest.raises(ToolError, match=r"partly\n.*stopped after 500 ms"):
        await tools.use("bash", command="echo partly; sleep 351", timeout_ms=500)
    command = asyncio.create_task(tools.use("bash", command="touch started; sleep 352"))
    while "started" not in await tools.use("glob", pattern="*"):
        pass
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert await tools.use("bash", command="pgrep -fx 'sleep 35[12]' || echo none") == "none\n"


async def test_ten_megabytes_lose_their_middle(tools: Tools) -> None:
    said = await tools.use("bash", command="seq 1500000")
    assert len(said) <= 100 * 1024
    assert said.endswith("\n1500000\n")


async def test_files_are_written_edited_read_and_found(tools: Tools) -> None:
    assert await tools.use("write", file_path="d/ä.txt", content="eins\nzwei ☃\neins\n") == (
        "wrote 19 bytes to d/ä.txt"
    )
    assert await tools.use("read", file_path="/workspace/d/ä.txt", view_range=[2, 2]) == "zwei ☃\n"
    assert await tools.use("edit", file_path="d/ä.txt", old_string="zwei", new_string="2")
    with pytest.raises(ToolError, match="2 times"):
        await tools.use("edit", file_path="d/ä.txt", old_string="eins", new_string="1")
    await tools.use("edit", file_path="d/ä.txt", old_string="eins", new_string="1", replace_all=True)
    assert await tools.use("read", file_path="d/ä.txt") == "1\n2 ☃\n1\n"
    assert await tools.use("glob", pattern="**/*.txt") == "d/ä.txt"
    assert await tools.use("grep", pattern="^2") == "d/ä.txt:2:2 ☃"
    assert await tools.use("grep", pattern="nothing") == "no matches"


async def test_binary_files(tools: Tools) -> None:
    await tools.use("bash", command=r"printf '\211PNG\377' > a.png; cp a.png a.bin")
    (block,) = await tools.use("read", file_path="a.png")
    assert block["type"] == "image"
    assert base64.b64decode(block["source"]["data"]) == b"\x89PNG\xff"
    with pytest.raises(ToolError, match="UTF-8"):
        await tools.use("read", file_path="a.bin")
    await tools.use("bash", command="head -c 300000 /dev/zero > big")
    with pytest.raises(ToolError, match="view_range"):
        await tools.use("read", file_path="big")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("read", {"file_path": "absent"}),
        ("read", {"file_path": "absent", "view_range": [1, 2]}),
        ("read", {"file_path": "/workspace"}),
        ("write", {"file_path": "/proc/x", "content": ""}),
        ("edit", {"file_path": "absent", "old_string": "a", "new_string": "b"}),
        ("glob", {"pattern": "/etc/*"}),
        ("grep", {"pattern": "("}),
    ],
)
async def test_the_model_reads_what_it_can_fix(tools: Tools, name: str, given: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match=f"^{name}: "):
        await tools.use(name, **given)


async def test_a_sandbox_that_died_is_said(client: SandboxClient, tools: Tools) -> None:
    before = {info.id for info in await client.list_sessions()}
    await tools.use("bash", command="true")
    (mine,) = {info.id for info in await client.list_sessions()} - before
    await (await client.get_session(mine)).destroy()
    with pytest.raises(SessionNotFoundError):
        await tools.use("bash", command="true")
