"""Sessions are built here: an image, files, a control group and a sandbox become one with a shell in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from sandkasten.local.errors import ApiError, SandboxLostError, exhausted
from sandkasten.local.files.budget import Budget
from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.images.catalogue import Catalogue
from sandkasten.local.isolation.backend import Sandbox, Wanted
from sandkasten.local.isolation.causes import explain
from sandkasten.local.isolation.policy import Image, PackagePlaces
from sandkasten.local.limits.cgroups import Group
from sandkasten.local.limits.limits import Limits
from sandkasten.local.packages.installer import Installer
from sandkasten.local.packages.placing import make_places
from sandkasten.local.packages.store import Environment
from sandkasten.local.packages.target import minor_of
from sandkasten.local.sessions.session import Remains, Session, Site
from sandkasten.local.sessions.settings import Settings
from sandkasten.local.sessions.shell import Shell
from sandkasten.local.sessions.terminal import Turns
from sandkasten.local.threads import in_thread


class CleanUps:
    """The clean-ups that run in threads after sessions ended; the daemon waits for them before it ends."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tasks = set[asyncio.Task[None]]()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin one, whoever waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self) -> None:
        """Wait until there is none."""
        while self._tasks:
            await asyncio.gather(*self._tasks)


class Builder:
    """Builds the sessions of one daemon, and clears away what does not come to be."""

    def __init__(
        self,
        settings: Settings,
        workspaces: Workspaces,
        images: Catalogue,
        clean_ups: CleanUps,
        of_workspace: Callable[[str], Iterable[Session]],
        *,
        installer: Installer | None,
    ) -> None:
        """Build by a daemon's settings; see `Session` for `of_workspace`."""
        self._installer = installer
        self._settings = settings
        self._workspaces = workspaces
        self._images = images
        self._clean_ups = clean_ups
        self._of_workspace = of_workspace
        self._turns = Turns()
        self._budget = Budget()

    async def build(
        self,
        session_id: str,
        image: Image,
        on_lost: Callable[[], None],
        workspace_id: str | None = None,
        *,
        host_network: bool = False,
        limits: Limits | None = None,
        environment: Environment | None = None,
    ) -> Session:
        """Build a session and wait until its shell is ready.

        Args:
            session_id: a new one.
            image: what it runs on.
            on_lost: called if its sandbox ends by itself.
            workspace_id: whose files it works on; None: files of its own.
            host_network: whether it has the network of this machine.
            limits: what it may take; None: what the daemon's sessions may.
            environment: the packages that it has from the beginning.

        Raises:
            ApiError: INVALID_WORKSPACE, CAPACITY_EXCEEDED where the machine has too little left, or
                INTERNAL_ERROR with what bubblewrap said.
        """
        held = await self._images.hold(image, session_id)
        try:
            remains = Remains(
                session_id,
                self._settings.run_dir / "sessions" / session_id,
                self._images,
                self._workspaces,
            )
            limits = limits or self._settings.limits
            site = partial(
                self._prepare, held, remains, workspace_id, limits, environment, host_network=host_network
            )
            return await self._build(site, remains, limits, on_lost)
        except BaseException:
            self._images.release(session_id)
            raise

    async def _build(
        self,
        prepare: Callable[[], Awaitable[Site]],
        remains: Remains,
        limits: Limits,
        on_lost: Callable[[], None],
    ) -> Session:
        # In a thread, as moving a process into a group takes the kernel milliseconds and holds up the others.
        making = asyncio.create_task(
            asyncio.to_thread(self._settings.cgroups.create, remains.session_id, limits)
        )
        shell: Shell | None = None
        try:
            site = await prepare()
            sandbox = self._start(site)
            shell = Shell(sandbox, on_lost, self._turns)
            remains.group = group = await asyncio.shield(making)
            await sandbox.release(group.add)
            await shell.wait_until_ready()
        except BaseException as error:
            self._clean_ups.begin(_give_up(remains, making, shell))
            if isinstance(error, SandboxLostError):
                raise ApiError(500, "INTERNAL_ERROR", " ".join(explain(str(error), os.geteuid()))) from error
            raise
        clock = self._settings.clock
        return Session(
            site, shell, remains, clock, self._of_workspace,
            sandbox=sandbox, turns=self._turns, budget=self._budget,
        )  # fmt: skip

    async def _prepare(
        self,
        image: Image,
        remains: Remains,
        workspace_id: str | None,
        limits: Limits,
        environment: Environment | None,
        *,
        host_network: bool,
    ) -> Site:
        """Make the session's files, or take hold of the workspace that has them."""
        settings, directory = self._settings, remains.directory
        if workspace_id is not None:
            tree = await in_thread(self._workspaces.hold, workspace_id, remains.session_id)
        else:
            staging = StagingIn(directory / "staging")
            tree = Tree(directory / "root", staging, settings.identity, durable=False)
            tree.create()
        return Site(
            id=remains.session_id,
            image=image,
            workspace_id=workspace_id,
            directory=directory,
            tree=tree,
            identity=settings.identity,
            names=settings.isolation.names if host_network else None,
            limits=limits,
            bounded=settings.cgroups.bounded,
            packages=await self._place_packages(image, remains, environment),
            environment=None if environment is None else environment.digest,
        )

    async def _place_packages(
        self, image: Image, remains: Remains, environment: Environment | None
    ) -> PackagePlaces | None:
        """Make the places for packages, if the image has a Python that takes some."""
        minor = None if self._installer is None else minor_of(image)
        if self._installer is None or minor is None:
            return None
        if environment is not None:
            remains.environment = await in_thread(self._installer.hold, environment)
        return make_places(remains.packages, minor, environment)

    def _start(self, site: Site) -> Sandbox:
        # Not in another thread: the kernel ends a sandbox together with the thread that made it.
        try:
            return self._settings.isolation.start(
                Wanted(
                    site.image,
                    site.tree.workspace,
                    host_network=site.names is not None,
                    limits=site.limits,
                    packages=site.packages,
                )
            )
        except OSError as error:
            refusal = exhausted(error)
            if refusal is None:
                raise
            raise refusal from error


async def _give_up(remains: Remains, making: asyncio.Task[Group], shell: Shell | None) -> None:
    if shell is not None:
        remains.reap = shell.close()
    await asyncio.wait([making])
    remains.group = None if making.exception() else making.result()
    await asyncio.to_thread(remains.remove)
