"""Commands that change files, for daemons without the extension `files`: pure, each tested with a real bash.

Each prints between its marks `ok`, or the complaint of the program that failed, which ends with the words of
the C library.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial

from attrs import frozen

from sandkasten._answers import RefusedError
from sandkasten._plain.commands import marked, script
from sandkasten._protocol import Code
from sandkasten._transfer.places import absolute

_REASONS = {
    "No such file or directory": (404, Code.FILE_NOT_FOUND, "does not exist"),
    "Not a directory": (
        400,
        Code.NOT_A_DIRECTORY,
        "is not a directory, or goes through something that is not",
    ),
    "File exists": (409, Code.FILE_EXISTS, "exists"),
    "Directory not empty": (409, Code.DIRECTORY_NOT_EMPTY, "is a directory with something in it"),
    "Is a directory": (400, Code.IS_DIRECTORY, "is a directory"),
    "Permission denied": (403, Code.PERMISSION_DENIED, "is not allowed by the permissions in the sandbox"),
    "Operation not permitted": (403, Code.PERMISSION_DENIED, "may not be changed in the sandbox"),
    "Invalid argument": (400, Code.INVALID_REQUEST, "cannot be removed, moved or replaced like that"),
    "Read-only file system": (403, Code.READ_ONLY, "is on a file system that is read-only"),
    "No space left on device": (507, Code.INSUFFICIENT_STORAGE, "does not fit: the disk is full"),
}


@frozen(eq=False, repr=False)
class Deed:
    """A change of files that one command makes.

    Attributes:
        path: which path it is about, as the caller says it.
        command: makes the command of a mark.
        other: the other path, of a deed that has two.
    """

    path: str
    command: Callable[[str], str]
    other: str | None = None

    def read(self, mark: str, output: str) -> None:
        """Read what the command printed.

        Raises:
            RefusedError: it could not be done.
        """
        found = (marked(output, mark) or "it was cut short").strip()
        if found == "ok":
            return
        for ending, (status, code, words) in _REASONS.items():
            if found.endswith(ending):
                raise RefusedError(status, code, f"{self.path[:256]!r} {words}.")
        text = f"{self.path[:256]!r} cannot be changed by a command: {found[-300:]}"
        raise RefusedError(500, Code.INTERNAL_ERROR, text)


def make_directory(path: str, *, parents: bool, exist_ok: bool) -> Deed:
    """Make a directory."""
    steps = (
        '[ ! -d "$p" ] || say ok' if exist_ok else ":",
        'run mkdir -p -- "${p%/*}"' if parents else ":",
        'run mkdir -- "$p"',
    )
    return Deed(path, partial(_command, path, None, steps))


def remove(path: str, *, recursive: bool, missing_ok: bool) -> Deed:
    """Remove a file or a directory."""
    missing = "say ok" if missing_ok else 'run ls -d -- "$p"'
    steps = (
        '[ "$p" != /workspace ] || say "Invalid argument"',
        f'[ -e "$p" ] || [ -h "$p" ] || {missing}',
        'if [ -d "$p" ] && [ ! -h "$p" ]; then',
        'run rm -rf -- "$p"' if recursive else 'run rmdir -- "$p"',
        'else run rm -f -- "$p"; fi',
    )
    return Deed(path, partial(_command, path, None, steps))


def move(path: str, *, to: str, overwrite: bool) -> Deed:
    """Move a file or a directory."""
    steps = (*_begin(overwrite=overwrite), *_PUT)
    return Deed(path, partial(_command, path, to, ('t="$p"', *steps)), to)


def copy(path: str, *, to: str, overwrite: bool) -> Deed:
    """Copy a file or a directory."""
    steps = (
        't="/workspace/.sandkasten-$RANDOM$RANDOM$RANDOM"',  # which is in no directory that is copied
        *_begin(overwrite=overwrite),
        """trap 'rm -rf -- "$t"' EXIT""",
        'run cp -RHp -- "$p" "$t"',
        *_PUT,
    )
    return Deed(path, partial(_command, path, to, steps), to)


def change_mode(path: str, *, mode: int) -> Deed:
    """Set permission bits."""
    return Deed(
        path,
        partial(_command, path, None, ('[ -e "$p" ] || run ls -dL -- "$p"', f'run chmod {mode:o} -- "$p"')),
    )


_PUT = (
    'if [ -d "$q" ] && [ ! -h "$q" ]; then [ -d "$t" ] && [ ! -h "$t" ] || say "Is a directory"',
    'run rmdir -- "$q"; elif [ -e "$q" ] && [ -d "$t" ] && [ ! -h "$t" ]; then say "Not a directory"; fi',
    '[ "$t" != "$q" ] || say ok',
    'case "$q/" in "$t"/*) say "Invalid argument";; esac',
    'run mv -fT -- "$t" "$q"',
)


def _begin(*, overwrite: bool) -> tuple[str, ...]:
    return (
        '[ "$p" != /workspace ] && [ "$q" != /workspace ] || say "Invalid argument"',
        'run ls -d -- "$p"; run mkdir -p -- "${q%/*}"',
        ":" if overwrite else '[ ! -e "$q" ] && [ ! -h "$q" ] || say "File exists"',
    )


def _command(path: str, other: str | None, steps: tuple[str, ...], mark: str) -> str:
    second = "" if other is None else f" q={shlex.quote(absolute(other, name='to'))}"
    return script(
        f"p={shlex.quote(absolute(path))}{second}",
        f'say() {{ printf "\\n%s:%s:%s\\n" {mark} "$1" {mark}; exit 0; }}',
        'run() { e=$("$@" 2>&1 >/dev/null) || say "${e:-it failed}"; }',
        *steps,
        "say ok",
    )
