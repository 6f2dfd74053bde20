"""Workspaces: directories that outlive sessions.

<directory>/
<id>/                   a tree, see `files.py`
.writing-XXXXXXXX/      of each process that uses them: what is not complete yet, and what is deleted
<id>/
"""

from __future__ import annotations

import re
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path

from sandkasten.local.errors import ApiError
from sandkasten.local.files import Tree
from sandkasten.local.host import Identity
from sandkasten.local.scratch import Scratch, remove_tree, sweep

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}[a-z0-9]")
_WRITING = ".writing-"


class Workspaces:
    """All workspaces of a data directory. Methods block: call them in a thread."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        """Bind to the directory; it is made when the first workspace is."""
        self._directory = directory
        self._identity = identity
        self._writing: Scratch | None = None
        self._making = threading.Lock()

    def sweep(self) -> None:
        """Remove what killed processes did not complete."""
        sweep(self._directory, _WRITING)

    def close(self) -> None:
        """Remove what was not completed."""
        if self._writing is not None:
            self._writing.close()

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
            self._make_directory()
            tree.create()
        return tree

    def list(self) -> list[tuple[str, datetime]]:
        """The ids, sorted, and when each was made."""
        if not self._directory.is_dir():
            return []
        return sorted(
            (path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC))
            for path in self._directory.iterdir()
            if _ID.fullmatch(path.name)
        )

    def delete(self, workspace_id: str) -> None:
        """Delete a workspace with its files; it vanishes at once, whatever its size.

        Raises:
            ApiError: INVALID_WORKSPACE or WORKSPACE_NOT_FOUND.
        """
        self.get(workspace_id)
        doomed = self._staging() / f".deleted-{secrets.token_hex(8)}"
        (self._directory / workspace_id).rename(doomed)
        remove_tree(doomed)

    def _tree(self, workspace_id: str) -> Tree:
        if not _ID.fullmatch(workspace_id):
            raise ApiError(
                400,
                "INVALID_WORKSPACE",
                f"The workspace id {workspace_id[:80]!r} is not 2 to 64 of a-z, 0-9 and -, "
                "without a dash at either end.",
            )
        root, staging = self._directory / workspace_id, self._staging
        return Tree(root, lambda: staging() / workspace_id, self._identity, durable=True)

    def _staging(self) -> Path:
        """Where this process keeps what is not complete; there is a workspace already."""
        with self._making:
            if self._writing is not None and not self._writing.path.is_dir():  # with all that was here
                self._writing.close()
                self._writing = None
            if self._writing is None:
                self._writing = Scratch(self._directory, _WRITING)
            return self._writing.path

    def _make_directory(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        mode = 0o711 if self._identity.drops else 0o700  # root's sandboxes are built by another user
        self._directory.chmod(mode)
