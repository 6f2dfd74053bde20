"""Workspaces: directories that outlive sessions.

    <directory>/
        <id>/                   a tree, see `files.py`
        .writing-XXXXXXXX/      of each process that uses them
            <id>/               what is not complete yet
        .deleted-XXXXXXXXXXXXXXXX/

Several daemons may share them. A session holds a shared lock on its <id>, and so does a call that writes
without a session; to delete a workspace takes an exclusive one. A lock ends with its process, however that
ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sandkasten._protocol import WORKSPACE_ID
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.directories import make_closed
from sandkasten.local.files.tree import Tree
from sandkasten.local.identity import Identity
from sandkasten.local.linux.scratch import Scratch, remove_tree, sweep

# A call that writes holds a workspace for a moment, and so does a session that is being cleaned up.
_ATTEMPTS, _PAUSE_SECONDS = 50, 0.02
_WRITING = ".writing-"
_DELETED = ".deleted-"
_DELETED_NAME = re.compile(re.escape(_DELETED) + "[0-9a-f]{16}")


class Workspaces:
    """All workspaces of a data directory. Methods block: call them in a thread."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        """Bind to the directory; it is made when the first workspace is."""
        self._directory = directory
        self._identity = identity
        self._writing: Scratch | None = None
        self._writing_lock = threading.Lock()
        self._is_closed = False
        self._locks: dict[str, int] = {}

    def sweep(self) -> None:
        """Remove what killed processes did not complete."""
        sweep(self._directory, _WRITING)
        with suppress(OSError):
            for path in self._directory.iterdir():
                if _DELETED_NAME.fullmatch(path.name):
                    remove_tree(path)

    def close(self) -> None:
        """Remove what was not completed."""
        with self._writing_lock:
            self._is_closed = True
            writing, self._writing = self._writing, None
        if writing is not None:
            writing.close()

    def get(self, workspace_id: str) -> Tree:
        """An existing workspace's files.

        Raises:
            ApiError: INVALID_WORKSPACE or WORKSPACE_NOT_FOUND.
        """
        tree = self.tree(workspace_id)
        if not tree.workspace.is_dir():
            raise ApiError(404, "WORKSPACE_NOT_FOUND", f"There is no workspace {workspace_id!r}.")
        return tree

    def get_or_create(self, workspace_id: str) -> Tree:
        """A workspace's files; it comes to be if it does not exist.

        Raises:
            ApiError: INVALID_WORKSPACE.
        """
        tree = self.tree(workspace_id)
        for _ in range(_ATTEMPTS):
            if tree.workspace.is_dir():
                return tree
            with self._explained():
                self._make_directory()
                with suppress(FileNotFoundError):  # others made it, and deleted it at this moment
                    tree.create()
        raise _being_deleted(workspace_id)

    def hold(self, workspace_id: str, user: str) -> Tree:
        """Keep every daemon from deleting a workspace until `release`; it comes to be if it does not exist.

        Args:
            workspace_id: which one.
            user: a name of the caller's own, for `release`.

        Raises:
            ApiError: INVALID_WORKSPACE; CONFLICT, while it is being deleted.
        """
        lock = self._lock(workspace_id, fcntl.LOCK_SH, self.get_or_create)
        if lock is None:
            raise _being_deleted(workspace_id)
        self._locks[user] = lock
        return self.tree(workspace_id)

    def release(self, user: str) -> None:
        """End what `hold` began; call it as often as you like, in any thread."""
        lock = self._locks.pop(user, None)
        if lock is not None:
            os.close(lock)

    def _lock(self, workspace_id: str, how: int, find: Callable[[str], Tree]) -> int | None:
        """Lock a workspace that `find` finds; None if others hold it for long."""
        root = self._directory / workspace_id
        for _ in range(_ATTEMPTS):
            find(workspace_id)
            try:
                return _locked(root, how)
            except FileNotFoundError:
                pass  # deleted since it was found
            except BlockingIOError:
                time.sleep(_PAUSE_SECONDS)
        return None

    def list(self) -> list[tuple[str, datetime]]:
        """The ids, sorted, and when each was made."""
        if not self._directory.is_dir():
            return []
        found: list[tuple[str, datetime]] = []
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # deleted just now, or a link to nowhere
                if WORKSPACE_ID.fullmatch(path.name):
                    found.append((path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)))
        return sorted(found)

    def delete(self, workspace_id: str) -> None:
        """Delete a workspace with its files; it vanishes at once, whatever its size.

        Raises:
            ApiError: INVALID_WORKSPACE or WORKSPACE_NOT_FOUND; INVALID_REQUEST, it is in use; CONFLICT for
                a mount point.
        """
        lock = self._lock(workspace_id, fcntl.LOCK_EX, self.get)
        if lock is None:
            says = f"The workspace {workspace_id!r} is in use, perhaps by a session of another daemon."
            raise invalid_request(f"{says} Destroy that first.")
        try:
            self._delete(workspace_id)
        finally:
            os.close(lock)

    def _delete(self, workspace_id: str) -> None:
        root = self._directory / workspace_id
        elsewhere = root.resolve() if root.is_symlink() else None
        doomed = self._directory / f"{_DELETED}{secrets.token_hex(8)}"
        try:
            root.rename(doomed)
        except FileNotFoundError:
            self.get(workspace_id)  # says so
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            says = f"The workspace {workspace_id!r} is a mount of its own. Unmount it, then delete it."
            raise ApiError(409, "CONFLICT", says) from error
        if elsewhere is not None:
            doomed.unlink()
            doomed = elsewhere / "workspace"  # the rest there is not ours
        remove_tree(doomed)

    def tree(self, workspace_id: str) -> Tree:
        """Return a workspace's files, whether it exists or not.

        Raises:
            ApiError: INVALID_WORKSPACE.
        """
        if not WORKSPACE_ID.fullmatch(workspace_id):
            raise ApiError(
                400,
                "INVALID_WORKSPACE",
                f"The workspace id {workspace_id[:80]!r} is not 2 to 64 of a-z, 0-9 and -, "
                "without a dash at either end.",
            )
        staging = _Staging(self, workspace_id)
        return Tree(self._directory / workspace_id, staging, self._identity, durable=True)

    def make_staging(self, workspace_id: str) -> Path:
        """The place where this process keeps what is not complete of a workspace that is there."""
        with self._writing_lock, self._explained():
            if self._is_closed:
                raise ApiError(503, "SHUTTING_DOWN", "The daemon is stopping. Start it again.")
            if self._writing is not None and not self._writing.path.is_dir():  # with all that was here
                self._writing.close()
                self._writing = None
            if self._writing is None:
                self._writing = Scratch(self._directory, _WRITING)
            path = self._writing.path / workspace_id
            path.mkdir(mode=0o700, exist_ok=True)
            return path

    def find_staging(self, workspace_id: str) -> Path | None:
        """The same, if there is one."""
        writing = self._writing
        return None if writing is None else writing.path / workspace_id

    @contextmanager
    def _explained(self) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            says = f"The daemon cannot write to {str(self._directory)!r} ({error.strerror})."
            says += " Make room there, or choose another data directory."
            raise ApiError(507, "INSUFFICIENT_STORAGE", says) from error

    def _make_directory(self) -> None:
        make_closed(self._directory, self._identity)


def _locked(root: Path, how: int) -> int:
    """Open and lock a directory.

    Raises:
        BlockingIOError: others hold it.
        FileNotFoundError: it does not exist any more; another one may.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                raise  # all else is NFS and its like: then only this daemon's own sessions count
        if not os.path.samestat(os.fstat(descriptor), os.stat(root)):
            raise FileNotFoundError(errno.ENOENT, "was deleted while it was being locked")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _being_deleted(workspace_id: str) -> ApiError:
    return ApiError(409, "CONFLICT", f"The workspace {workspace_id!r} is just being deleted. Try again.")


class _Staging:
    """The lock of one workspace."""

    def __init__(self, workspaces: Workspaces, workspace_id: str) -> None:
        self._workspaces = workspaces
        self._id = workspace_id

    def make(self) -> Path:
        return self._workspaces.make_staging(self._id)

    def find(self) -> Path | None:
        return self._workspaces.find_staging(self._id)
