"""Owners of files: the one place that decides whether an owner is gone, has room, and is kept.

A handler of files gets an `Owner` and names its action: read, write, send or receive. A
session's lifetime, a workspace's lock, the disk's quota and the count of bytes are seen to here.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

from sandkasten._protocol import Code
from sandkasten.local.api.bodystream import pieces_of, read_ahead
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.resolving import inside_path, is_in_workspace, whole_path
from sandkasten.local.files.tree import Tree
from sandkasten.local.isolation.programs import CannotSpawnError
from sandkasten.local.observe.metrics import Metrics
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.session import Session
from sandkasten.local.threads import in_thread

T = TypeVar("T")

_TWO_SIDES = "One of the paths is in /workspace and another is not. Write them in two calls."


class Room(Protocol):
    """The room that there is for files; `DiskQuota` has the meaning of its functions."""

    async def has_room_for(self, size_bytes: int) -> bool:
        """Return whether this much more may be written."""
        ...

    def wrote(self, size_bytes: int) -> None:
        """Count what was written."""
        ...

    def reserved(self, size_bytes: int) -> AbstractContextManager[None]:
        """Keep room during a block."""
        ...


class _FileSystemsRoom:
    """The room in file systems in memory, which have their own bounds."""

    async def has_room_for(self, _size_bytes: int) -> bool:
        return True

    def wrote(self, size_bytes: int) -> None:
        pass

    def reserved(self, _size_bytes: int) -> AbstractContextManager[None]:
        return nullcontext()


class Owner:
    """A session, or a workspace without one, and its files."""

    def __init__(self, tree: Tree, quota: Room, metrics: Metrics) -> None:
        """Hold on to the files; those of a workspace need not exist yet."""
        self.tree = tree
        self._quota = quota
        self._metrics = metrics

    # --- what the two kinds of owners decide

    def check(self) -> None:
        """Make sure that the owner is still there.

        Raises:
            ApiError: SESSION_NOT_FOUND or SESSION_EXPIRED.
        """

    def kept(self) -> AbstractContextManager[None]:
        """Return a block during which the owner does not expire; its lifetime counts from the block's end."""
        return nullcontext()

    @asynccontextmanager
    async def written(self) -> AsyncGenerator[None, None]:
        """Keep the owner during a block that changes files; a workspace comes to be.

        Raises:
            ApiError: CONFLICT, the workspace is just being deleted; or what the block raises, but that the
                session is gone if that is the reason.
        """
        yield

    async def at(self, *paths: str, links: Sequence[str] = (), follow_symlinks: bool = True) -> Owner:
        """Return the owner whose tree has these paths: itself, or the same session outside of its workspace.

        Args:
            paths: as a client says them.
            links: more of them, whose last names are meant themselves if they are symlinks.
            follow_symlinks: whether symlinks at the end of `paths` are followed; else these are such too.

        Raises:
            ApiError: INVALID_REQUEST, they are out of reach, or not all on one side.
        """
        for path in (*paths, *links):
            self.tree.inside(path)
        return self

    # --- whole answers and contents

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that blocks and reads files."""
        with self.kept():
            return await in_thread(function, *arguments)

    async def write(self, size_bytes: int, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that blocks and writes so many bytes.

        Raises:
            ApiError: INSUFFICIENT_STORAGE; or the owner is gone; or what the function raises.
        """
        await self.admit(size_bytes)
        with self._quota.reserved(size_bytes):
            async with self.written():
                result = await in_thread(function, *arguments)
        self._metrics.file_bytes("in", size_bytes)
        return result

    async def admit(self, size_bytes: int) -> None:
        """Make sure that so much may be written.

        Raises:
            ApiError: INSUFFICIENT_STORAGE, or the session is gone.
        """
        self.check()
        if not await self._quota.has_room_for(size_bytes):
            raise ApiError(507, Code.INSUFFICIENT_STORAGE, "The workspace is full. Delete files in it.")

    async def admit_written(self, size_bytes: int) -> None:
        """Admit and count what is being written to this tree from this tree.

        Raises:
            ApiError: INSUFFICIENT_STORAGE, or the session is gone.
        """
        await self.admit(size_bytes)
        self._quota.wrote(size_bytes)

    # --- contents in pieces

    async def received(self, request: Request) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield a request's body as `pieces_of` does, each piece admitted and counted.

        Raises:
            ApiError: INSUFFICIENT_STORAGE, or the owner is gone, or nothing came for too long.
        """
        async for piece, more in pieces_of(request):
            await self.admit(len(piece))
            self._quota.wrote(len(piece))
            self._metrics.file_bytes("in", len(piece))
            yield piece, more

    async def sent(
        self, first: bytes, read_on: Callable[[], bytes], *, as_is: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """Yield a first piece, and what a blocking function returns until that is empty.

        Args:
            first: the first piece.
            read_on: reads the next one.
            as_is: whether the pieces are what stands in files, to be counted; see `count_sent`.

        Raises:
            ApiError: the owner is gone.
        """
        with self.kept():
            yield first
            self.count_sent(len(first) * as_is)
            async with aclosing(read_ahead(read_on)) as pieces:
                async for piece in pieces:
                    yield piece
                    self.count_sent(len(piece) * as_is)
                    self.check()

    def count_sent(self, size_bytes: int) -> None:
        """Count what a client reads of files."""
        self._metrics.file_bytes("out", size_bytes)


class _SessionOwner(Owner):
    def __init__(self, session: Session, manager: Manager, metrics: Metrics) -> None:
        super().__init__(session.tree, session.quota, metrics)
        self._session = session
        self._manager = manager

    async def at(self, *paths: str, links: Sequence[str] = (), follow_symlinks: bool = True) -> Owner:
        asked = dict.fromkeys(paths, follow_symlinks) | dict.fromkeys(links, False)
        outside = await in_thread(_count_outside, self.tree, asked)
        if not outside:
            return self
        if outside < len(asked):
            raise invalid_request(_TWO_SIDES)
        try:
            with self.kept():
                return _Outside(self._session, self._manager, self._metrics, await self._session.outside())
        except CannotSpawnError as error:
            for path in asked:
                inside_path(path, str(error))
            return self  # where links lead is not there

    def check(self) -> None:
        self._manager.get(self._session.id)

    def kept(self) -> AbstractContextManager[None]:
        return self._session.lifetime.used()

    @asynccontextmanager
    async def written(self) -> AsyncGenerator[None, None]:
        with self.kept(), self._explained():
            yield

    @contextmanager
    def _explained(self) -> Generator[None, None, None]:
        try:
            yield
        except ApiError:
            self.check()  # if the session is gone, it is this that went wrong
            raise


def _count_outside(tree: Tree, asked: Mapping[str, bool]) -> int:
    """Count the paths that are not in the workspace, each with whether a symlink at its end is followed."""
    return sum(
        not is_in_workspace(whole_path(path)) or tree.leads_out(path, follow_symlinks=follow)
        for path, follow in asked.items()
    )


class _Outside(_SessionOwner):
    """A session, for what is not in its workspace."""

    def __init__(self, session: Session, manager: Manager, metrics: Metrics, tree: Tree) -> None:
        super().__init__(session, manager, metrics)
        self.tree = tree
        self._quota = _FileSystemsRoom()


class _WorkspaceOwner(Owner):
    def __init__(self, name: str, tree: Tree, manager: Manager, metrics: Metrics) -> None:
        super().__init__(tree, manager.quota_of(name, tree), metrics)
        self._name = name
        self._workspaces = manager.workspaces

    @asynccontextmanager
    async def written(self) -> AsyncGenerator[None, None]:
        user = secrets.token_hex(8)
        try:
            await in_thread(self._workspaces.hold, self._name, user)
            yield
        finally:
            self._workspaces.release(user)


Find = Callable[[Request], Awaitable[Owner]]
"""Finds the owner that a request names."""

Verb = Callable[[Owner, Request], Awaitable[Response]]
# The HTTP verb, the end of the path, and the handler.
FileRow = tuple[str, str, Verb]
"""A handler of files."""


class Owners:
    """Finds the owner that a request's path names."""

    def __init__(self, manager: Manager, metrics: Metrics) -> None:
        """Find a manager's sessions and workspaces."""
        self._manager = manager
        self._metrics = metrics

    async def of_session(self, request: Request) -> Owner:
        """Return the session of a request.

        Raises:
            ApiError: SESSION_NOT_FOUND or SESSION_EXPIRED.
        """
        session = self._manager.get(request.path_params["session_id"])
        return _SessionOwner(session, self._manager, self._metrics)

    async def of_workspace(self, request: Request) -> Owner:
        """Return the workspace of a request that reads.

        Raises:
            ApiError: INVALID_WORKSPACE or WORKSPACE_NOT_FOUND.
        """
        name = request.path_params["workspace_id"]
        tree = await in_thread(self._manager.workspaces.get, name)
        return _WorkspaceOwner(name, tree, self._manager, self._metrics)

    async def of_new_workspace(self, request: Request) -> Owner:
        """Return the workspace of a request that writes; `Owner.written` makes it if it does not exist.

        Raises:
            ApiError: INVALID_WORKSPACE.
        """
        name = request.path_params["workspace_id"]
        return _WorkspaceOwner(name, self._manager.workspaces.tree(name), self._manager, self._metrics)
