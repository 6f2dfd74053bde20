"""Sandboxes for the evaluations of Inspect; needs the extra `inspect-ai`.

Inspect finds the provider by its entry point, so that a task only names it::

    from inspect_ai import Task

    Task(dataset=dataset, solver=solver, scorer=scorer, sandbox="sandkasten")

Each sample gets a session, which ends with the sample. The sessions are of the daemon at
`SANDKASTEN_BASE_URL`, else of an embedded one, which ends with the evaluation.

A session has one user, who is not root. For another user, `exec` raises `SandboxUserUnsupportedError`: making
a second one would need rights of root in the sandbox, which no code in it has. Tools of Inspect that would
like to be root work as the session's user.
"""

from sandkasten.integrations.inspect_ai.environment import SandkastenConfig, SandkastenEnvironment

__all__ = ["SandkastenConfig", "SandkastenEnvironment"]
