"""Status of files and entries of directories, as the wire has them; pure."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sandkasten._names import to_json
from sandkasten.local.records import dataclass

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


@dataclass(frozen=True)
class Stated:
    """The status of a path; only symlinks have a `link_target`."""

    path: str
    kind: str
    size_bytes: int
    mode: int
    modified_at: str | None
    link_target: str | None

    @property
    def as_json(self) -> dict[str, Any]:
        """As the wire has it."""
        target = {} if self.link_target is None else to_json("link_target", self.link_target)
        return vars(self) | to_json("path", self.path) | target


@dataclass(frozen=True)
class Entry:
    """A name in a directory: the common protocol knows `name` and `is_dir`."""

    name: str
    is_dir: bool
    kind: str
    size_bytes: int
    modified_at: str | None
    link_target: str | None

    @property
    def as_json(self) -> dict[str, Any]:
        """As the wire has it."""
        target = {} if self.link_target is None else to_json("link_target", self.link_target)
        return vars(self) | to_json("name", self.name) | target


def entry_of(entry: os.DirEntry[str], directory: int) -> Entry:
    """Return what a listing says of a name in an open directory.

    Raises:
        FileNotFoundError: it is gone.
    """
    status = entry.stat(follow_symlinks=False)
    kind = kind_of(status)
    target = None
    if kind == "symlink":
        with suppress(OSError):  # it is something else by now
            target = os.readlink(entry.name, dir_fd=directory)
    return Entry(entry.name, kind == "directory", kind, status.st_size, modified_at(status), target)


def kind_of(status: os.stat_result) -> str:
    """Return the kind of a file, as the wire has it."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "other")


def modified_at(status: os.stat_result) -> str | None:
    """Return the time of the last write, if it makes sense."""
    with suppress(OverflowError, ValueError, OSError):  # it is what sandboxed code set it to
        return datetime.fromtimestamp(status.st_mtime, UTC).isoformat()
    return None
