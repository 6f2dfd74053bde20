"""`cat`, `stat`, `mkdir`, `mv`, `chmod`, `find`, `grep` and `watch`: files of a session, or of a workspace.

`Owners` are either of the two. The first paragraph of a function says what its command does, for both.
"""

from __future__ import annotations

import codecs
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sandkasten.cli.calls import transfers
from sandkasten.cli.calls.connecting import Where
from sandkasten.cli.calls.owners import SESSIONS, Owners
from sandkasten.cli.calls.streaming import signals_end_us
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import sentence_of
from sandkasten.cli.output.text import field
from sandkasten.cli.parsing import arguments
from sandkasten.cli.parsing.arguments import Remote

if TYPE_CHECKING:
    from sandkasten_sync import SandboxClient

_PIECE_BYTES = 1024 * 1024
_MAX_MATCHES = 10_000

Function = TypeVar("Function", bound=Callable[..., Any])

Decorator = Callable[[click.Command], click.Command]
ParameterOf = Callable[[Owners], Decorator]
"""A parameter of a command for the files of either kind."""


@dataclass(frozen=True)
class Verb:
    """A command for files: its function, which gets the owners first, and its parameters."""

    function: Callable[..., int | None]
    parameters: Sequence[ParameterOf]

    def command(self, name: str, owners: Owners) -> click.Command:
        """Return the command for the files of sessions, or of workspaces."""

        @click.pass_obj
        def callback(where: Where, /, **values: Any) -> int | None:
            return self.function(owners, where, **values)

        text = cleandoc(self.function.__doc__ or "").format(
            one=owners.one, program=owners.program, example=owners.example
        )
        command = click.Command(name, callback=callback, help=text)
        for parameter in self.parameters:
            parameter(owners)(command)
        return command


VERBS: dict[str, Verb] = {}


def _verb(name: str, *parameters: ParameterOf) -> Callable[[Function], Function]:
    """Have a function be a command, for the files of either kind."""

    def note(function: Function) -> Function:
        VERBS[name] = Verb(function, parameters)
        return function

    return note


def _option(*names: str, **settings: Any) -> ParameterOf:
    return lambda _owners: click.option(*names, **settings)


def _argument(name: str, **settings: Any) -> ParameterOf:
    return lambda _owners: click.argument(name, **settings)


def _paths(owners: Owners) -> Decorator:
    return click.argument(
        "paths", type=owners.path, metavar=f"{owners.name}:PATH...", nargs=-1, required=True,
        shell_complete=arguments.offering(owners.paths),
    )  # fmt: skip


def _place(owners: Owners) -> Decorator:
    return click.argument(
        "place", type=owners.place, metavar=f"{owners.name}[:PATH]",
        shell_complete=arguments.offering(owners.paths),
    )  # fmt: skip


def _end_of_move(name: str, shown: str) -> ParameterOf:
    return lambda owners: click.argument(
        name, type=owners.path, metavar=f"{owners.name}:{shown}",
        shell_complete=arguments.offering(owners.paths),
    )  # fmt: skip


def _json(_owners: Owners) -> Decorator:
    return arguments.json_option


def _mode(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 4 and set(value) <= set("01234567")):
        raise click.BadParameter(f"{value!r} is not a mode in octal, such as 644 or 755.")
    return int(value, 8)


def _pattern(value: str) -> str:
    if not value or not arguments.UNICODE.fullmatch(value):
        raise click.BadParameter("A pattern is text, and not empty.")
    return value


@_verb("cat", _paths)
def cat(owners: Owners, where: Where, paths: Sequence[Remote]) -> None:
    """Print files of a {one}, one after another.

    They are printed byte for byte; a terminal gets text without escape sequences.
    """
    output = out.Channels()
    with signals_end_us(), owners.open(where) as client:
        for path in paths:
            decoder, offset = codecs.getincrementaldecoder("utf-8")("replace"), 0
            files = owners.files(client, path)
            while True:
                found = files.read(path.path, offset=offset, max_bytes=_PIECE_BYTES)
                output.write("stdout", found.content, decoder.decode(found.content))
                offset += len(found.content)
                if not found.truncated:
                    break


@_verb(
    "stat",
    _option("-L", "--dereference", is_flag=True, help="Follow a symlink at the end of the path."),
    _paths,
    _json,
)
def stat(owners: Owners, where: Where, paths: Sequence[Remote], *, dereference: bool, as_json: bool) -> None:
    """Show what paths of a {one} are, and how large.

    Kind, permissions, time and, of a symlink, where it leads are shown as well.
    """
    with owners.open(where) as client:
        found = [owners.files(client, each).stat(each.path, follow_symlinks=dereference) for each in paths]
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


