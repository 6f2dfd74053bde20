"""The way of a file to or from a daemon without the extension `files`; without any waiting.

The limits are the Go daemon's: a file that is too large for its calls goes in pieces, by those calls and by
commands in the session's shell (`commands`).
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

from attrs import frozen

from sandkasten._protocol import MAX_JSON_READ_BYTES
from sandkasten._transfer.places import absolute, stays_inside
from sandkasten._transfer.sources import changed, entries_of, member_opener
from sandkasten.errors import ExtensionMissingError, SandkastenInputError

# The Go daemon's limits, with room for what surrounds the content: 2 MiB of JSON (1,570,000 bytes in base64,
# if the path is short), 10 MiB and 100 files for an upload, 5 MiB of base64 for what a session reads.
MAX_JSON_BYTES = 1_560_000
MAX_UPLOAD_BYTES = 10 * 1024 * 1024 - 64 * 1024
MAX_UPLOAD_FILES = 100
MAX_SESSION_READ_BYTES = 3_500_000
MAX_WORKSPACE_READ_BYTES = MAX_JSON_READ_BYTES


def check_in_workspace(path: str) -> None:
    """Make sure that the Go daemon reaches this path: it takes two dots anywhere in a name for a way up.

    Raises:
        SandkastenInputError: it is not below /workspace.
        ExtensionMissingError: there are two dots in a name.
    """
    if ".." in absolute(path):
        raise needs_shell(f"{path[:200]!r} cannot be reached", "names with two dots in a row")


def is_plain_name(name: str) -> bool:
    """Return whether every server reads this name out of a multipart header as it was written."""
    return name.isprintable() and not set(name) & {'"', "\\", "%"} and ".." not in name


# --- which way


class Way(Enum):
    """The ways of a file to a daemon without the extension."""

    JSON = "in one call, as base64"
    UPLOAD = "in one call, as a part of a form"
    PIECES = "in several calls, each as base64, joined by a command"


def way_to_workspace(path: str, size_bytes: int) -> Way:
    """Choose the way of a file into a workspace, which gets the bytes as they are.

    Raises:
        ExtensionMissingError: there is no way without a shell.
    """
    if 0 < size_bytes <= MAX_JSON_BYTES:  # an empty content would count as missing
        return Way.JSON
    fits = size_bytes <= MAX_UPLOAD_BYTES
    if fits and is_plain_name(posixpath.basename(path)):
        return Way.UPLOAD
    what = "such a name for a file of this size" if fits else f"more than {MAX_UPLOAD_BYTES} bytes"
    raise needs_shell(f"{path[:200]!r} cannot be written", what)


def way_to_session(path: str, size_bytes: int) -> Way:
    """Choose the way of a file into a session.

    The Go daemon takes only text from a form there: it replaces whatever is not UTF-8. So nothing but empty
    files goes like that.
    """
    if 0 < size_bytes <= MAX_JSON_BYTES:
        return Way.JSON
    is_empty = size_bytes == 0
    return Way.UPLOAD if is_empty and is_plain_name(posixpath.basename(path)) else Way.PIECES


def needs_shell(sentence: str, what: str) -> ExtensionMissingError:
    """The error for what only a session can do on such a daemon."""
    return ExtensionMissingError(
        f"{sentence}: this daemon, without the extension 'files', does not take or give {what} without a "
        "session.",
        "Create a session with this workspace_id, and use its verb of the same name.",
    )


def needs_extension_for_name(path: str) -> ExtensionMissingError:
    """The error for a name that other daemons cannot be asked for."""
    return ExtensionMissingError(
        f"{path[:200]!r} is not UTF-8: this daemon, without the extension 'files', knows no such names.",
        "Rename the file by a command.",
    )


@frozen
class Item:
    """A file that is to be uploaded as one of many.

    Attributes:
        path: where it goes, in the sandbox.
        size_bytes: its size.
        source: where it is on this machine.
    """

    path: str
    size_bytes: int
    source: str


def grouped(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Put files together that can go in one upload: those of one directory, as many as the limits allow."""
    group: list[Item] = []
    for item in sorted(items, key=lambda item: posixpath.split(item.path)):
        size_bytes = sum(each.size_bytes + _PART_BYTES for each in group) + item.size_bytes
        is_together = bool(group) and posixpath.dirname(group[0].path) == posixpath.dirname(item.path)
        if group and not (is_together and size_bytes <= MAX_UPLOAD_BYTES and len(group) < MAX_UPLOAD_FILES):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


_PART_BYTES = 1024  # the header of a part


def resized(parts: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces of one size, the last of which may be shorter."""
    pending = bytearray()
    for part in parts:
        pending += part
        while len(pending) >= size_bytes:
            yield bytes(pending[:size_bytes])
            del pending[:size_bytes]
    if pending:
        yield bytes(pending)


# --- directories


def items_of(directory: Path, path: str) -> list[Item]:
    """Return the files in a directory, as parts of uploads; blocks.

    Raises:
        ExtensionMissingError: there is something in it that cannot be uploaded so.
    """
    items: list[Item] = []
    filled: set[tuple[str, ...]] = {()}
    empty: set[tuple[str, ...]] = set()
    for names, entry in entries_of(directory):
        filled.add(names[:-1])
        if entry.is_dir(follow_symlinks=False):
            empty.add(names)
        elif entry.is_symlink():
            if stays_inside(names, os.readlink(entry.path)):
                raise needs_shell(f"{entry.path!r} cannot be sent", "symlinks")
        elif entry.is_file(follow_symlinks=False):
            items.append(Item(posixpath.join(path, *names), entry.stat().st_size, entry.path))
    for names in empty - filled:
        raise needs_shell(f"{'/'.join(names)!r} cannot be sent", "empty directories")
    return items


def read_item(item: Item) -> bytes:
    """Read a file of a directory; blocks.

    Raises:
        SandkastenInputError: the file cannot be read, or has changed.
    """
    try:
        with open(item.source, "rb", opener=member_opener) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise changed(item.source)
            content = file.read(item.size_bytes + 1)
    except OSError as error:
        raise SandkastenInputError(f"{item.source!r} cannot be read: {error}.") from error
    if len(content) != item.size_bytes:
        raise changed(item.source)
    return content
