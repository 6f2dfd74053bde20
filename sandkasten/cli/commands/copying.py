"""`cp`: copies between this machine and a session, with rules that `workspace cp` shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandkasten.cli.calls import transfers
from sandkasten.cli.calls.connecting import Where
from sandkasten.cli.calls.owners import SESSIONS, Owners
from sandkasten.cli.calls.streaming import signals_end_us
from sandkasten.cli.output.failures import USAGE, CommandLineError
from sandkasten.cli.parsing.arguments import Remote, complete_copy, session_place, side_of

if TYPE_CHECKING:
    from sandkasten.cli.calls.transfers import Files

Side = Remote | str

_side = side_of(session_place)


# Fingers type it.
recursive_option = click.option(
    "-r",
    "-R",
    "--recursive",
    is_flag=True,
    expose_value=False,
    help="Accepted for habit; directories are always copied.",
)


@click.command("cp")
@recursive_option
@click.argument("source", type=_side, metavar="SRC", shell_complete=complete_copy)
@click.argument("target", type=_side, metavar="DST", shell_complete=complete_copy)
@click.pass_obj
def cp_command(where: Where, source: Side, target: Side) -> None:
    """Copy files and directories into, out of or within a session.

    One of SRC and DST is SESSION:/path, absolute or relative to /workspace; the other is a path of this
    machine, or - for standard input or output, or a path in the same session. Where DST is a directory, or
    ends with a slash, the copy goes into it; otherwise DST is the copy's name.

    \b
      sandkasten cp data.csv $id:/workspace/
      sandkasten cp $id:report ./report
      sandkasten cp $id:log - | less
    """
    copy(SESSIONS, where, source, target)


def copy(owners: Owners, where: Where, source: Side, target: Side) -> None:
    """Copy between a local and a remote path in either direction, or between two remote paths of one owner.

    Raises:
        CommandLineError: a path is not valid, none is remote, or they are in two sessions or workspaces.
        SandkastenError: what the transfer raises.
    """
    if isinstance(source, str) and isinstance(target, str):
        sentence = f"At least one of the two must be remote, as {owners.name}:/path."
        raise CommandLineError(f"{sentence} Write a local name with a colon as ./name.", USAGE)
    with signals_end_us(), owners.open(where) as client:
        if isinstance(source, str):
            assert isinstance(target, Remote)
            _copy_in(owners.files(client, target), source, target)
        elif isinstance(target, str):
            _copy_out(owners.files(client, source), source, target)
        else:
            files = owners.common(client, source, target)
            files.copy(source.path, transfers.inside(files, source.path, target.path), overwrite=True)


def _copy_in(files: Files, source: str, target: Remote) -> None:
    if source == "-":
        transfers.push_stdin(files, target.path)
        return
    local = transfers.existing(source)
    if target.path.endswith("/") or transfers.is_directory(files, target.path):
        transfers.push(files, local, target.path, transfers.own_name(local))
    else:
        transfers.push(files, local, *transfers.split(target.path))


def _copy_out(files: Files, source: Remote, target: str) -> None:
    if target == "-":
        transfers.pull_to_stdout(files, source.path)
        return
    transfers.name_of(source.path)  # so that there is one
    transfers.pull(files, source.path, target)
