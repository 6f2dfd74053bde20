"""`workspace`: files that outlive sessions and can be reached without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sandkasten.cli.calls.connecting import Where, open_any_client
from sandkasten.cli.calls.streaming import signals_end_us
from sandkasten.cli.commands.copying import Side, copy, recursive_option, remote_owner
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import FAILED, sentence_of
from sandkasten.cli.parsing import arguments

if TYPE_CHECKING:
    from sandkasten_sync import SandboxClient

_side = arguments.side_of(arguments.workspace_place)
_complete_side = arguments.offering("local_files", "workspace_paths")


@click.group("workspace", subcommand_metavar="COMMAND ...")
def workspace_command() -> None:
    """Files that outlive sessions.

    A workspace becomes the /workspace of a session (`sandkasten new --workspace ID`). Without a
    daemon in the background, these commands start an embedded one for a moment.
    """


@workspace_command.command("ls")
@click.argument(
    "place",
    type=arguments.workspace_place,
    metavar="[WORKSPACE[:/PATH]]",
    required=False,
    shell_complete=arguments.offering("workspace_paths"),
)
@arguments.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print only ids or names.")
@click.pass_obj
def ls_command(where: Where, place: arguments.Remote | None, as_json: bool, quiet: bool) -> None:
    """List the workspaces, or a directory in one of them."""
    with open_any_client(where) as client:
        if place is None:
            _list_workspaces(client, as_json=as_json, quiet=quiet)
            return
        from sandkasten.cli.output import listing  # noqa: PLC0415

        entries = listing.entries_at(client.workspace(place.owner), place.path)
        listing.emit_entries(entries, as_json=as_json, quiet=quiet)


def _list_workspaces(client: SandboxClient, *, as_json: bool, quiet: bool) -> None:
    workspaces = client.list_workspaces()
    if as_json:
        out.emit_json(workspaces)
    elif quiet:
        for workspace in workspaces:
            out.emit(workspace.id)
    else:
        rows = [(workspace.id, out.when(workspace.created_at)) for workspace in workspaces]
        out.emit_table(("ID", "CREATED"), rows)


@workspace_command.command("cp")
@recursive_option
@click.argument("source", type=_side, metavar="SRC", shell_complete=_complete_side)
@click.argument("target", type=_side, metavar="DST", shell_complete=_complete_side)
@click.pass_obj
def cp_command(where: Where, source: Side, target: Side) -> None:
    """Copy files and directories into a workspace, or out of it.

    One of SRC and DST is WORKSPACE:/path, where / is the workspace itself, as /workspace is in a session;
    otherwise this is as `sandkasten cp`. Copying into a workspace makes it, if it does not exist.

    \b
      sandkasten workspace cp data.csv notes:/
      sandkasten workspace cp notes:/report ./report
    """
    owner = remote_owner(source, target, "WORKSPACE")
    with signals_end_us(), open_any_client(where) as client:
        copy(client.workspace(owner), source, target)


@workspace_command.command("rm")
@click.argument(
    "workspace_ids",
    type=arguments.workspace_id,
    metavar="WORKSPACE...",
    nargs=-1,
    required=True,
    shell_complete=arguments.offering("workspace_ids"),
)
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
