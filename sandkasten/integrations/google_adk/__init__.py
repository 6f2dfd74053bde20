"""Sandboxes for agents of Google's ADK; needs the extra `google-adk`.

The code that the model writes runs in a session::

    from google.adk.agents import LlmAgent

    from sandkasten.integrations.google_adk import SandkastenCodeExecutor
    from sandkasten_sync import SandboxClient

    with SandboxClient() as client, client.create_session() as session:
        agent = LlmAgent(name="coder", model=model, code_executor=SandkastenCodeExecutor(session))

`SandkastenEnvironment` is the same for ADK's `EnvironmentToolset`, whose tools are commands and files.
"""

from sandkasten.integrations.google_adk.environment import SandkastenEnvironment
from sandkasten.integrations.google_adk.executor import SandkastenCodeExecutor

__all__ = ["SandkastenCodeExecutor", "SandkastenEnvironment"]
