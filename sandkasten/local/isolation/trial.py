"""A sandbox that is built, entered and ended as those of sessions are, so that it fails where they would.

It takes the same steps with the same code: a workspace that belongs to the sandbox's user, bubblewrap with
the filter of system calls, process 1 taken hold of and put into its group, a shell, and a command in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from sandkasten.local.errors import IsolationError
from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.tree import Tree
from sandkasten.local.identity import Identity
from sandkasten.local.isolation.policy import SandboxPolicy
from sandkasten.local.isolation.sandbox import Sandbox
from sandkasten.local.linux import loop
from sandkasten.local.sessions.command import SandboxLostError
from sandkasten.local.sessions.shell import Shell

_COMMAND_SECONDS = 20.0


def try_a_sandbox(
    bwrap: str, policy: SandboxPolicy, identity: Identity, confine: Callable[[int], None]
) -> str | None:
    """Build a sandbox, whose workspace is made for it; return what bubblewrap complains of, or None.

    Args:
        bwrap: bubblewrap's path.
        policy: what the sandbox is made of.
        identity: whom it runs as.
        confine: puts process 1 into its group.

    Raises:
        IsolationError: something else than bubblewrap fails; the text says what.
    """
    root = policy.workspace.parent
    try:
        Tree(root, StagingIn(root), identity, durable=False).create()
        loop.run(_use_a_sandbox(bwrap, policy, identity, confine))
    except SandboxLostError as error:
        return str(error)
    except OSError as error:
        what = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
        raise IsolationError(
            f"A sandbox was tried, and could not be taken hold of: {what}.",
            "Try as another user, or with fewer restrictions on this process.",
        ) from error
    return None


def probe_workspace(run_dir: Path) -> Path:
    """Where the workspace of such a sandbox is."""
    return run_dir / "probe" / "workspace"


async def _use_a_sandbox(
    bwrap: str, policy: SandboxPolicy, identity: Identity, confine: Callable[[int], None]
) -> None:
    shell = None
    try:
        sandbox = Sandbox.start(bwrap, policy, identity)
        shell = Shell(sandbox, on_lost=_nothing)
        await sandbox.release(confine)
        await shell.wait_until_ready()
        command = shell.submit("true", _COMMAND_SECONDS)
        while await command.next_output() is not None:
            pass
        if command.outcome is None or command.outcome.exit_code:
            raise SandboxLostError("no command can be run in its shell")
    finally:
        if shell is not None:
            await asyncio.to_thread(shell.close())


def _nothing() -> None:
    """What happens when the sandbox ends by itself: the shell says so."""
