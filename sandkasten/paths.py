"""The verbs for paths, which sessions and workspaces share: what is there, and what is changed about it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sandkasten import _checks as check
from sandkasten._names import is_text
from sandkasten._protocol import Extension
from sandkasten._transfer import calls
from sandkasten._transfer.calls import FilesOf
from sandkasten._wire import Call
from sandkasten.errors import (
    SandboxFileNotFoundError,
    SandboxNotADirectoryError,
    WorkspaceNotFoundError,
)
from sandkasten.models import FileStat

from ._http import Connection
from ._rawfiles import RawFiles
from .stream import Watch

if TYPE_CHECKING:
    from sandkasten._plain.deeds import Deed

    from ._plainfiles import PlainFiles


class PathVerbs:
    """Verbs for the paths of one session or one workspace; see `FileVerbs`."""

    __slots__ = ("_connection", "_of")

    def __init__(self, connection: Connection, of: FilesOf) -> None:
        """Bind to a session or a workspace; nothing is sent."""
        self._connection = connection
        self._of = of

    async def stat(self, path: str | PurePosixPath, *, follow_symlinks: bool = True) -> FileStat:
        """Say what a path is: its kind, size, permissions and time, and where a symlink leads.

        Symlinks on the way are followed, as they are inside. One at the end of the path is followed unless
        `follow_symlinks` is false; then the symlink itself is described, with its `link_target`.

        A daemon without the extension `files` answers by a command in the session. A workspace has none, so
        there only the kind is known, and `follow_symlinks=False` cannot be had.

        Example::

            await session.exec("echo hello > greeting")
            found = await session.stat("greeting")
            assert (found.kind, found.size_bytes, found.mode) == ("file", 6, 0o644)

        Raises:
            SandboxFileNotFoundError: there is nothing, or it is a link that leads out.
            InvalidRequestError: the path leads outside /workspace.
            ExtensionMissingError: this daemon cannot say it of a workspace.
            SandkastenError: any other failure.
        """
        path = check.sandbox_path(path)
        if await self._connection.has(Extension.FILES):
            return await self._connection.call(calls.stat(self._of, path, follow_symlinks=follow_symlinks))
        from sandkasten._plain.commands import stat_question  # noqa: PLC0415  (for other daemons only)

        ways = self._plain_ways(path)
        return await ways.ask(stat_question(path, follow_symlinks=follow_symlinks))

    async def exists(self, path: str | PurePosixPath, *, follow_symlinks: bool = True) -> bool:
        """Return whether there is anything at a path.

        A symlink that leads to nothing, or out, counts as nothing, unless `follow_symlinks` is false.

        Raises:
            InvalidRequestError: the path leads outside /workspace.
            SandboxPermissionError: a directory on the way may not be entered.
            SandkastenError: any other failure.
        """
        try:
            await self.stat(path, follow_symlinks=follow_symlinks)
        except (SandboxFileNotFoundError, SandboxNotADirectoryError, WorkspaceNotFoundError):
            return False
        return True

    async def mkdir(self, path: str | PurePosixPath, *, parents: bool = True, exist_ok: bool = False) -> None:
        """Make a directory, and its parents as far as they are missing.

        Example::

            await session.mkdir("results/today", exist_ok=True)

        Args:
            path: where.
            parents: whether missing parents are made; without, they are an error.
            exist_ok: whether the directory may be there already.

        Raises:
            SandboxFileExistsError: something is there.
            SandboxFileNotFoundError: a parent is missing, and `parents` is false.
            SandboxNotADirectoryError: something on the way is not a directory.
            SandkastenError: any other failure.
        """
        path = check.sandbox_path(path)
        call = calls.make_directory(self._of, path, parents=parents, exist_ok=exist_ok)
        await self._change(call, path, "make_directory", parents=parents, exist_ok=exist_ok)

    async def remove(
        self, path: str | PurePosixPath, *, recursive: bool = False, missing_ok: bool = False
    ) -> None:
        """Remove a file, a symlink (and not what it leads to), or a directory.

        Example::

            await session.mkdir("old/data")
            await session.remove("old", recursive=True)

        Args:
            path: what to remove; not /workspace itself.
            recursive: whether a directory goes with all that is in it; without, it must be empty.
            missing_ok: whether there may be nothing.

        Raises:
            SandboxFileNotFoundError: there is nothing.
            SandboxDirectoryNotEmptyError: it is a directory with something in it, and `recursive` is false.
            SandkastenError: any other failure.
        """
        path = check.sandbox_path(path)
        call = calls.remove(self._of, path, recursive=recursive, missing_ok=missing_ok)
        await self._change(call, path, "remove", recursive=recursive, missing_ok=missing_ok)

    async def move(
        self, path: str | PurePosixPath, to: str | PurePosixPath, *, overwrite: bool = False
    ) -> None:
        """Move a file, a symlink or a directory to another path; missing parents are made.

        Within one file system that is one step. From /workspace to other directories, such as /tmp, and back,
        a copy appears when it is complete, and then the original is removed.

        Example::

            await session.write("draft.txt", "hello")
            await session.move("draft.txt", "texts/final.txt")

        Args:
            path: what to move.
            to: its new path itself, not a directory to put it into.
            overwrite: whether a file, or an empty directory, that is there may be replaced.

        Raises:
            SandboxFileNotFoundError: there is nothing to move.
            SandboxFileExistsError: something is at the new path, and `overwrite` is false.
            SandkastenError: any other failure.
        """
        path, to = check.sandbox_path(path), check.sandbox_path(to, name="to")
        call = calls.move(self._of, path, to, overwrite=overwrite)
        await self._change(call, path, "move", to=to, overwrite=overwrite)

    async def copy(
        self, path: str | PurePosixPath, to: str | PurePosixPath, *, overwrite: bool = False
    ) -> None:
        """Copy a file, or a directory with all that is in it, within the sandbox; missing parents are made.

        The copy appears when it is complete. Permission bits are kept, and symlinks in a directory as they
        are; a symlink as `path` itself is followed. FIFOs, sockets and devices are left out.

        Example::

            await session.write("data/table.csv", "1,2")
            await session.copy("data", "data-before")

        Args:
            path: what to copy.
            to: the path of the copy itself, not a directory to put it into.
            overwrite: whether a file, or an empty directory, that is there may be replaced.

        Raises:
            SandboxFileNotFoundError: there is nothing to copy.
            SandboxFileExistsError: something is at the new path, and `overwrite` is false.
            InsufficientStorageError: there is no room for the copy.
            SandkastenError: any other failure.
        """
        path, to = check.sandbox_path(path), check.sandbox_path(to, name="to")
        call = calls.copy(self._of, path, to, overwrite=overwrite)
        await self._change(call, path, "copy", to=to, overwrite=overwrite)

    async def chmod(self, path: str | PurePosixPath, mode: int) -> None:
        """Set the permission bits of a file or a directory, such as 0o755; symlinks are followed.

        Raises:
            SandkastenInputError: a mode that is not from 0 to 0o1777.
            SandboxFileNotFoundError: there is nothing.
            SandkastenError: any other failure.
        """
        path, mode = check.sandbox_path(path), check.mode(mode)
        await self._change(calls.change_mode(self._of, path, mode), path, "change_mode", mode=mode)

    def watch(self, path: str | PurePosixPath = "/workspace", *, recursive: bool = True) -> Watch:
        """Watch a directory: iterate over what happens in it, as `FileChange`s.

        Watching begins where the `with` block does, and ends with it. Repeated modifications of a file come
        as one. Needs the extension `watch`.

        Example::

            async with session.watch() as changes:
                await session.exec("mkdir results; touch results/1.txt")
                async for change in changes:
                    print(change.kind, change.path)
                    if change.path == "results/1.txt":
                        break

        Args:
            path: the directory.
            recursive: whether all directories in it are watched, too; symlinks are not followed.

        Raises:
            SandboxFileNotFoundError: there is no such directory; this and the others where watching begins.
            CapacityExceededError: there are too many watches, or too many directories.
            ExtensionMissingError: this daemon cannot watch.
            SandkastenStreamError: the connection broke, during the iteration.
            SandkastenError: any other failure.
        """
        from sandkasten._transfer import watching  # noqa: PLC0415  (few watch)

        path = check.sandbox_path(path)
        return Watch(self._connection, watching.watch(self._of, path, recursive=recursive))

    async def _change(self, call: Call[None], path: str, name: str, **arguments: Any) -> None:
        if await self._connection.has(Extension.FILES):
            await self._connection.call(call)
            return
        from sandkasten._plain import deeds  # noqa: PLC0415  (for other daemons only)

        deed: Deed = getattr(deeds, name)(path, **arguments)
        ways = self._plain_ways(path)
        await ways.do(deed)

    async def _ways(self, path: str) -> RawFiles | PlainFiles:
        if await self._connection.has(Extension.FILES):
            return RawFiles(self._connection, self._of)
        return self._plain_ways(path)

    def _plain_ways(self, path: str) -> PlainFiles:
        # For other daemons only.
        from sandkasten._plain.plan import needs_extension_for_name  # noqa: PLC0415

        from ._plainfiles import PlainFiles  # noqa: PLC0415
        from ._shellfiles import ShellFiles  # noqa: PLC0415

        if not is_text(path):
            raise needs_extension_for_name(path)
        if self._of.session_id is None:
            return PlainFiles(self._connection, self._of)
        return ShellFiles(self._connection, self._of, self._of.session_id)
