"""The sessions' lifetimes: made, found, renewed, expired, destroyed."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sandkasten.local.api.bodies import CreateBody
from sandkasten.local.api.bodystream import in_thread
from sandkasten.local.clock import Timer
from sandkasten.local.errors import ApiError, exhausted, invalid_request
from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.quota import DiskQuota, WorkspaceQuotas
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.images.built_in import programs_of
from sandkasten.local.images.catalogue import Catalogue
from sandkasten.local.isolation.causes import explain
from sandkasten.local.isolation.names import HostNames
from sandkasten.local.isolation.policy import Image, SandboxPolicy
from sandkasten.local.isolation.sandbox import Sandbox
from sandkasten.local.limits.cgroups import Group
from sandkasten.local.linux.scratch import remove_tree
from sandkasten.local.observe.observer import Observer
from sandkasten.local.sessions.command import Command, SandboxLostError
from sandkasten.local.sessions.pool import WarmPool
from sandkasten.local.sessions.settings import Settings
from sandkasten.local.sessions.shell import Shell

# How many ended sessions are remembered, so that asking for one tells what became of it.
_REMEMBERED_MAX = 10_000
_EXPIRED = "expired"


@dataclass
class Session:
    """A running session."""

    id: str
    image: str
    workspace_id: str | None
    tree: Tree
    shell: Shell
    group: Group
    quota: DiskQuota
    names: HostNames | None = None
    programs: tuple[str, ...] = ()
    ttl_seconds: int = 0
    acquire_source: str = "cold"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_activity: datetime = field(default_factory=lambda: datetime.now(UTC))
    timer: Timer | None = None

    @property
    def info(self) -> dict[str, Any]:
        """As the wire protocol tells it."""
        info = {
            "id": self.id,
            "image": self.image,
            "status": "running",
            "cwd": self.shell.cwd,
            "created_at": self.created_at.isoformat(),
            "expires_at": (self.last_activity + timedelta(seconds=self.ttl_seconds)).isoformat(),
            "last_activity": self.last_activity.isoformat(),
            "acquire_source": self.acquire_source,
            "network": "none" if self.names is None else "host",
            "programs": self.programs,
        }
        return info | ({"workspace_id": self.workspace_id} if self.workspace_id else {})

    def submit(self, command: str, timeout_seconds: float) -> Command:
        """Run a command in the shell, and watch what it does to the disk.

        Raises:
            SandboxLostError: the sandbox is gone.
        """
        self.quota.watch()
        if self.names is not None:
            self.names.refresh()
        return self.shell.submit(command, timeout_seconds)


class Manager:
    """All sessions of a daemon. Lives in the event loop's thread."""

    def __init__(
        self, settings: Settings, workspaces: Workspaces, images: Catalogue, observer: Observer
    ) -> None:
        """Start with no sessions."""
        self.workspaces = workspaces
        self.clock = settings.clock
        self._settings = settings
        self._images = images
        self._observer = observer
        self._closing = False
        self._sessions: dict[str, Session] = {}
        self._starting = 0
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._claimed = Counter[str]()  # workspaces of sessions in the making
        self._deleting = set[str]()
        self.quotas = WorkspaceQuotas(settings.limits.workspace_bytes)
        self._clean_ups: set[asyncio.Task[None]] = set()
        self._pool = WarmPool(settings.pool_size, self._build_warm)

    async def create(self, asked: CreateBody) -> Session:
        """Make a session and wait until its shell is ready.

        Raises:
            ApiError: INVALID_IMAGE, INVALID_WORKSPACE, CAPACITY_EXCEEDED, INVALID_REQUEST for a network
                that this daemon does not give, CAPACITY_EXCEEDED where the machine has too
                little left, or INTERNAL_ERROR with what bubblewrap said.
        """
        image = await self._images.find(asked.image)
        if self._closing:
            raise ApiError(503, "SHUTTING_DOWN", "The daemon is about to end.")
        limit = self._settings.max_sessions
        if len(self._sessions) + self._starting >= limit:
            raise ApiError(429, "CAPACITY_EXCEEDED", f"All {limit} sessions of this daemon are in use.")
        if asked.host_network and not self._settings.allow_host_network:
            raise invalid_request("This daemon gives its sessions no network. Its operator can allow it.")
        self._starting += 1
        self.quotas.forget(asked.workspace_id)
        try:
            with self._claim(asked.workspace_id):
                session = await self._from_pool_or_new(image, asked)
        finally:
            self._starting -= 1
        session.ttl_seconds = asked.ttl_seconds or self._settings.default_ttl_seconds
        session.created_at = self.clock.now()
        self._sessions[session.id] = session
        self._observer.session_created(session.id, session.image, session.acquire_source)
        self.renew(session)
        return session

    @contextmanager
    def _claim(self, workspace_id: str | None) -> Generator[None, None, None]:
        """Keep a workspace from being deleted."""
        if workspace_id is None:
            yield
            return
        if workspace_id in self._deleting:
            says = f"The workspace {workspace_id!r} is just being deleted. Try again."
            raise ApiError(409, "CONFLICT", says)
        self._claimed[workspace_id] += 1
        try:
            yield
        finally:
            self._claimed[workspace_id] -= 1
            if not self._claimed[workspace_id]:
                del self._claimed[workspace_id]

    async def delete_workspace(self, workspace_id: str) -> None:
        """Delete one that no session uses.

        Raises:
            ApiError: INVALID_REQUEST, one does; and what `Workspaces.delete` raises.
        """
        users = [session.id for session in self.list() if session.workspace_id == workspace_id]
        if users or workspace_id in self._claimed:
            user = f"session {users[0]}" if users else "a session that is just being made"
            raise invalid_request(f"The workspace {workspace_id!r} is in use by {user}. Destroy that first.")
        self._deleting.add(workspace_id)
        try:
            await asyncio.to_thread(self.workspaces.delete, workspace_id)
            self.quotas.forget(workspace_id)
        finally:
            self._deleting.discard(workspace_id)

    async def _from_pool_or_new(self, image: Image, asked: CreateBody) -> Session:
        # An image that can be replaced or removed is not used before somebody asks for it.
        if asked.workspace_id is not None or asked.host_network or not self._images.is_built_in(image):
            return await self._build(image, asked.workspace_id, host_network=asked.host_network)
        session = self._pool.take(image.name)
        if session is None:
            return await self._build(image, None)
        session.acquire_source = "pool"
        return session

    @property
    def output_bytes(self) -> int:
        """How much of a command's output is kept."""
        return self._settings.limits.output_bytes

    @property
    def pool_ready(self) -> int:
        """How many sessions are ready before anybody asked."""
        return len(self._pool)

    def get(self, session_id: str) -> Session:
        """Find a running session.

        Raises:
            ApiError: SESSION_NOT_FOUND or SESSION_EXPIRED.
        """
        if session_id in self._sessions:
            return self._sessions[session_id]
        end = self._ended.get(session_id)
        if end == _EXPIRED:
            raise ApiError(410, "SESSION_EXPIRED", f"The session {session_id} was not used for its lifetime.")
        became = f" ({end})" if end else ""
        raise ApiError(404, "SESSION_NOT_FOUND", f"There is no session {session_id[:64]!r}{became}.")

    def list(self) -> list[Session]:
        """All running sessions, oldest first."""
        return list(self._sessions.values())

    def renew(self, session: Session) -> None:
        """Count a session's lifetime from now on; one that ended, under its last command, has none."""
        if self._sessions.get(session.id) is not session:
            return
        session.last_activity = self.clock.now()
        self._set_timer(session)

    async def destroy(self, session_id: str) -> bool:
        """End a session; nothing of it is left when this returns. Return whether it was still there.

        Raises:
            ApiError: SESSION_NOT_FOUND for one that never was, or SESSION_EXPIRED.
        """
        if self._ended.get(session_id, _EXPIRED) != _EXPIRED:
            return False
        await self._end(self.get(session_id), "it was destroyed")
        return True

    def end_unwanted(self, session: Session) -> None:
        """End a session whose client went before it knew of it."""
        self._end(session, "its client left")

    async def close(self) -> None:
        """End all sessions, and make no more."""
        self._closing = True
        for session in self.list():
            self._end(session, "the daemon stopped")
        for session in await self._pool.close():
            self._discard(session)
        while self._clean_ups:
            await asyncio.gather(*self._clean_ups)

    async def _build(self, image: Image, workspace_id: str | None, *, host_network: bool = False) -> Session:
        session_id = self._new_id()
        held = await self._images.hold(image, session_id)
        try:
            return await self._build_from(held, session_id, workspace_id, host_network=host_network)
        except BaseException:
            self._images.release(session_id)
            raise

    async def _build_from(
        self, image: Image, session_id: str, workspace_id: str | None, *, host_network: bool
    ) -> Session:
        directory = self._settings.run_dir / "sessions" / session_id
        # In threads, as moving a process into a group takes the kernel milliseconds and holds up the others.
        cgroups, limits = self._settings.cgroups, self._settings.limits
        making = asyncio.create_task(asyncio.to_thread(cgroups.create, session_id, limits))
        shell: Shell | None = None
        try:
            tree = await self._make_tree(directory, workspace_id)
            policy = self._policy(image, tree, host_network=host_network)
            sandbox = self._start(policy)
            shell = Shell(sandbox, on_lost=lambda: self._on_lost(session_id))
            group = await asyncio.shield(making)
            await sandbox.release(group.add)
            await shell.wait_until_ready()
        except BaseException as error:
            self._keep(self._give_up(making, shell, directory))
            if isinstance(error, SandboxLostError):
                raise ApiError(500, "INTERNAL_ERROR", explain(str(error), os.geteuid())) from error
            raise
        quota = DiskQuota(
            tree,
            self._settings.limits.workspace_bytes,
            is_running=lambda: shell.has_work,
            on_exceeded=shell.stop_all,
            members=lambda: self._members(shell, workspace_id),
        )
        names = self._settings.names if host_network else None
        programs = programs_of(image)
        return Session(session_id, image.name, workspace_id, tree, shell, group, quota, names, programs)

    def _members(self, shell: Shell, workspace_id: str | None) -> Iterable[int]:
        """Return the processes of all sessions that use a session's workspace; called in threads."""
        others = [one.shell for one in list(self._sessions.values()) if one.workspace_id == workspace_id]
        shells = {shell, *others} if workspace_id is not None else {shell}
        return [pid for one in shells for pid in one.members]

    def _start(self, policy: SandboxPolicy) -> Sandbox:
        # Not in another thread: the kernel ends a sandbox together with the thread that made it.
        try:
            return Sandbox.start(self._settings.bwrap, policy, self._settings.identity)
        except OSError as error:
            refusal = exhausted(error)
            if refusal is None:
                raise
            raise refusal from error

    async def _give_up(self, making: asyncio.Task[Group], shell: Shell | None, directory: Path) -> None:
        reap = _nothing if shell is None else shell.close()
        await asyncio.wait([making])
        await self._clean_up(reap, None if making.exception() else making.result(), directory)

    def _policy(self, image: Image, tree: Tree, *, host_network: bool) -> SandboxPolicy:
        etc, links, names = self._images.etc(image, self._settings.etc), {}, self._settings.names
        if host_network:
            names.refresh()
            etc, links = names.mounts(etc), names.links
        return SandboxPolicy(
            image=image,
            workspace=tree.workspace,
            etc=etc,
            seccomp=self._settings.seccomp,
            launcher=self._settings.launcher,
            ulimit=self._settings.ulimit,
            tmp_bytes=self._settings.limits.tmp_bytes,
            host_network=host_network,
            etc_links=links,
        )

    async def _make_tree(self, directory: Path, workspace_id: str | None) -> Tree:
        if workspace_id is not None:
            return await in_thread(self.workspaces.hold, workspace_id, directory.name)
        tree = Tree(
            directory / "root", StagingIn(directory / "staging"), self._settings.identity, durable=False
        )
        tree.create()
        return tree

    def _new_id(self) -> str:
        while True:
            session_id = f"{secrets.token_hex(4)}-{secrets.token_hex(2)[:3]}"
            if session_id not in self._sessions and session_id not in self._ended:
                return session_id

    def _set_timer(self, session: Session) -> None:
        if session.timer is not None:
            session.timer.cancel()
        session.timer = self.clock.call_later(session.ttl_seconds, partial(self._on_expiry, session))

    def _on_expiry(self, session: Session) -> None:
        session.timer = None
        if not session.shell.is_busy:  # otherwise the command's end renews it
            self._end(session, _EXPIRED)

    def _on_lost(self, session_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            self._end(session, "its sandbox ended")
        for warm in self._pool.remove(lambda warm: warm.id == session_id):
            self._discard(warm)

    async def _build_warm(self, image: str) -> Session:
        return await self._build(self._settings.images[image], None)

    def _discard(self, session: Session) -> asyncio.Task[None]:
        session.quota.close()
        directory = self._settings.run_dir / "sessions" / session.id
        return self._clean_up(session.shell.close(), session.group, directory)

    def _end(self, session: Session, reason: str) -> asyncio.Task[None]:
        if self._sessions.pop(session.id, None) is None:
            return asyncio.create_task(asyncio.sleep(0))
        if session.timer is not None:
            session.timer.cancel()
        self._ended[session.id] = reason
        self._observer.session_ended(session.id, reason)
        while len(self._ended) > _REMEMBERED_MAX:
            self._ended.popitem(last=False)
        return self._discard(session)

    def _clean_up(self, reap: Callable[[], None], group: Group | None, directory: Path) -> asyncio.Task[None]:
        def work() -> None:
            if group is not None:
                group.kill()
            reap()
            if group is not None:
                group.remove()
            self._images.release(directory.name)
            self.workspaces.release(directory.name)
            remove_tree(directory)

        return self._keep(asyncio.to_thread(work))

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something that `close` waits for."""
        task = asyncio.create_task(work)
        self._clean_ups.add(task)
        task.add_done_callback(self._clean_ups.discard)
        return task


def _nothing() -> None:
    """What reaps a sandbox that did not come to be."""
