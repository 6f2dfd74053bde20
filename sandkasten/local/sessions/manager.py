"""The sessions' lifetimes: made, found, renewed, expired, destroyed."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sandkasten._options.packages import merged
from sandkasten.local.endings import EndReason
from sandkasten.local.errors import ApiError, SandboxLostError, invalid_request
from sandkasten.local.files.quota import DiskQuota, WorkspaceQuotas
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.images.catalogue import Catalogue
from sandkasten.local.isolation.policy import Image
from sandkasten.local.limits.limits import Limits
from sandkasten.local.limits.own import as_numbers, own_limits
from sandkasten.local.limits.values import LimitsError
from sandkasten.local.linux.kernel import kernel_version
from sandkasten.local.observe.observer import Observer
from sandkasten.local.packages.giving import Packages
from sandkasten.local.packages.installer import Installer
from sandkasten.local.packages.store import Environment
from sandkasten.local.sessions.building import Builder, CleanUps
from sandkasten.local.sessions.pool import WarmPool
from sandkasten.local.sessions.session import Session, SessionSpec
from sandkasten.local.sessions.settings import Settings

# How many ended sessions are remembered, so that asking for one tells what became of it.
_REMEMBERED_MAX = 10_000
_BECAME = {
    EndReason.DESTROYED: "it was destroyed",
    EndReason.LOST: "its sandbox ended",
    EndReason.STOPPED: "the daemon stopped",
    EndReason.UNCLAIMED: "its client left",
}


class Manager:
    """All sessions of a daemon. Lives in the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        workspaces: Workspaces,
        images: Catalogue,
        observer: Observer,
        installer: Installer | None = None,
    ) -> None:
        """Start with no sessions."""
        self.workspaces = workspaces
        self._settings = settings
        self._id_prefix = "" if settings.node_tag is None else f"{settings.node_tag}-"
        self._images = images
        self._observer = observer
        self._closing = False
        # Since then sessions of the pool have an interpreter that waits for code.
        self.python_was_used = False
        self._sessions: dict[str, Session] = {}
        self._starting = list[SessionSpec]()
        self._ended: OrderedDict[str, EndReason] = OrderedDict()
        self._claimed = Counter[str]()  # workspaces of sessions in the making
        self._names = set[str]()  # and their names
        self._deleting = set[str]()
        self._quotas = WorkspaceQuotas(settings.limits.workspace_bytes)
        self._clean_ups = CleanUps()
        self._builder = Builder(
            settings, workspaces, images, self._clean_ups, self._of_workspace, installer=installer
        )
        self._installer = installer
        self._packages = (
            None if installer is None else Packages(installer, self._build_for_packages, self._discard)
        )
        self._pool = WarmPool(settings.pool_size, self._build_warm)

    async def create(self, asked: SessionSpec) -> Session:
        """Make a session and wait until its shell is ready.

        Raises:
            ApiError: INVALID_IMAGE, INVALID_WORKSPACE, CAPACITY_EXCEEDED, INVALID_REQUEST for a network
                that this daemon does not give, limits that it does not or a wrong directory, CONFLICT
                for a name that another session has, CAPACITY_EXCEEDED where the machine has too little left,
                or INTERNAL_ERROR with what bubblewrap said.
        """
        limits = self._limits_of(asked)
        image = await self._find_image(asked)
        if self._closing:
            raise ApiError(503, "SHUTTING_DOWN", "The daemon is about to end.")
        limit = self._settings.max_sessions
        if len(self._sessions) + len(self._starting) >= limit:
            raise ApiError(429, "CAPACITY_EXCEEDED", f"All {limit} sessions of this daemon are in use.")
        if asked.host_network and not self._settings.allow_host_network:
            raise invalid_request("This daemon gives its sessions no network. Its operator can allow it.")
        self._starting.append(asked)
        self._quotas.forget(asked.workspace_id)
        try:
            with self._claim(asked.workspace_id), self._named(asked.name):
                environment = await self._environment(image, asked)
                session = await self._from_pool_or_new(image, asked, limits, environment)
                await self._furnish(session, asked)
                if session.packages is not None and environment is not None:
                    session.packages.became(merged((), asked.packages), environment)
                self._sessions[session.id] = session
        finally:
            self._starting.remove(asked)
        self._observer.session_created(session.id, session.image, session.acquire_source)
        ttl_seconds = asked.ttl_seconds or self._settings.default_ttl_seconds
        session.lifetime.start(ttl_seconds, partial(self._on_expiry, session))
        return session

    async def _find_image(self, asked: SessionSpec) -> Image:
        if asked.python_environment is not None:
            return await self._images.environments.find(asked.python_environment)
        return await self._images.find(asked.image)

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
        users = self._of_workspace(workspace_id)
        if users or workspace_id in self._claimed:
            user = f"session {users[0].id}" if users else "a session that is just being made"
            raise invalid_request(f"The workspace {workspace_id!r} is in use by {user}. Destroy that first.")
        self._deleting.add(workspace_id)
        try:
            await asyncio.to_thread(self.workspaces.delete, workspace_id)
            self._quotas.forget(workspace_id)
        finally:
            self._deleting.discard(workspace_id)

    async def _environment(self, image: Image, asked: SessionSpec) -> Environment | None:
        return await self._need_packages().environment(image, asked.packages) if asked.packages else None

    def _need_packages(self) -> Packages[Session]:
        if self._packages is None:
            raise invalid_request("This daemon installs no packages. Its operator can allow them.")
        return self._packages

    async def install(self, session: Session, packages: tuple[str, ...]) -> None:
        """Give a running session more packages.

        Raises:
            ApiError: PACKAGE_FAILED, INVALID_REQUEST or INSUFFICIENT_STORAGE.
            SandboxLostError: the session ended meanwhile.
        """
        with session.lifetime.used():
            await self._need_packages().install(session, session.built_on, packages)

    async def _from_pool_or_new(
        self, image: Image, asked: SessionSpec, limits: Limits, environment: Environment | None
    ) -> Session:
        # An image that can be replaced or removed is not used before somebody asks for it.
        is_special = asked.workspace_id is not None or asked.host_network or limits != self._settings.limits
        if is_special or not self._images.is_built_in(image):
            return await self._build(
                image, asked.workspace_id, limits, host_network=asked.host_network, environment=environment
            )
        session = self._pool.take(self._pool_name(image, environment))
        if session is None:
            return await self._build(image, None, environment=environment)
        session.acquire_source = "pool"
        return session

    def _limits_of(self, asked: SessionSpec) -> Limits:
        if not asked.limits:
            return self._settings.limits
        cgroups = self._settings.cgroups
        try:
            return own_limits(
                asked.limits, self._settings.limits, cgroups.bounded, kernel_version(), cgroups.describe()
            )
        except LimitsError as error:
            raise invalid_request(str(error)) from None

    @contextmanager
    def _named(self, name: str | None) -> Generator[None, None, None]:
        """Keep a name for a session that is being made."""
        if name is None:
            yield
            return
        if name in self._names or any(session.name == name for session in self._sessions.values()):
            raise ApiError(409, "NAME_TAKEN", f"There is a session {name!r} already. Take another name.")
        self._names.add(name)
        try:
            yield
        finally:
            self._names.discard(name)

    async def _furnish(self, session: Session, asked: SessionSpec) -> None:
        try:
            await session.furnish(asked)
        except BaseException as error:
            self._discard(session)
            if isinstance(error, SandboxLostError):
                raise ApiError(500, "INTERNAL_ERROR", f"The sandbox did not last: {error}.") from error
            raise

    @property
    def can_spawn(self) -> bool:
        """True if sessions have processes beside the shell."""
        return self._settings.isolation.can_spawn

    @property
    def has_environments(self) -> bool:
        """True if sessions may have environments of Python."""
        return self._images.environments.any_offered

    @property
    def can_install(self) -> bool:
        """True if sessions may have packages."""
        return self._packages is not None

    async def facts(self) -> dict[str, Any]:
        """Return what a gateway asks a node about: its tag, capacity and images, and its sessions' labels."""
        settings = self._settings
        return {
            "node": settings.node_tag,
            "max_sessions": settings.max_sessions,
            "limits": as_numbers(settings.limits, settings.cgroups.bounded, kernel_version()),
            "images": await self._images.names(),
            "sessions": [dict(session.labels) for session in self._sessions.values()],
            "starting": [dict(asked.labels) for asked in self._starting],
        }

    @property
    def pool_ready(self) -> int:
        """The number of sessions that are ready before anybody asked."""
        return len(self._pool)

    def get(self, session_id: str) -> Session:
        """Find a running session by its id, or by its name.

        Raises:
            ApiError: SESSION_NOT_FOUND or SESSION_EXPIRED.
        """
        if session_id in self._sessions:
            return self._sessions[session_id]
        for session in self._sessions.values():
            if session.name == session_id:
                return session
        end = self._ended.get(session_id)
        if end is EndReason.EXPIRED:
            raise ApiError(410, "SESSION_EXPIRED", f"The session {session_id} was not used for its lifetime.")
        became = f" ({_BECAME[end]})" if end else ""
        raise ApiError(404, "SESSION_NOT_FOUND", f"There is no session {session_id[:64]!r}{became}.")

    def list(self) -> list[Session]:
        """All running sessions, oldest first."""
        return list(self._sessions.values())

    async def destroy(self, session_id: str) -> bool:
        """End a session; nothing of it is left when this returns. Return whether it was still there.

        Raises:
            ApiError: SESSION_NOT_FOUND for one that never was, or SESSION_EXPIRED.
        """
        if self._ended.get(session_id, EndReason.EXPIRED) is not EndReason.EXPIRED:
            return False
        await self._end(self.get(session_id), EndReason.DESTROYED)
        return True

    async def close(self) -> None:
        """End all sessions, and make no more."""
        self._closing = True
        for session in self.list():
            self._end(session, EndReason.STOPPED)
        if self._installer is not None:
            await self._installer.close()
        for session in await self._pool.close():
            self._discard(session)
        await self._clean_ups.wait()

    def quota_of(self, workspace_id: str, tree: Tree) -> DiskQuota:
        """Return what counts the bytes of a workspace: a session's watch, if one works on it."""
        sessions = self._of_workspace(workspace_id)
        return sessions[0].quota if sessions else self._quotas.get(workspace_id, tree)

    def _of_workspace(self, workspace_id: str) -> tuple[Session, ...]:
        """Return the sessions that work on a workspace; for any thread."""
        sessions = tuple(self._sessions.values())
        return tuple(session for session in sessions if session.workspace_id == workspace_id)

    async def _build(
        self,
        image: Image,
        workspace_id: str | None,
        limits: Limits | None = None,
        *,
        host_network: bool = False,
        environment: Environment | None = None,
    ) -> Session:
        session_id = self._new_id()
        on_lost = partial(self._on_lost, session_id)
        return await self._builder.build(
            session_id,
            image,
            on_lost,
            workspace_id,
            host_network=host_network,
            limits=limits,
            environment=environment,
        )

    def _pool_name(self, image: Image, environment: Environment | None) -> str:
        """Return what sessions of an image are called in the pool, those with packages by their set."""
        if environment is None or self._packages is None:
            return image.name
        if (dropped := self._packages.keep_warm(environment)) is not None:
            for session in self._pool.remove(lambda ready: ready.environment_digest == dropped):
                self._discard(session)
        return f"{image.name} {environment.digest}"

    def _build_for_packages(self, image: Image, environment: Environment | None) -> Awaitable[Session]:
        return self._build(image, None, environment=environment)

    async def _build_warm(self, name: str) -> Session:
        image, _, digest = name.partition(" ")
        environment = None
        if digest:
            try:
                environment = self._need_packages().warm(digest)
            except KeyError:  # others are kept ready by now
                raise invalid_request("Sessions of this set are not kept ready.") from None
        session = await self._build(self._settings.isolation.images[image], None, environment=environment)
        if self.python_was_used:
            session.interpreters.prepare()
        if environment is not None and not self._need_packages().is_warm(environment):
            self._discard(session)
            raise invalid_request("Sessions of this set are not kept ready.")
        return session

    def _new_id(self) -> str:
        while True:
            session_id = f"{self._id_prefix}{secrets.token_hex(4)}-{secrets.token_hex(2)[:3]}"
            if session_id not in self._sessions and session_id not in self._ended:
                return session_id

    def _on_expiry(self, session: Session) -> None:
        self._end(session, EndReason.UNCLAIMED if session.lifetime.is_unclaimed else EndReason.EXPIRED)

    def _on_lost(self, session_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            self._end(session, EndReason.LOST)
        for warm in self._pool.remove(lambda warm: warm.id == session_id):
            self._discard(warm)

    def _end(self, session: Session, reason: EndReason) -> asyncio.Task[None]:
        if self._sessions.pop(session.id, None) is None:
            return asyncio.create_task(asyncio.sleep(0))
        self._ended[session.id] = reason
        self._observer.session_ended(session.id, reason)
        while len(self._ended) > _REMEMBERED_MAX:
            self._ended.popitem(last=False)
        return self._discard(session)

    def _discard(self, session: Session) -> asyncio.Task[None]:
        return self._clean_ups.begin(asyncio.to_thread(session.close()))
