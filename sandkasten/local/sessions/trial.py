"""A sandbox that is built, entered and ended as those of sessions are, so that it fails where they would.

It takes the same steps with the same code: a workspace that belongs to the sandbox's user, a backend's own
`start`, process 1 taken hold of and put into its group, a shell, and a command in it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sandkasten.local.errors import IsolationError, SandboxLostError
from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.tree import Tree
from sandkasten.local.identity import Identity
from sandkasten.local.isolation.backend import Backend, Sandbox, Wanted
from sandkasten.local.isolation.programs import CannotSpawnError, Program
from sandkasten.local.limits.cgroups import Cgroups
from sandkasten.local.limits.limits import Limits
from sandkasten.local.linux import loop
from sandkasten.local.sessions.shell import Shell

_NAME = "trial"
_TIMEOUT_MS = 20_000
_PROGRAM = Program((b"true",), {b"PATH": b"/usr/bin:/bin"}, b"/")


def try_in_group(
    backend: Backend, directory: Path, identity: Identity, cgroups: Cgroups, limits: Limits
) -> str | None:
    """Try a sandbox as a session of a daemon has it, in a control group; see `try_a_sandbox`."""
    try:
        group = cgroups.create(_NAME, limits)
    except OSError as error:
        raise IsolationError(
            f"A sandbox's control group cannot be made: {error.strerror} ({error.filename}).",
            "Look at it: python -m sandkasten.local doctor",
        ) from error
    try:
        return try_a_sandbox(backend, directory, identity, group.add)
    finally:
        group.kill()
        with suppress(OSError):  # a TimeoutError as well; what is left, the next daemon removes
            group.remove()


def try_a_sandbox(
    backend: Backend, directory: Path, identity: Identity, confine: Callable[[int], None]
) -> str | None:
    """Build a sandbox and run a command in it; return what bubblewrap complains of, or None.

    Args:
        backend: builds it.
        directory: for what ends with this process; the sandbox's workspace is made there.
        identity: whom it runs as.
        confine: puts process 1 into its group.

    Raises:
        IsolationError: something else than bubblewrap fails; the text says what.
    """
    root = directory / _NAME
    tree = Tree(root, StagingIn(root), identity, durable=False)
    try:
        tree.create()
        loop.run(_use_a_sandbox(backend, tree.workspace, confine))
    except SandboxLostError as error:
        return str(error)
    except OSError as error:
        what = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
        raise IsolationError(
            f"A sandbox was tried, and could not be taken hold of: {what}.",
            "Try as another user, or with fewer restrictions on this process.",
        ) from error
    return None


async def _use_a_sandbox(backend: Backend, workspace: Path, confine: Callable[[int], None]) -> None:
    shell = None
    try:
        sandbox = backend.start(Wanted(backend.images["base"], workspace))
        shell = Shell(sandbox, on_lost=_nothing)
        await sandbox.release(confine)
        await shell.wait_until_ready()
        command = shell.submit("true", _TIMEOUT_MS)
        while await command.next_output() is not None:
            pass
        if command.outcome is None or command.outcome.exit_code:
            raise SandboxLostError("no command can be run in its shell")
        if backend.can_spawn:
            await _try_a_program(backend, sandbox)
    finally:
        if shell is not None:
            await asyncio.to_thread(shell.close())


async def _try_a_program(backend: Backend, sandbox: Sandbox) -> None:
    """Start a program beside the shell; where that fails, sandboxes do without."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        process = await sandbox.spawn(_PROGRAM, null, null, null)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        process.on_ended(ended.set_result)
        async with asyncio.timeout(_TIMEOUT_MS / 1000):
            code = await asyncio.shield(ended)
        if code:
            backend.refuse_to_spawn(f"Processes beside the shell cannot be started: one ended with {code}.")
    except CannotSpawnError as error:
        backend.refuse_to_spawn(str(error))
    except OSError as error:  # a TimeoutError as well
        why = error.strerror or "it takes too long"
        backend.refuse_to_spawn(f"Processes beside the shell cannot be started: {why}.")
    finally:
        os.close(null)


def _nothing() -> None:
    """Do nothing when the sandbox ends by itself, as the shell reports it."""
