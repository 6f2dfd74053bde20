"""A sandbox for deepagents; needs the extra `deepagents`.

The agent's files and its `execute` tool are those of a session::

    from deepagents import create_deep_agent

    from sandkasten import SandboxClient
    from sandkasten.integrations.deepagents import SandkastenBackend

    async with SandboxClient() as client, await client.create_session() as session:
        agent = create_deep_agent(model, backend=SandkastenBackend(async_session=session))
        await agent.ainvoke({"messages": [("user", "Which Python is installed?")]})

Each command runs in a fresh bash in /workspace, and knows nothing of the ones before it, as deepagents
expects. The image needs Python, with which deepagents reads, edits and finds files. Errors that a model can
fix come to it as text. Other errors (the session is gone, the daemon cannot be reached) are raised as
`SandkastenError`.
"""

from sandkasten.integrations.deepagents.backend import SandkastenBackend

__all__ = ["SandkastenBackend"]
