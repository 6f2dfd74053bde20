"""Sandboxes for agents of Strands; needs the extra `strands`.

The agent's shell and file editor work in a session::

    from strands import Agent

    from sandkasten.integrations.strands import SandkastenSandbox
    from sandkasten_sync import SandboxClient

    with SandboxClient() as client, client.create_session() as session:
        agent = Agent(sandbox=SandkastenSandbox(session))
        agent("Which Python is installed?")

Programs that await `agent.invoke_async()` pass a session of `sandkasten`. An agent that is called otherwise
has an event loop of its own in each call, to which such a session does not belong.
"""

from sandkasten.integrations.strands.sandbox import SandkastenSandbox

__all__ = ["SandkastenSandbox"]
