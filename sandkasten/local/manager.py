"""The sessions' lifetimes: made, found, renewed, expired, destroyed."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sandkasten.local.cgroups import Cgroups, Group
from sandkasten.local.errors import ApiError
from sandkasten.local.files import Tree
from sandkasten.local.host import Identity, explain
from sandkasten.local.images import choose
from sandkasten.local.limits import Limits
from sandkasten.local.policy import Image, SandboxPolicy
from sandkasten.local.sandbox import Sandbox
from sandkasten.local.shell import SandboxLostError, Shell
from sandkasten.local.workspaces import Workspaces, remove_tree

# How many ended sessions are remembered, so that asking for one tells what became of it.
_REMEMBERED_MAX = 10_000


@dataclass(frozen=True)
class Settings:
    """What a manager is made of.

    Attributes:
        bwrap: bubblewrap's path.
        etc: what is mounted below /etc, see `SandboxPolicy`.
        images: by name.
        identity: whom sandboxes run as.
        run_dir: for what ends with the daemon.
        seccomp: the filter of system calls, see `SandboxPolicy`.
        limits: what each session may take.
        ulimit: the part of that which the session's first process sets itself, as bash words.
        cgroups: what enforces the rest.
        default_ttl_seconds: of sessions that ask for none.
        max_sessions: how many there may be at once.
    """

    bwrap: str
    etc: Mapping[str, str]
    images: Mapping[str, Image]
    identity: Identity
    run_dir: Path
    seccomp: bytes
    limits: Limits
    ulimit: str
    cgroups: Cgroups
    default_ttl_seconds: int
    max_sessions: int


@dataclass
class Session:
    """A running session."""

    id: str
    image: str
    workspace_id: str | None
    tree: Tree
    shell: Shell
    group: Group
    ttl_seconds: int
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_activity: datetime = field(default_factory=lambda: datetime.now(UTC))
    timer: asyncio.TimerHandle | None = None

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
            "acquire_source": "cold",
        }
        return info | ({"workspace_id": self.workspace_id} if self.workspace_id else {})


class Manager:
    """All sessions of a daemon. Lives in the event loop's thread."""

    def __init__(self, settings: Settings, workspaces: Workspaces) -> None:
        """Start with no sessions."""
        self.workspaces = workspaces
        self._settings = settings
        self._sessions: dict[str, Session] = {}
        self._starting = 0
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._clean_ups: set[asyncio.Task[None]] = set()

    async def create(self, image: str, ttl_seconds: int, workspace_id: str | None) -> Session:
        """Make a session and wait until its shell is ready.

        Raises:
            ApiError: INVALID_IMAGE, INVALID_WORKSPACE, CAPACITY_EXCEEDED, or INTERNAL_ERROR with what
                bubblewrap said.
        """
        chosen = choose(self._settings.images, image)
        limit = self._settings.max_sessions
        if len(self._sessions) + self._starting >= limit:
            raise ApiError(429, "CAPACITY_EXCEEDED", f"All {limit} sessions of this daemon are in use.")
        self._starting += 1
        try:
            return await self._create(chosen, ttl_seconds, workspace_id)
        finally:
            self._starting -= 1

    def get(self, session_id: str) -> Session:
        """Find a running session.

        Raises:
            ApiError: SESSION_NOT_FOUND or SESSION_EXPIRED.
        """
        if session_id in self._sessions:
            return self._sessions[session_id]
        end = self._ended.get(session_id)
        if end == "expired":
            raise ApiError(410, "SESSION_EXPIRED", f"The session {session_id} was not used for its lifetime.")
        became = f" ({end})" if end else ""
        raise ApiError(404, "SESSION_NOT_FOUND", f"There is no session {session_id[:64]!r}{became}.")

    def list(self) -> list[Session]:
        """All running sessions, oldest first."""
        return list(self._sessions.values())

    def renew(self, session: Session) -> None:
        """Count a session's lifetime from now on."""
        session.last_activity = datetime.now(UTC)
        self._set_timer(session)

    async def destroy(self, session_id: str) -> None:
        """End a session; nothing of it is left when this returns.

        Raises:
            ApiError: SESSION_NOT_FOUND or SESSION_EXPIRED.
        """
        await self._end(self.get(session_id), "it was destroyed")

    async def close(self) -> None:
        """End all sessions."""
        for session in self.list():
            self._end(session, "the daemon stopped")
        while self._clean_ups:
            await asyncio.gather(*self._clean_ups)

    async def _create(self, image: Image, ttl_seconds: int, workspace_id: str | None) -> Session:
        session_id = self._new_id()
        directory = self._settings.run_dir / "sessions" / session_id
        tree = await asyncio.to_thread(self._make_tree, directory, workspace_id)
        group = self._settings.cgroups.create(session_id, self._settings.limits)
        # Not in another thread: the kernel ends a sandbox together with the thread that made it.
        sandbox = Sandbox.start(self._settings.bwrap, self._policy(image, tree), self._settings.identity)
        shell = Shell(sandbox, on_lost=lambda: self._on_lost(session_id))
        try:
            await sandbox.release(group.add)
            await shell.wait_until_ready()
        except BaseException as error:
            self._clean_up(shell.close(), group, directory)
            if isinstance(error, SandboxLostError):
                raise ApiError(500, "INTERNAL_ERROR", explain(str(error))) from error
            raise
        ttl_seconds = ttl_seconds or self._settings.default_ttl_seconds
        session = Session(session_id, image.name, workspace_id, tree, shell, group, ttl_seconds)
        self._sessions[session_id] = session
        self._set_timer(session)
        return session

    def _policy(self, image: Image, tree: Tree) -> SandboxPolicy:
        return SandboxPolicy(
            image=image,
            workspace=tree.workspace,
            etc=self._settings.etc,
            seccomp=self._settings.seccomp,
            ulimit=self._settings.ulimit,
            tmp_bytes=self._settings.limits.tmp_bytes,
        )

    def _make_tree(self, directory: Path, workspace_id: str | None) -> Tree:
        if workspace_id is not None:
            return self.workspaces.get_or_create(workspace_id)
        tree = Tree(directory, self._settings.identity, durable=False)
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
        loop = asyncio.get_running_loop()
        session.timer = loop.call_later(session.ttl_seconds, self._on_expiry, session)

    def _on_expiry(self, session: Session) -> None:
        session.timer = None
        if not session.shell.is_busy:  # otherwise the command's end renews it
            self._end(session, "expired")

    def _on_lost(self, session_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            self._end(session, "its sandbox ended")

    def _end(self, session: Session, reason: str) -> asyncio.Task[None]:
        if self._sessions.pop(session.id, None) is None:
            return asyncio.create_task(asyncio.sleep(0))
        if session.timer is not None:
            session.timer.cancel()
        self._ended[session.id] = reason
        while len(self._ended) > _REMEMBERED_MAX:
            self._ended.popitem(last=False)
        directory = self._settings.run_dir / "sessions" / session.id
        return self._clean_up(session.shell.close(), session.group, directory)

    def _clean_up(self, reap: Callable[[], None], group: Group, directory: Path) -> asyncio.Task[None]:
        def work() -> None:
            group.kill()
            reap()
            group.remove()
            remove_tree(directory)

        task = asyncio.create_task(asyncio.to_thread(work))
        self._clean_ups.add(task)
        task.add_done_callback(self._clean_ups.discard)
        return task
