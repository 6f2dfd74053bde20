"""`workspace`: files that outlive sessions and can be reached without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sandkasten.cli.calls.connecting import Where, open_any_client
from sandkasten.cli.calls.owners import WORKSPACES
from sandkasten.cli.commands.copying import Side, copy, recursive_option
from sandkasten.cli.commands.files import VERBS, remove_path
from sandkasten.cli.commands.storing import pull_command, push_command
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import FAILED, sentence_of
from sandkasten.cli.parsing import arguments
from sandkasten.cli.parsing.arguments import Remote

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
    """Copy files and directories into, out of or within a workspace.

    One of SRC and DST, or both, are WORKSPACE:/path, where / is the workspace itself, as /workspace is in a
    session; otherwise this is as `sandkasten cp`. Copying into a workspace makes it, if it does not exist.

    \b
      sandkasten workspace cp data.csv notes:/
      sandkasten workspace cp notes:/report ./report
    """
    copy(WORKSPACES, where, source, target)


@workspace_command.command("rm")
@click.argument(
    "places", type=WORKSPACES.place_or_path, metavar="WORKSPACE[:PATH]...", nargs=-1, required=True,
    shell_complete=arguments.offering("workspace_ids", "workspace_paths"),
)  # fmt: skip
@click.option("-r", "-R", "--recursive", is_flag=True, help="Remove directories with all that is in them.")
@click.pass_obj
def rm_command(where: Where, places: Sequence[str | Remote], *, recursive: bool) -> int:
    """Delete workspaces with all their files, or remove files in them.

    The ids of the workspaces that were deleted are printed. WORKSPACE:/path is only that file, and with -r
    that directory.
    """
    with open_any_client(where) as client:
        done = [
            remove_path(WORKSPACES, client, place, recursive=recursive)
            if isinstance(place, Remote)
            else _delete(client, place)
            for place in places
        ]
    return 0 if all(done) else FAILED


def _delete(client: SandboxClient, workspace_id: str) -> bool:
    """Delete a workspace; return False, instead of failing, if the daemon refuses, so that the others go."""
    from sandkasten.errors import SandkastenAPIError  # noqa: PLC0415  (loaded with the client)

    try:
        client.delete_workspace(workspace_id)
    except SandkastenAPIError as error:
        out.say(sentence_of(error))
        return False
    out.emit(workspace_id)
    return True


workspace_command.add_command(push_command)
workspace_command.add_command(pull_command)
for _name, _verb in VERBS.items():
    workspace_command.add_command(_verb.command(_name, WORKSPACES))
