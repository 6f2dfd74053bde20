"""Directories of sessions and workspaces, as a table, as JSON or as plain names."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandkasten.cli.output import out
from sandkasten.cli.output.text import size

if TYPE_CHECKING:
    from sandkasten.models import DirEntry
    from sandkasten_sync import Session, Workspace


def entries_at(files: Session | Workspace, path: str) -> list[DirEntry]:
    """Return the entries of a directory, or the entry of a single file.

    Raises:
        SandkastenError: nothing is there, or it cannot be listed.
    """
    from sandkasten.errors import (  # noqa: PLC0415
        ExtensionMissingError,
        SandboxFileNotFoundError,
        SandboxNotADirectoryError,
    )
    from sandkasten.models import DirEntry  # noqa: PLC0415

    try:
        return files.list(path)
    except (SandboxFileNotFoundError, SandboxNotADirectoryError):
        try:
            found = files.stat(path, follow_symlinks=False)
        except ExtensionMissingError:  # a workspace, of a daemon that knows less
            found = files.stat(path)
    name = posixpath.basename(path.rstrip("/"))
    return [DirEntry(name, found.is_dir, found.kind, found.size_bytes, found.modified_at)]


def emit_entries(entries: Sequence[DirEntry], *, as_json: bool, quiet: bool) -> None:
    """Print the entries; fields that the daemon does not report are left empty."""
    if as_json:
        out.emit_json(entries)
    elif quiet:
        for entry in entries:
            out.emit(entry.name)
    else:
        out.emit_table(("KIND", "SIZE", "MODIFIED", "NAME"), [_row(entry) for entry in entries])


def _row(entry: DirEntry) -> tuple[object, ...]:
    kind = entry.kind or ("directory" if entry.is_dir else "")
    length = "" if entry.size_bytes is None else size(entry.size_bytes)
    return kind, length, out.when(entry.modified_at), entry.name
