"""`cat`, `stat`, `mkdir`, `mv`, `chmod`, `find`, `grep` and `watch`: the files of a session."""

from __future__ import annotations

import codecs
import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sandkasten.cli.calls import transfers
from sandkasten.cli.calls.connecting import Where, open_client
from sandkasten.cli.calls.streaming import signals_end_us
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import USAGE, CommandLineError, sentence_of
from sandkasten.cli.output.text import field
from sandkasten.cli.parsing import arguments, ids
from sandkasten.cli.parsing.arguments import Remote

if TYPE_CHECKING:
    from sandkasten_sync import SandboxClient

_PIECE_BYTES = 1024 * 1024
_MAX_MATCHES = 10_000


def _remote(value: str) -> Remote:
    """Return a path in a session; a session without one is not meant."""
    if ":" not in value or value.endswith(":"):
        raise click.BadParameter(f"{value!r} is not a path in a session. Write SESSION:/path.")
    return arguments.session_place(value)


def _mode(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 4 and set(value) <= set("01234567")):
        raise click.BadParameter(f"{value!r} is not a mode in octal, such as 644 or 755.")
    return int(value, 8)


def _pattern(value: str) -> str:
    if not value or not arguments.UNICODE.fullmatch(value):
        raise click.BadParameter("A pattern is text, and not empty.")
    return value


paths_argument = click.argument(
    "paths", type=_remote, metavar="SESSION:PATH...", nargs=-1, required=True,
    shell_complete=arguments.offering("session_paths"),
)  # fmt: skip
place_argument = click.argument(
    "place", type=arguments.session_place, metavar="SESSION[:PATH]",
    shell_complete=arguments.offering("session_paths"),
)  # fmt: skip


@click.command("cat")
@paths_argument
@click.pass_obj
def cat_command(where: Where, paths: Sequence[Remote]) -> None:
    """Print files of a session, one after another.

    They are printed byte for byte; a terminal gets text without escape sequences.
    """
    output = out.Channels()
    with signals_end_us(), open_client(where) as client:
        for path in paths:
            decoder, offset = codecs.getincrementaldecoder("utf-8")("replace"), 0
            session = ids.session(client, path.owner)
            while True:
                found = session.read(path.path, offset=offset, max_bytes=_PIECE_BYTES)
                output.write("stdout", found.content, decoder.decode(found.content))
                offset += len(found.content)
                if not found.truncated:
                    break


@click.command("stat")
@click.option("-L", "--dereference", is_flag=True, help="Follow a symlink at the end of the path.")
@paths_argument
@arguments.json_option
@click.pass_obj
def stat_command(where: Where, paths: Sequence[Remote], *, dereference: bool, as_json: bool) -> None:
    """Show what paths of a session are, and how large.

    Kind, permissions, time and, of a symlink, where it leads are shown as well.
    """
    with open_client(where) as client:
        found = [
            ids.session(client, path.owner).stat(path.path, follow_symlinks=dereference) for path in paths
        ]
    if as_json:
        out.emit_json(found if len(found) > 1 else found[0])
        return
    for each in found:
        out.emit_fields(
            {
                "path": each.path,
                "kind": each.kind,
                "size": each.size_bytes,
                "mode": None if each.mode is None else f"{each.mode:04o}",
                "modified": out.when(each.modified_at),
                "target": each.link_target,
            }
        )


@click.command("mkdir")
@click.option("-p", "--parents", is_flag=True, help="Make missing parents; be content if it is there.")
@paths_argument
@click.pass_obj
def mkdir_command(where: Where, paths: Sequence[Remote], parents: bool) -> None:
    """Make directories in a session."""
    with open_client(where) as client:
        for path in paths:
            ids.session(client, path.owner).mkdir(path.path, parents=parents, exist_ok=parents)


@click.command("mv")
@click.option("-n", "--no-clobber", is_flag=True, help="Replace nothing that is there.")
@click.argument("source", type=_remote, metavar="SESSION:SRC", shell_complete=arguments.complete_copy)
@click.argument("target", type=_remote, metavar="SESSION:DST", shell_complete=arguments.complete_copy)
@click.pass_obj
def mv_command(where: Where, source: Remote, target: Remote, no_clobber: bool) -> None:
    """Move a file or a directory within a session.

    Where DST is a directory, or ends with a slash, it goes into that; otherwise DST is its new name.
    """
    with signals_end_us(), open_client(where) as client:
        session = ids.session(client, same_session(client, source, target))
        session.move(
            source.path, transfers.inside(session, source.path, target.path), overwrite=not no_clobber
        )


