"""Sandboxes for Claude's self-hosted environments; needs the extra `anthropic`.

The worker of the package `anthropic` serves each session of an agent with tools that work in a sandbox of its
own, where its own tools would run commands on this machine::

    from anthropic import AsyncAnthropic
    from anthropic.lib.environments import EnvironmentWorker

    from sandkasten import SandboxClient
    from sandkasten.integrations.anthropic import SandkastenToolset

    async with SandboxClient() as client:
        tools = SandkastenToolset(client)
        await EnvironmentWorker(AsyncAnthropic(), environment_id=..., environment_key=..., tools=tools).run()
"""

from sandkasten.integrations.anthropic.toolset import SandkastenToolset

__all__ = ["SandkastenToolset"]
