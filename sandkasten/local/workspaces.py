"""Workspaces: directories that outlive sessions.

<directory>/
<id>/                   a tree, see `files.py`
.writing-XXXXXXXX/      of each process that uses them
<id>/               what is not complete yet
.deleted-XXXXXXXXXXXXXXXX/
"""

from __future__ import annotations

import errno
import re
import secrets
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sandkasten.local.errors import ApiError
from sandkasten.local.files import Tree
from sandkasten.local.host import Identity
from sandkasten.local.scratch import Scratch, remove_tree, sweep

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}[a-z0-9]")
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
        tree = self._tree(workspace_id)
        if not tree.workspace.is_dir():
            raise ApiError(404, "WORKSPACE_NOT_FOUND", f"There is no workspace {workspace_id!r}.")
        return tree

    def get_or_create(self, workspace_id: str) -> Tree:
        """A workspace's files; it comes to be if it does not exist.

        Raises:
            ApiError: INVALID_WORKSPACE.
        """
        tree = self._tree(workspace_id)
        if not tree.workspace.is_dir():
            with self._explained():
                self._make_directory()
                tree.create()
        return tree

    def list(self) -> list[tuple[str, datetime]]:
        """The ids, sorted, and when each was made."""
        if not self._directory.is_dir():
            return []
        found: list[tuple[str, datetime]] = []
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # deleted just now, or a link to nowhere
                if _ID.fullmatch(path.name):
                    found.append((path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)))
        return sorted(found)

    def delete(self, workspace_id: str) -> None:
        """Delete a workspace with its files; it vanishes at once, whatever its size.

        Raises:
            ApiError: INVALID_WORKSPACE or WORKSPACE_NOT_FOUND; CONFLICT for a mount point.
        """
        self.get(workspace_id)
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

    def _tree(self, workspace_id: str) -> Tree:
        if not _ID.fullmatch(workspace_id):
            raise ApiError(
                400,
                "INVALID_WORKSPACE",
                f"The workspace id {workspace_id[:80]!r} is not 2 to 64 of a-z, 0-9 and -, "
                "without a dash at either end.",
            )
        staging = _Staging(self, workspace_id)
        return Tree(self._directory / workspace_id, staging, self._identity, durable=True)

    def make_staging(self, workspace_id: str) -> Path:
        """Where this process keeps what is not complete of a workspace that is there."""
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
        self._directory.mkdir(parents=True, exist_ok=True)
        mode = 0o711 if self._identity.drops else 0o700  # root's sandboxes are built by another user
        self._directory.chmod(mode)


class _Staging:
    """That of one workspace."""

    def __init__(self, workspaces: Workspaces, workspace_id: str) -> None:
        self._workspaces = workspaces
        self._id = workspace_id

    def make(self) -> Path:
        return self._workspaces.make_staging(self._id)

    def find(self) -> Path | None:
        return self._workspaces.find_staging(self._id)