def same_session(client: SandboxClient, source: Remote, target: Remote) -> str:
    """Return the session in which both of two paths are.

    Raises:
        CommandLineError: they are in two sessions.
    """
    owners = {ids.session(client, each.owner).id for each in (source, target)}
    if len(owners) > 1:
        raise CommandLineError(
            "The two paths are in two sessions. Copy out of one first, with: sandkasten cp SESSION:/path .",
            USAGE,
        )
    return owners.pop()


@click.command("chmod")
@click.argument("mode", type=_mode, metavar="MODE")
@paths_argument
@click.pass_obj
def chmod_command(where: Where, mode: int, paths: Sequence[Remote]) -> None:
    """Set permissions of files of a session.

    MODE is in octal, such as 755. Directories have permissions, too.
    """
    with open_client(where) as client:
        for path in paths:
            ids.session(client, path.owner).chmod(path.path, mode)


@click.command("find")
@place_argument
@click.argument("pattern", type=_pattern, default="**")
@click.pass_obj
def find_command(where: Where, place: Remote, pattern: str) -> None:
    """Print the paths of a session that match a pattern.

    They are below the directory; without a pattern, all are printed. * stands for any part of a name, and
    ** for any number of directories:

    \b
      sandkasten find $id:src '**/*.py'
    """
    with open_client(where) as client:
        for path in ids.session(client, place.owner).glob(pattern, place.path):
            out.emit(posixpath.join(place.path, path))


@click.command("grep")
@click.option("-i", "--ignore-case", is_flag=True, help="Take a and A for the same.")
@click.option("--include", type=_pattern, default="**", metavar="GLOB", help="Which files, such as **/*.py.")
@click.argument("pattern", type=_pattern)
@place_argument
@arguments.json_option
@click.pass_obj
def grep_command(
    where: Where, pattern: str, place: Remote, *, ignore_case: bool, include: str, as_json: bool
) -> int:
    """Search in the files of a session for a regular expression.

    They are those below the directory. The expression is one of Python's. Lines are printed with their
    path and number. As with grep, the exit code is 1 if there are none.
    """
    with open_client(where) as client:
        found = ids.session(client, place.owner).search(
            pattern, place.path, glob=include, ignore_case=ignore_case, max_results=_MAX_MATCHES
        )
    if as_json:
        out.emit_json(list(found.matches))
    else:
        for match in found.matches:
            out.emit(f"{posixpath.join(place.path, match.path)}:{match.line_number}:{match.line}")
    if found.truncated:
        out.say(f"(There are more than {_MAX_MATCHES} lines. Use another pattern, or --include.)")
    return 0 if found.matches else 1


@click.command("watch")
@click.option("--flat", is_flag=True, help="Watch the directory itself, and not those in it.")
@place_argument
@arguments.json_option
@click.pass_obj
def watch_command(where: Where, place: Remote, *, flat: bool, as_json: bool) -> None:
    """Print changes of files in a session as they happen.

    They are those below the directory, until Ctrl-C. Each line has the kind of the change and the path;
    of a move the old path and the new one.
    """
    with signals_end_us(), open_client(where) as client:
        session = ids.session(client, place.owner)
        with session.watch(place.path, recursive=not flat) as changes:
            out.say(f"Watching {place.path}")
            for change in changes:
                if as_json:
                    out.emit_json(change, one_line=True)
                    continue
                paths = [each for each in (change.old_path, change.path) if each is not None]
                out.emit_live("\t".join([change.kind, *map(field, paths)]))


def remove_path(client: SandboxClient, path: Remote, *, recursive: bool) -> bool:
    """Remove a path; return False, instead of failing, if the daemon refuses, so that the others go."""
    from sandkasten.errors import SandkastenAPIError  # noqa: PLC0415

    try:
        ids.session(client, path.owner).remove(path.path, recursive=recursive)
    except SandkastenAPIError as error:
        out.say(sentence_of(error))
        return False
    return True
