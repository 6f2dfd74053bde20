"""Whose files a call is about, and whether it may write: the one place that decides this for all routes."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext

from starlette.requests import Request

from sandkasten.local.errors import ApiError
from sandkasten.local.files.quota import DiskQuota
from sandkasten.local.files.tree import Tree
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.session import Session
from sandkasten.local.threads import in_thread


class Owner:
    """A session, or a workspace without one, and its files."""

    def __init__(
        self,
        tree: Tree,
        quota: DiskQuota,
        manager: Manager,
        *,
        session: Session | None = None,
        workspace_id: str = "",
    ) -> None:
        """Hold on to them; a workspace need not exist yet."""
        self.tree = tree
        self._quota = quota
        self._manager = manager
        self._session = session
        self._workspace_id = workspace_id

    def check(self) -> None:
        """Make sure that the session is still there.

        Raises:
            ApiError: SESSION_NOT_FOUND or SESSION_EXPIRED.
        """
        if self._session is not None:
            self._manager.get(self._session.id)

    @contextmanager
    def kept(self) -> Generator[None, None, None]:
        """Keep the session from expiring during the block, and count its lifetime from the end of that."""
        with nullcontext() if self._session is None else self._session.lifetime.used():
            yield

    @asynccontextmanager
    async def written(self) -> AsyncGenerator[None, None]:
        """Keep the session, or make the workspace and keep it from being deleted, during the block.

        Raises:
            ApiError: CONFLICT, the workspace is just being deleted.
        """
        if self._session is not None:
            with self.kept():
                yield
            return
        workspaces, user = self._manager.workspaces, secrets.token_hex(8)
        try:
            await in_thread(workspaces.hold, self._workspace_id, user)
            yield
        finally:
            workspaces.release(user)

    async def admit(self, size_bytes: int) -> None:
        """Make sure that so much may be written.

        Raises:
            ApiError: INSUFFICIENT_STORAGE, or the session is gone.
        """
        self.check()
        if not await self._quota.has_room_for(size_bytes):
            raise ApiError(507, "INSUFFICIENT_STORAGE", "The workspace is full. Delete files in it.")

    def wrote(self, size_bytes: int) -> None:
        """Count what was written."""
        self._quota.wrote(size_bytes)

    @contextmanager
    def reserved(self, size_bytes: int) -> Generator[None, None, None]:
        """Count during the block what was admitted, and after it as written."""
        with self._quota.reserved(size_bytes):
            yield


Find = Callable[..., Awaitable[Owner]]


class Owners:
    """Finds the owner that a request's path names."""

    def __init__(self, manager: Manager) -> None:
        """Find a manager's sessions and workspaces."""
        self._manager = manager

    def prefixes(self) -> tuple[tuple[str, Find], ...]:
        """Return where their routes begin, and who finds the owner there."""
        return ("/v1/sessions/{session_id}", self.session), ("/v1/workspaces/{workspace_id}", self.workspace)

    async def session(self, request: Request, *, create: bool = False) -> Owner:
        """Return the session of a request.

        Raises:
            ApiError: SESSION_NOT_FOUND or SESSION_EXPIRED.
        """
        del create
        session = self._manager.get(request.path_params["session_id"])
        return Owner(session.tree, session.quota, self._manager, session=session)

    async def workspace(self, request: Request, *, create: bool = False) -> Owner:
        """Return the workspace of a request; with `create` it is made when something is written.

        Raises:
            ApiError: INVALID_WORKSPACE or WORKSPACE_NOT_FOUND.
        """
        workspaces, name = self._manager.workspaces, request.path_params["workspace_id"]
        tree = workspaces.tree(name) if create else await in_thread(workspaces.get, name)
        return Owner(tree, self._manager.quota_of(name, tree), self._manager, workspace_id=name)
