"""Sandboxes that run the code of agents of AutoGen; needs the extra `autogen`.

An executor has a session from its start to its end::

    from autogen_agentchat.agents import CodeExecutorAgent

    from sandkasten import SandboxClient
    from sandkasten.integrations.autogen import SandkastenCodeExecutor

    async with SandboxClient() as client, SandkastenCodeExecutor(client) as executor:
        agent = CodeExecutorAgent("runner", code_executor=executor)
"""

from sandkasten.integrations.autogen.executor import SandkastenCodeExecutor

__all__ = ["SandkastenCodeExecutor"]
