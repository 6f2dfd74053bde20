"""`cp`: copies between this machine and a session, with rules that `workspace cp` shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandkasten.cli.calls import transfers
from sandkasten.cli.calls.connecting import Where, open_client
from sandkasten.cli.calls.streaming import signals_end_us
from sandkasten.cli.commands.files import same_session
from sandkasten.cli.output.failures import USAGE, CommandLineError
from sandkasten.cli.parsing import ids
from sandkasten.cli.parsing.arguments import Remote, complete_copy, session_place, side_of

if TYPE_CHECKING:
    from sandkasten.cli.calls.transfers import Files

Side = Remote | str

_side = side_of(session_place)
_ONE_SIDE = "{} of the two must be remote, as {}:/path. Write a local name with a colon as ./name."


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
    if isinstance(source, Remote) and isinstance(target, Remote):
        _copy_within(where, source, target)
        return
    owner = remote_owner(source, target, "SESSION", "At least one")
    with signals_end_us(), open_client(where) as client:
        copy(ids.session(client, owner), source, target)


def _copy_within(where: Where, source: Remote, target: Remote) -> None:
    with signals_end_us(), open_client(where) as client:
        session = ids.session(client, same_session(client, source, target))
        session.copy(source.path, transfers.inside(session, source.path, target.path), overwrite=True)


def remote_owner(source: Side, target: Side, kind: str, how_many: str = "Exactly one") -> str:
    """Return the session or workspace that one of two paths names.

    Raises:
        CommandLineError: not exactly one of the paths is remote.
    """
    remotes = [side for side in (source, target) if isinstance(side, Remote)]
    if len(remotes) != 1:
        raise CommandLineError(_ONE_SIDE.format(how_many, kind), USAGE)
    return remotes[0].owner


def copy(files: Files, source: Side, target: Side) -> None:
    """Copy between a local and a remote path, in either direction.

    Raises:
        CommandLineError: a path is not valid.
        SandkastenError: what the transfer raises.
    """
    match source, target:
        case Remote() as remote, str() as local:
            _copy_out(files, remote, local)
        case str() as local, Remote() as remote:
            _copy_in(files, local, remote)
        case _:
            raise AssertionError("one side is remote")


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
