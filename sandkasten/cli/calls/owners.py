"""Sessions and workspaces: both own files, and their commands for files are the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sandkasten.cli.calls.connecting import Where, open_any_client, open_client
from sandkasten.cli.output.failures import USAGE, CommandLineError
from sandkasten.cli.parsing import arguments, ids
from sandkasten.cli.parsing.arguments import Remote

if TYPE_CHECKING:
    from sandkasten.cli.calls.transfers import Files
    from sandkasten_sync import SandboxClient


@dataclass(frozen=True)
class Owners:
    """One of the two kinds.

    Attributes:
        one: the word for one of them.
        many: the word for several.
        name: how one stands in the help.
        program: what their commands begin with.
        example: one of them, as an example names it.
        place: the type of arguments that name one of them, or a path in it.
        paths: the completion of these, see `arguments.offering`.
        open: opens the client of a daemon that has them.
        named: finds the one that is named so.
    """

    one: str
    many: str
    name: str
    program: str
    example: str
    place: Callable[[str], Remote]
    paths: str
    open: Callable[[Where], AbstractContextManager[SandboxClient]]
    named: Callable[[SandboxClient, str], Files]

    def files(self, client: SandboxClient, remote: Remote) -> Files:
        """Return the one that a path is in.

        Raises:
            CommandLineError: several are named so.
            SandkastenError: the daemon cannot be asked.
        """
        return self.named(client, remote.owner)

    def path(self, value: str) -> Remote:
        """Return the path that an argument names; one that is not there is not meant to be the whole."""
        if ":" not in value or value.endswith(":"):
            raise click.BadParameter(f"{value!r} is not a path in a {self.one}. Write {self.name}:/path.")
        return self.place(value)

    def place_or_path(self, value: str) -> str | Remote:
        """Return one of them by its name, or a path in it."""
        place = self.place(value)
        if ":" not in value:
            return place.owner
        if value.endswith(":"):
            raise click.BadParameter(
                f"{value!r} names no path. Write {self.name}:/path, or the {self.one} without a colon."
            )
        return place

    def common(self, client: SandboxClient, source: Remote, target: Remote) -> Files:
        """Return the one in which both of two paths are.

        Raises:
            CommandLineError: they are in two.
        """
        found = {files.id: files for files in (self.files(client, each) for each in (source, target))}
        if len(found) > 1:
            raise CommandLineError(
                f"The two paths are in two {self.many}. "
                f"Copy out of one first, with: {self.program} cp {self.name}:/path .",
                USAGE,
            )
        return next(iter(found.values()))


SESSIONS = Owners(
    "session", "sessions", "SESSION", "sandkasten", "$id",
    arguments.session_place, "session_paths", open_client, ids.session,
)  # fmt: skip
WORKSPACES = Owners(
    "workspace", "workspaces", "WORKSPACE", "sandkasten workspace", "notes",
    arguments.workspace_place, "workspace_paths", open_any_client,
    lambda client, name: client.workspace(name),
)  # fmt: skip
