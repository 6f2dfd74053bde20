"""A workspace's files, without a session."""

from __future__ import annotations

from sandkasten import _wire
from sandkasten._transfer.calls import FilesOf

from ._http import Connection
from .files import FileVerbs


class Workspace(FileVerbs):
    """Files that outlive sessions; made by `SandboxClient.workspace`, comes to be at the first write."""

    __slots__ = ("_id",)

    def __init__(self, connection: Connection, workspace_id: str) -> None:
        """Bind to a workspace; nothing is sent.

        Raises:
            SandkastenInputError: the id is not well formed.
        """
        super().__init__(connection, FilesOf(_wire.workspace_path(workspace_id)))
        self._id = workspace_id

    def __repr__(self) -> str:
        return f"<Workspace {self._id}>"

    @property
    def id(self) -> str:
        """The workspace's id."""
        return self._id

    async def delete(self) -> None:
        """Delete the workspace and all its files.

        Raises:
            WorkspaceNotFoundError: there is none of this id.
            SandkastenError: any other failure.
        """
        await self._connection.call(_wire.delete_workspace(self._id))
