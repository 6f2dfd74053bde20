# Made from sandkasten/files.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""The file verbs, which sessions and workspaces share."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import BinaryIO

from sandkasten import _wire
from sandkasten._uploads import opened_for_upload
from sandkasten.models import ReadResult

from ._http import Connection


class FileVerbs:
    """Files below /workspace of one session or one workspace.

    Paths are relative to /workspace, or absolute below it; missing parents are made.
    """

    __slots__ = ("_connection", "_owner")

    def __init__(self, connection: Connection, owner: str) -> None:
        """Bind to the path of a session or of a workspace; nothing is sent."""
        self._connection = connection
        self._owner = owner

    def write(self, path: str | PurePosixPath, content: str | bytes) -> None:
        """Write a file, replacing what is there; text is stored as UTF-8.

        Raises:
            SandkastenInputError: an empty path, or content that is neither text nor bytes.
            InvalidRequestError: the path leads outside /workspace, or the content is too large.
            SandkastenError: any other failure.
        """
        self._connection.call(_wire.write_file(self._owner, path, content))

    def read(self, path: str | PurePosixPath, *, max_bytes: int | None = None) -> ReadResult:
        """Read a file, at most `max_bytes` of it (None: the daemon's default, 10 MiB).

        Raises:
            SandkastenInputError: an empty path, or a `max_bytes` out of range.
            SandboxFileNotFoundError: there is no such file, or it is a link that leads out.
            SandboxIsDirectoryError: it is a directory.
            SandkastenError: any other failure.
        """
        return self._connection.call(_wire.read_file(self._owner, path, max_bytes))

    def upload(
        self,
        file: str | Path | BinaryIO,
        *,
        dest_path: str | PurePosixPath = "/workspace",
        filename: str | None = None,
    ) -> list[str]:
        """Copy a file of this machine into the directory `dest_path`; return the paths it got there.

        `file` is a path, or an object open for binary reading; `filename` names it in the sandbox,
        and must be given where the object has no name of its own.

        Raises:
            LocalFileError: there is no such file here.
            SandkastenInputError: a file-like object without a name, or one open as text.
            SandkastenError: any other failure.
        """
        with opened_for_upload(file, filename) as (name, stream):
            return self._connection.call(_wire.upload_file(self._owner, name, stream, dest_path))
