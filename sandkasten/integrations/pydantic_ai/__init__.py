"""Sandboxes as workspaces of Pydantic AI; needs the extra `pydantic-ai`.

An agent's workspace is a session::

    from pydantic_ai import Agent
    from pydantic_ai.workspaces import Workspace

    from sandkasten import SandboxClient
    from sandkasten.integrations.pydantic_ai import SandkastenWorkspace

    async with SandboxClient() as client:
        workspace = Workspace(SandkastenWorkspace(client))
        ...  # see docs/harnesses.md

The session is made at the first use, and its id is the workspace's `ref`: by it another backend, in another
process too, works in the same session. It ends when you say so (`destroy`), when it was not used for its
`ttl_seconds`, or with its daemon, which for an embedded one is with the client.
"""

from sandkasten.integrations.pydantic_ai.workspace import SandkastenWorkspace

__all__ = ["SandkastenWorkspace"]
