"""Commands that carry files, for daemons without the extension `files`: pure, each tested with a real bash.

Each runs in a subshell, so that it changes nothing in a shell that remembers; what it prints between two
marks is its result, whatever else is in the output. Paths are absolute and quoted.
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Generic, TypeVar

from attrs import define, evolve, frozen

from sandkasten._transfer.places import listed_name
from sandkasten.errors import SandkastenError, TooLargeError
from sandkasten.models import DirEntry, FileStat

T = TypeVar("T")

# A command's output may be 1 MiB, or less: then slices become smaller until they fit.
FIRST_SLICE_BYTES = 720 * 1024
_LEAST_SLICE_BYTES = 1024

# Mode, size and time of change, as `stat` prints them.
_ROW = re.compile(r"([0-9a-f]{1,8}) (\d{1,19}) (-?\d{1,19})", re.ASCII)
_KIND_ONLY = re.compile(r"([148a]000)", re.ASCII)
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


@frozen(eq=False, repr=False)
class Pieces:
    """Files that are parts of one.

    Attributes:
        prefix: their path, without the suffixes `.0`, `.1` and so on.
        count: how many there are.
        size_bytes: of all together.
        sha256: of all together, in hexadecimal digits.
    """

    prefix: str
    count: int
    size_bytes: int
    sha256: str


def join_command(pieces: Pieces, path: str, mode: int | None) -> str:
    """Put pieces together, and the whole in its place, or nothing."""
    return script(
        f"t={shlex.quote(pieces.prefix)} d={shlex.quote(path)} m={'' if mode is None else f'{mode:o}'}",
        'fail() { rm -f -- "$t".*; echo "$1"; exit 1; }',
        *([] if pieces.count else ['mkdir -p -- "${d%/*}"; : >"$t.0"']),
        f"i=1; while [ $i -lt {pieces.count} ]; do",
        'cat -- "$t.$i" >>"$t.0" && rm -f -- "$t.$i" || fail "the pieces could not be joined"',
        "i=$((i+1)); done",
        f'[ "$(wc -c <"$t.0")" -eq {pieces.size_bytes} ] || fail "the pieces have another size"',
        "if command -v sha256sum >/dev/null; then",
        f'[ "$(sha256sum <"$t.0" | cut -c1-64)" = {pieces.sha256} ] || fail "the pieces have changed"; fi',
        '[ ! -d "$d" ] || fail "$d is a directory"',
        'if [ -z "$m" ] && [ -f "$d" ] && [ ! -h "$d" ]; then m=$(stat -c %a -- "$d"); m=${m: -3}; fi',
        'chmod "${m:-644}" "$t.0"; mv -f -- "$t.0" "$d" || fail "$d could not be replaced"',
    )


def append_command(pieces: Pieces, path: str) -> str:
    """Add pieces to the end of a file, in one go."""
    return script(
        f"t={shlex.quote(pieces.prefix)} d={shlex.quote(path)}",
        "trap 'rm -f -- \"$t\".*' EXIT; i=0",
        f'{{ while [ $i -lt {pieces.count} ]; do cat -- "$t.$i" || exit 1; i=$((i+1)); done; }} >>"$d"',
    )


def unpack_command(pieces: Pieces, path: str) -> str:
    """Unpack the archive that pieces are into a directory, with permissions, but no owners or times."""
    return script(
        f"t={shlex.quote(pieces.prefix)} d={shlex.quote(path)}",
        'set -o pipefail; mkdir -p -- "$d" || exit 1',
        f"i=0; while [ $i -lt {pieces.count} ]; do",
        'cat -- "$t.$i" && rm -f -- "$t.$i" || exit 1; i=$((i+1)); done | tar -xpomf - -C "$d"',
        's=$?; rm -f -- "$t".*; exit $s',
    )


def remove_command(path: str) -> str:
    """Take a temporary file away, and the pieces whose prefix it is."""
    return script(f"t={shlex.quote(path)}", 'rm -f -- "$t" "$t".*')


def pack_command(path: str, mark: str) -> str:
    """Pack a directory into a temporary file, and print its name."""
    return script(
        "t=$(mktemp) || exit 1",
        f'tar -cf "$t" -C {shlex.quote(path)} . || {{ s=$?; rm -f -- "$t"; exit $s; }}',
        f'printf "\\n%s:%s:%s\\n" {mark} "$t" {mark}',
    )


def slice_command(path: str, offset: int, size_bytes: int, mark: str) -> str:
    """Print a part of a file in base64, and how large the file is."""
    return script(
        f"f={shlex.quote(path)}",
        f'printf "\\n%s:" {mark}',
        f'tail -c +{offset + 1} <"$f" | head -c {size_bytes} | base64',
        f'printf ":%s:%s\\n" "$(wc -c <"$f")" {mark}',
    )


def checksum_command(path: str, mark: str) -> str:
    """Print a file's checksum, or nothing where there is no program for that."""
    return script(
        f'printf "\\n%s:%s:%s\\n" {mark} "$(sha256sum <{shlex.quote(path)} 2>/dev/null | cut -c1-64)" {mark}'
    )


