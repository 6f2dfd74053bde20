"""`cp`: between this machine and a session; what it means is decided here, for workspaces, too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sandkasten.cli import transfers
from sandkasten.cli.arguments import Remote, parse_remote
from sandkasten.cli.connecting import Where, open_client
from sandkasten.cli.failures import USAGE, CommandLineError
from sandkasten.cli.streaming import signals_end_us

if TYPE_CHECKING:
    from sandkasten.cli.transfers import Files

_ONE_SIDE = "Exactly one of the two must be remote, as {}:/path. Write a local name with a colon as ./name."


@click.command("cp")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.pass_obj
def cp_command(where: Where, source: str, target: str) -> None:
    """Copy files and directories into a session, or out of it.

    One of SRC and DST is SESSION:/path, below /workspace or relative to it; the other is a path of this
    machine, or - for standard input or output. Where DST is a directory, or ends with a slash, the copy
    goes into it; otherwise DST is the copy's name.

    \b
      sandkasten cp data.csv $id:/workspace/
      sandkasten cp $id:report ./report
      sandkasten cp $id:log - | less
    """
    owner = remote_owner(source, target, "SESSION")
    with signals_end_us(), open_client(where) as client:
        copy(client.get_session(owner), source, target)


def remote_owner(source: str, target: str, kind: str) -> str:
    """The session or workspace that two paths are about.

    Raises:
        CommandLineError: it is not one of the two.
    """
    remotes = [remote for remote in map(parse_remote, (source, target)) if remote is not None]
    if len(remotes) != 1:
        raise CommandLineError(_ONE_SIDE.format(kind), USAGE)
    return remotes[0].owner


def copy(files: Files, source: str, target: str) -> None:
    """Copy from one to the other; one of them is remote.

    Raises:
        CommandLineError: a path that makes no sense.
        SandkastenError: what the transfer raises.
    """
    remote_source, remote_target = parse_remote(source), parse_remote(target)
    if remote_source is not None:
        _copy_out(files, remote_source, target)
    elif remote_target is not None:
        _copy_in(files, source, remote_target)


def _copy_in(files: Files, source: str, target: Remote) -> None:
    if source == "-":
        transfers.push_stdin(files, target.path)
        return
    local = transfers.existing(source)
    if target.path.endswith("/") or transfers.is_directory(files, target.path):
        transfers.push(files, local, target.path, local.resolve().name)
    else:
        transfers.push(files, local, *transfers.split(target.path))


def _copy_out(files: Files, source: Remote, target: str) -> None:
    if target == "-":
        transfers.pull_to_stdout(files, source.path)
        return
    local = Path(target)
    if target.endswith(os.sep) or local.is_dir():
        local.mkdir(parents=True, exist_ok=True)
        local /= transfers.name_of(source.path)
    transfers.pull(files, source.path, local)
