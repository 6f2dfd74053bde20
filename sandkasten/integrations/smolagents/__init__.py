"""Sandboxes that run the code of agents of smolagents; needs the extra `smolagents`.

The agent's code runs in a session's Python, whose variables stay::

    from smolagents import CodeAgent

    from sandkasten.integrations.smolagents import SandkastenExecutor
    from sandkasten_sync import SandboxClient

    with SandboxClient() as client, client.create_session() as session:
        agent = CodeAgent(tools=[], model=model, executor=SandkastenExecutor(session))
        agent.run("How much is 6 * 7?")

Nothing that comes from the sandbox is unpickled: answers come as JSON.
"""

from sandkasten.integrations.smolagents.executor import SandkastenExecutor

__all__ = ["SandkastenExecutor"]