def list_command(path: str, mark: str) -> str:
    """Print the names in a directory in base64, and after a colon the mode, size and time of each."""
    return script(
        f"cd -- {shlex.quote(path)} || exit 1",
        "unset GLOBIGNORE || exit 1; shopt -u failglob; shopt -s nullglob dotglob; set -- *",
        'names() { [ "$#" -eq 0 ] || printf "%s\\0" "$@"; }',
        f'printf "\\n%s:" {mark}; names "$@" | base64; echo :',
        'names "$@" | xargs -0 -r stat -c "%f %s %Y" -- 2>/dev/null',
        f'echo ":{mark}"',
    )


def chmod_command(path: str, mode: int) -> str:
    """Set a file's permissions."""
    return script(f"chmod {mode:o} {shlex.quote(path)}")


def script(*lines: str) -> str:
    """Return a command that changes nothing in the shell that runs it, and finds its options as usual."""
    quiet = "{ set +xvT; trap - DEBUG ERR; } 2>/dev/null"
    return f"(\n{quiet}; set +euf; export LC_ALL=C\n" + "\n".join(lines) + "\n)"


def marked(output: str, mark: str) -> str | None:
    """Return the output of a command between its marks, or None if a mark is missing."""
    # Not by a regular expression: what prints it decides how long one takes.
    start, end = output.find(f"{mark}:"), output.rfind(f":{mark}")
    start += len(mark) + 1
    return output[start:end] if len(mark) < start <= end else None


def listed(path: str, output: str, mark: str, *, truncated: bool) -> list[DirEntry]:
    """Read what `list_command` printed.

    Raises:
        TooLargeError: there are too many entries.
        SandkastenError: it makes no sense, or the directory has changed.
    """
    if truncated:
        raise TooLargeError(f"{path!r} has too many entries to list.", "Divide them up among directories.")
    text = marked(output, mark)
    encoded, _, table = ("?" if text is None else text).partition(":")
    try:
        names = base64.b64decode("".join(encoded.split()), validate=True).split(b"\0")[:-1]
        rows = [row for row in table.splitlines() if row]
        entries = [_entry(name, row) for name, row in zip(names, rows, strict=True)]
    except ValueError:  # names and rows are not as many, for one
        raise SandkastenError(
            f"{path!r} cannot be listed by commands.",
            "Try again when nothing changes it, and check that the image has base64, stat and xargs.",
        ) from None
    return sorted(entries, key=lambda entry: entry.name)


def _entry(name: bytes, row: str) -> DirEntry:
    found = _ROW.fullmatch(row)
    if found is None:
        raise ValueError(row)
    mode, size_bytes, modified_seconds = found.groups()
    kind = _KINDS.get(stat.S_IFMT(int(mode, 16)), "other")
    text = listed_name(name.decode("utf-8", "surrogateescape"))
    return DirEntry(text, kind == "directory", kind, int(size_bytes), _moment(int(modified_seconds)))


def _moment(seconds: int) -> datetime | None:
    with suppress(OverflowError, ValueError, OSError):  # it is what code in the sandbox set it to
        return datetime.fromtimestamp(seconds, UTC)
    return None


# --- questions


@frozen(eq=False, repr=False)
class Question(Generic[T]):
    """A question about a path that one command answers.

    Attributes:
        path: which path.
        command: makes the command of the whole path and a mark, which stands on both sides of its answer.
        read: makes the result of what is between the marks; None if that is no answer.
        of_kind: makes the result of `file` or `directory`, for a workspace, where nothing else can be known;
            None if that is not enough.
    """

    path: str
    command: Callable[[str, str], str]
    read: Callable[[str], T | None]
    of_kind: Callable[[str], T] | None = None


