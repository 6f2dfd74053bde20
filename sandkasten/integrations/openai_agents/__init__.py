"""Sandboxes for the OpenAI Agents SDK; needs the extra `openai-agents`.

A session's verbs as function tools::

    from agents import Agent, Runner

    from sandkasten import SandboxClient
    from sandkasten.integrations.openai_agents import sandbox_tools

    async with SandboxClient() as client, await client.create_session() as session:
        agent = Agent(name="coder", tools=sandbox_tools(session))
        result = await Runner.run(agent, "Which Python is installed?")

Errors that a model can fix come to it as text. Other errors (the session is gone, the daemon cannot be
reached) end the run: the SDK raises `agents.UserError`, and its `__cause__` is the `SandkastenError`.

`sandkasten.integrations.openai_agents.sandbox` has the client for the SDK's own sandbox agents.
"""

from sandkasten.integrations.openai_agents.tools import (
    HasSandbox,
    context_tools,
    sandbox_of,
    sandbox_tools,
)
from sandkasten.integrations.users import sandbox_for_user, workspace_id_for_user

__all__ = [
    "HasSandbox",
    "context_tools",
    "sandbox_for_user",
    "sandbox_of",
    "sandbox_tools",
    "workspace_id_for_user",
]