@_verb(
    "mkdir",
    _option("-p", "--parents", is_flag=True, help="Make missing parents; be content if it is there."),
    _paths,
)
def mkdir(owners: Owners, where: Where, paths: Sequence[Remote], *, parents: bool) -> None:
    """Make directories in a {one}."""
    with owners.open(where) as client:
        for path in paths:
            owners.files(client, path).mkdir(path.path, parents=parents, exist_ok=parents)


@_verb(
    "mv",
    _option("-n", "--no-clobber", is_flag=True, help="Replace nothing that is there."),
    _end_of_move("source", "SRC"),
    _end_of_move("target", "DST"),
)
def mv(owners: Owners, where: Where, source: Remote, target: Remote, *, no_clobber: bool) -> None:
    """Move a file or a directory within a {one}.

    Where DST is a directory, or ends with a slash, it goes into that; otherwise DST is its new name.
    """
    with signals_end_us(), owners.open(where) as client:
        files = owners.common(client, source, target)
        files.move(source.path, transfers.inside(files, source.path, target.path), overwrite=not no_clobber)


@_verb("chmod", _argument("mode", type=_mode, metavar="MODE"), _paths)
def chmod(owners: Owners, where: Where, mode: int, paths: Sequence[Remote]) -> None:
    """Set permissions of files of a {one}.

    MODE is in octal, such as 755. Directories have permissions, too.
    """
    with owners.open(where) as client:
        for path in paths:
            owners.files(client, path).chmod(path.path, mode)


@_verb("find", _place, _argument("pattern", type=_pattern, default="**"))
def find(owners: Owners, where: Where, place: Remote, pattern: str) -> None:
    """Print the paths of a {one} that match a pattern.

    They are below the directory; without a pattern, all are printed. * stands for any part of a name, and
    ** for any number of directories:

    \b
      {program} find {example}:src '**/*.py'
    """
    with owners.open(where) as client:
        for path in owners.files(client, place).glob(pattern, place.path):
            out.emit(posixpath.join(place.path, path))


@_verb(
    "grep",
    _option("-i", "--ignore-case", is_flag=True, help="Take a and A for the same."),
    _option("--include", type=_pattern, default="**", metavar="GLOB", help="Which files, such as **/*.py."),
    _argument("pattern", type=_pattern),
    _place,
    _json,
)
def grep(
    owners: Owners,
    where: Where,
    pattern: str,
    place: Remote,
    *,
    ignore_case: bool,
    include: str,
    as_json: bool,
) -> int:
    """Search in the files of a {one} for a regular expression.

    They are those below the directory. The expression is one of Python's. Lines are printed with their
    path and number. As with grep, the exit code is 1 if there are none.
    """
    with owners.open(where) as client:
        found = owners.files(client, place).search(
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


@_verb(
    "watch",
    _option("--flat", is_flag=True, help="Watch the directory itself, and not those in it."),
    _place,
    _json,
)
def watch(owners: Owners, where: Where, place: Remote, *, flat: bool, as_json: bool) -> None:
    """Print changes of files in a {one} as they happen.

    They are those below the directory, until Ctrl-C. Each line has the kind of the change and the path;
    of a move the old path and the new one.
    """
    with signals_end_us(), owners.open(where) as client:
        files = owners.files(client, place)
        with files.watch(place.path, recursive=not flat) as changes:
            out.say(f"Watching {place.path}")
            for change in changes:
                if as_json:
                    out.emit_json(change, one_line=True)
                    continue
                paths = [each for each in (change.old_path, change.path) if each is not None]
                out.emit_live("\t".join([change.kind, *map(field, paths)]))


(
    cat_command, stat_command, mkdir_command, mv_command,
    chmod_command, find_command, grep_command, watch_command,
) = (verb.command(name, SESSIONS) for name, verb in VERBS.items())  # fmt: skip


def remove_path(owners: Owners, client: SandboxClient, path: Remote, *, recursive: bool) -> bool:
    """Remove a path; return False, instead of failing, if the daemon refuses, so that the others go."""
    from sandkasten.errors import SandkastenAPIError  # noqa: PLC0415

    try:
        owners.files(client, path).remove(path.path, recursive=recursive)
    except SandkastenAPIError as error:
        out.say(sentence_of(error))
        return False
    return True
