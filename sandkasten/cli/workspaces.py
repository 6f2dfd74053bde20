"""`workspace`: files that outlive sessions, and need none to be reached."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sandkasten.cli import arguments, out
from sandkasten.cli.connecting import Where, open_any_client
from sandkasten.cli.copying import copy, remote_owner
from sandkasten.cli.failures import FAILED, sentence_of
from sandkasten.cli.streaming import signals_end_us


@click.group("workspace", subcommand_metavar="COMMAND ...")
def workspace_command() -> None:
    """Files that outlive sessions.

    A workspace is a /workspace that a session is made with (`sandkasten new --workspace ID`). Without a
    daemon in the background, these commands start an embedded one for a moment.
    """


@workspace_command.command("ls")
@click.argument("place", metavar="[WORKSPACE[:/PATH]]", required=False)
@arguments.json_option
@click.pass_obj
def ls_command(where: Where, place: str | None, as_json: bool) -> None:
    """List the workspaces, or a directory in one of them."""
    with open_any_client(where) as client:
        if place is None:
            workspaces = client.list_workspaces()
            if as_json:
                out.emit_json(workspaces)
            else:
                rows = [(workspace.id, out.when(workspace.created_at)) for workspace in workspaces]
                out.emit_table(("ID", "CREATED"), rows)
            return
        remote = arguments.parse_remote(place) or arguments.Remote(place, "/workspace")
        entries = client.workspace(remote.owner).list(remote.path)
    if as_json:
        out.emit_json(entries)
    else:
        for entry in entries:
            out.emit(f"{entry.name}/" if entry.is_dir else entry.name)


@workspace_command.command("cp")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.pass_obj
def cp_command(where: Where, source: str, target: str) -> None:
    """Copy files and directories into a workspace, or out of it.

    One of SRC and DST is WORKSPACE:/path; otherwise this is as `sandkasten cp`. Copying into a workspace
    makes it, if it does not exist.
    """
    owner = remote_owner(source, target, "WORKSPACE")
    with signals_end_us(), open_any_client(where) as client:
        copy(client.workspace(owner), source, target)


@workspace_command.command("rm")
@click.argument("workspace_ids", metavar="WORKSPACE...", nargs=-1, required=True)
@click.pass_obj
def rm_command(where: Where, workspace_ids: Sequence[str]) -> int:
    """Delete workspaces with all their files, and print their ids."""
    with open_any_client(where) as client:
        from sandkasten.errors import SandkastenAPIError  # noqa: PLC0415  (loaded with the client)

        code = 0
        for workspace_id in workspace_ids:
            try:
                client.delete_workspace(workspace_id)
                out.emit(workspace_id)
            except SandkastenAPIError as error:  # of one; the others are deleted all the same
                out.say(sentence_of(error))
                code = FAILED
    return code