def stat_question(path: str, *, follow_symlinks: bool) -> Question[FileStat]:
    """Ask what a path is."""
    return Question(
        path,
        partial(stat_command, follow_symlinks=follow_symlinks),
        partial(_stat, path),
        partial(FileStat, path) if follow_symlinks else None,
    )


def stat_command(path: str, mark: str, *, follow_symlinks: bool) -> str:
    """Print mode, size and time of a path, and after a colon a symlink's target in base64.

    An image may have no `stat`: then bash itself finds the kind, as the first digit of a mode.
    """
    follow, is_there = ("-L", '[ -e "$p" ]') if follow_symlinks else ("", '[ -e "$p" ] || [ -h "$p" ]')
    return script(
        f"p={shlex.quote(path)} f={follow} k=1",
        f"{{ {is_there}; }} || exit 1",
        '[ ! -f "$p" ] || k=8; [ ! -d "$p" ] || k=4; [ -n "$f" ] || [ ! -h "$p" ] || k=a',
        f'printf "\\n%s:" {mark}',
        'stat $f -c "%f %s %Y" -- "$p" 2>/dev/null || echo "${k}000"',
        'echo :; [ -n "$f" ] || { readlink -n -- "$p" | base64; } 2>/dev/null',
        f'echo ":{mark}"',
    )


def _stat(path: str, text: str) -> FileStat | None:
    row, _, encoded = text.partition(":")
    found = _ROW.fullmatch(row.strip()) or _KIND_ONLY.fullmatch(row.strip())
    try:
        target = base64.b64decode("".join(encoded.split()), validate=True)
    except ValueError:
        return None
    if found is None:
        return None
    mode = int(found[1], 16)
    stated = FileStat(path, _KINDS.get(stat.S_IFMT(mode), "other"))
    if target:
        stated = evolve(stated, link_target=target.decode("utf-8", "surrogateescape"))
    if found.re is _KIND_ONLY:
        return stated
    return evolve(
        stated, size_bytes=int(found[2]), mode=stat.S_IMODE(mode), modified_at=_moment(int(found[3]))
    )


# --- reading in slices


@define(eq=False, repr=False)
class Slices:
    """A file that is read in slices, from one offset on.

    Attributes:
        path: which file.
        offset: where the next slice begins.
        end: where the last one ends; None: where the file does.
        total_bytes: how large the file is, once that is known.
        size_bytes: how large the next slice is.
    """

    path: str
    offset: int = 0
    end: int | None = None
    total_bytes: int | None = None
    size_bytes: int = FIRST_SLICE_BYTES

    @property
    def is_complete(self) -> bool:
        """True if all that is wanted was read."""
        ends = [end for end in (self.end, self.total_bytes) if end is not None]
        return bool(ends) and self.offset >= min(ends)

    def command(self, mark: str) -> str:
        """The command for the next slice."""
        if self.end is not None:
            self.size_bytes = min(self.size_bytes, self.end - self.offset)
        return slice_command(self.path, self.offset, self.size_bytes, mark)

    def take(self, output: str, mark: str, *, truncated: bool) -> bytes:
        """Read the command's output; empty if it must be asked for again, in a smaller size.

        Raises:
            SandkastenError: the output is not what was asked for, or the file has changed.
        """
        text = marked(output, mark)
        if text is None:
            return self._halve(truncated=truncated)
        encoded, _, size = text.rpartition(":")
        try:
            data = base64.b64decode("".join(encoded.split()), validate=True)
            total_bytes = int(size)
        except (binascii.Error, ValueError):
            raise SandkastenError(f"{self.path!r} cannot be read by commands: {text[:200]!r}.") from None
        expected = max(0, min(self.size_bytes, total_bytes - self.offset))
        if self.total_bytes not in {None, total_bytes} or len(data) != expected:
            raise changed(self.path)
        self.total_bytes = total_bytes
        self.offset += len(data)
        return data

    def _halve(self, *, truncated: bool) -> bytes:
        if not truncated or self.size_bytes <= _LEAST_SLICE_BYTES:
            raise SandkastenError(
                f"{self.path!r} cannot be read by commands: their output comes incomplete.",
                "Check that the session's image has head, tail and base64.",
            )
        self.size_bytes //= 2
        return b""


def changed(path: str) -> SandkastenError:
    """The error for a file that was written to while it was read."""
    return SandkastenError(f"{path!r} changed while it was read.", "Read it again when nothing writes to it.")
