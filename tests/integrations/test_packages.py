"""The tool `install_packages`, which an agent gets only if the program around it says so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import FunctionTool
from agents.tool_context import ToolContext

import sandkasten
import sandkasten_sync
from sandkasten.integrations.langchain import SandboxToolkit
from sandkasten.integrations.openai_agents import context_tools, sandbox_tools
from sandkasten.local.launch import LocalDaemon


@pytest.fixture
def daemon(package_daemon: LocalDaemon) -> LocalDaemon:
    """The daemon of the sessions here."""
    return package_daemon


async def test_an_agent_installs_a_package_and_uses_it(session: sandkasten.Session) -> None:
    def names(**options: Any) -> list[str]:
        return [tool.name for tool in sandbox_tools(session, **options)]

    assert names(allow_install=True) == [*names(), "install_packages"]
    assert context_tools(allow_install=True)[-1].name == "install_packages"
    tool = sandbox_tools(session, allow_install=True)[-1]
    assert isinstance(tool, FunctionTool)

    async def use(*packages: str) -> str:
        arguments = json.dumps({"packages": packages})
        context: Any = ToolContext(
            context=None, tool_name=tool.name, tool_call_id="1", tool_arguments=arguments
        )
        return str(await tool.on_invoke_tool(context, arguments))

    assert await use("tool", "base_part<2") == "installed: base_part 1.0, tool 1.0"
    assert (await session.exec("tool")).output == "tool 1.0\n"
    assert await use("nosuch") == "error: The package index has no package nosuch. Look at its spelling."
    assert (await use()).startswith("error: The arguments do not fit.")


def test_a_chain_has_it_too(blocking_session: sandkasten_sync.Session) -> None:
    assert "install_packages" not in {
        tool.name for tool in SandboxToolkit(session=blocking_session).get_tools()
    }
    tool = SandboxToolkit(session=blocking_session, allow_install=True).get_tools()[-1]
    message = tool.invoke(
        {"type": "tool_call", "id": "1", "name": "install_packages", "args": {"packages": ["tool"]}}
    )
    assert message.content == "installed: base_part 2.0, tool 1.0"
    assert message.artifact == {
        "packages": [{"name": "base_part", "version": "2.0"}, {"name": "tool", "version": "1.0"}]
    }
