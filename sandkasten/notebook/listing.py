"""Listing files through the session's shell: the command and the reading of its output are pure.

The shell belongs to the sandbox, and so does what this listing says: names, sizes and times are claims.
They decide only which files are asked for; what comes then is measured and checked.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandkasten_sync import Session


MAX_ENTRIES = 1000

_TIMEOUT_MS = 5_000
_FOUND = "found"
_LINE = re.compile(r"([a-zA-Z]) (\d{1,19}) (\d{1,11}(?:\.\d{1,10})?) (\d{1,20}) (\S.*)")
_FORMAT = r"%y %s %C@ %i %P\n"


@dataclass(frozen=True)
class FileEntry:
    """A name in a directory of the sandbox, as the sandbox describes it.

    Attributes:
        path: relative to the directory that was listed.
        kind: a letter as `find` gives them: `f` a file, `d` a directory, `l` a symlink.
        size_bytes: its length.
        changed_seconds: when it was last changed in any way, in seconds since 1970, as text: it is
            finer than a float.
        inode: its number in the file system.
    """

    path: str
    kind: str
    size_bytes: int
    changed_seconds: str
    inode: str

    @property
    def changed_at(self) -> datetime:
        """The time of the file's last change."""
        return datetime.fromtimestamp(float(self.changed_seconds), UTC)


@dataclass(frozen=True)
class Listing:
    """The entries of a directory.

    Attributes:
        directory: its absolute path.
        entries: at most `MAX_ENTRIES` of them, sorted by their paths.
        exists: whether it could be opened.
        truncated: whether there are more entries.
    """

    directory: str
    entries: tuple[FileEntry, ...] = ()
    exists: bool = True
    truncated: bool = False


def list_directory(session: Session, path: str) -> Listing:
    """List one directory, hidden names too.

    Raises:
        SandkastenError: any failure.
    """
    return _list(session, path, "-maxdepth 1")


def list_files(session: Session, path: str, suffixes: Iterable[str], depth: int) -> Listing:
    """List files of certain suffixes, to some depth and without hidden ones.

    Raises:
        SandkastenError: any failure.
    """
    names = " -o ".join(f"-iname {shlex.quote(f'*{suffix}')}" for suffix in suffixes)
    return _list(session, path, rf"-maxdepth {depth:d} -name '.*' -prune -o -type f \( {names} \)")


def _list(session: Session, path: str, tests: str) -> Listing:
    result = session.exec(listing_command(path, tests), timeout_ms=_TIMEOUT_MS)
    return parse_listing(result.output, posixpath.normpath(posixpath.join(result.cwd, path)))


def listing_command(path: str, tests: str) -> str:
    """The command, in a subshell that leaves nothing behind; even `$?` stays for the next cell.

    To a pipe, `find` prints names as they are.
    """
    find = f"find . -mindepth 1 {tests} -printf '{_FORMAT}' 2>/dev/null | head -n {MAX_ENTRIES + 1}"
    return f'( s=$?; cd -- {shlex.quote(path)} >/dev/null 2>&1 && echo {_FOUND} && {find}; exit "$s" )'


def parse_listing(output: str, directory: str) -> Listing:
    """Read what the command printed; lines that are no entries (a name with a line feed) are dropped."""
    lines = output.split("\n")
    if _FOUND not in lines:
        return Listing(directory, exists=False)
    entries = sorted((_entry(match) for match in filter(None, map(_LINE.fullmatch, lines))), key=_path)
    return Listing(directory, tuple(entries[:MAX_ENTRIES]), truncated=len(entries) > MAX_ENTRIES)


def _entry(match: re.Match[str]) -> FileEntry:
    kind, size, changed, inode, path = match.groups()
    return FileEntry(path, kind, int(size), changed, inode)


def _path(entry: FileEntry) -> str:
    return entry.path
