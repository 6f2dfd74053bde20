"""How files of any size travel, as far as that can be decided without waiting.

A daemon with the extension `files` takes and gives bytes as they are. One without it has limits, which are
the Go daemon's: what is too large for its calls goes in pieces, by its uploads and by commands in the
session's shell (`_plain.commands`). Here is which way a file goes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import PurePosixPath

from attrs import define, frozen

from sandkasten import _checks as check
from sandkasten.errors import (
    ExtensionMissingError,
    LocalDaemonError,
    SandkastenConnectionError,
    SandkastenInputError,
    SandkastenResponseError,
    SandkastenTimeoutError,
)

Progress = Callable[[int, int | None], object]
"""Called with the bytes that are done, and with all of them if it is known how many those are."""

PIECE_BYTES = 1024 * 1024

# What is so small that it is not worth asking for extensions; every daemon takes it as JSON.
SMALL_BYTES = 128 * 1024

# The Go daemon's limits, with room for what surrounds the content: 2 MiB of JSON (1,570,000 bytes in base64,
# if the path is short), 10 MiB and 100 files for an upload, 5 MiB of base64 for what a session reads.
MAX_JSON_BYTES = 1_560_000
MAX_UPLOAD_BYTES = 10 * 1024 * 1024 - 64 * 1024
MAX_UPLOAD_FILES = 100
_MAX_SESSION_READ_BYTES = 3_500_000
_MAX_WORKSPACE_READ_BYTES = 100 * 1024 * 1024

WORKSPACE = "/workspace"


# --- paths


def absolute(path: str | PurePosixPath, *, name: str = "path") -> str:
    """The path as commands see it.

    Raises:
        SandkastenInputError: it is not below /workspace, which is all that the file verbs reach.
    """
    whole = posixpath.normpath(posixpath.join(WORKSPACE, check.sandbox_path(path, name=name)))
    if whole != WORKSPACE and not whole.startswith(f"{WORKSPACE}/"):
        raise SandkastenInputError(
            f"{name} {str(path)[:200]!r} is outside /workspace. Reach other files by a command."
        )
    return whole


def in_workspace(path: str | PurePosixPath) -> str:
    """Return the path from the root of a workspace, as calls without a session take it on every daemon.

    A path outside begins with `..`, which every daemon refuses to read and to write. (The Go daemon lists its
    root instead, so `check_in_workspace` comes first.)
    """
    return posixpath.relpath(posixpath.join(WORKSPACE, check.sandbox_path(path)), WORKSPACE)


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


def piece_bytes(*, has_shell: bool) -> int:
    """Return how much of a file goes in one call."""
    return MAX_JSON_BYTES if has_shell else MAX_UPLOAD_BYTES


def max_read_bytes(*, has_shell: bool) -> int:
    """Return how much of a file comes in one call."""
    return _MAX_SESSION_READ_BYTES if has_shell else _MAX_WORKSPACE_READ_BYTES


def way_to_write(path: str, size_bytes: int, *, has_shell: bool) -> Way:
    """Choose the way of a file, binary-exact in every case.

    Into a session, the Go daemon takes only text from a form: it replaces whatever is not UTF-8. So nothing
    but empty files goes there like that. A workspace gets the bytes as they are.

    Raises:
        ExtensionMissingError: there is no way without a shell.
    """
    if 0 < size_bytes <= MAX_JSON_BYTES:  # an empty content would count as missing
        return Way.JSON
    fits = size_bytes <= (0 if has_shell else MAX_UPLOAD_BYTES)
    if fits and is_plain_name(posixpath.basename(path)):
        return Way.UPLOAD
    if has_shell:
        return Way.PIECES
    what = "such a name for a file of this size" if fits else f"more than {MAX_UPLOAD_BYTES} bytes"
    raise needs_shell(f"{path[:200]!r} cannot be written", what)


def needs_shell(sentence: str, what: str) -> ExtensionMissingError:
    """The error for what only a session can do on such a daemon."""
    return ExtensionMissingError(
        f"{sentence}: this daemon, without the extension 'files', does not take or give {what} without a "
        "session. Create a session with this workspace_id, and use its verb of the same name."
    )


def needs_extension_for_name(path: str) -> ExtensionMissingError:
    """The error for a name that other daemons cannot be asked for."""
    return ExtensionMissingError(
        f"{path[:200]!r} is not UTF-8: this daemon, without the extension 'files', knows no such names. "
        "Rename the file by a command."
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


# --- reading by the extension, over connections that may break


@define(eq=False, repr=False)
class Fetch:
    """A file that is read from its beginning, and on from where a connection broke.

    Attributes:
        max_bytes: how much of it is wanted; None: all.
        offset: how much came.
        size_bytes: how large the file is, once that is known.
        mode: its permission bits.
        etag: what tells whether it is still the same.
    """

    max_bytes: int | None = None
    offset: int = 0
    size_bytes: int | None = None
    mode: int = 0o644
    etag: str = ""

    @property
    def wanted_bytes(self) -> int | None:
        """How much there will be, once that is known."""
        if self.size_bytes is None or self.max_bytes is None:
            return self.size_bytes
        return min(self.size_bytes, self.max_bytes)

    @property
    def is_complete(self) -> bool:
        """Whether all that is wanted came."""
        return self.wanted_bytes is not None and self.offset >= self.wanted_bytes

    @property
    def headers(self) -> dict[str, str]:
        """What asks for the rest."""
        if not self.offset and self.max_bytes is None:
            return {}
        last = "" if self.max_bytes is None else self.max_bytes - 1
        again = {"If-Range": self.etag} if self.offset else {}
        return {"Range": f"bytes={self.offset}-{last}", **again}

    def begin(self, status_code: int, headers: Mapping[str, str]) -> bool:
        """Read the head of an answer; whether the file comes from its beginning.

        Raises:
            SandkastenResponseError: it is not the answer to `headers`.
        """
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("content-range", ""), re.ASCII)
        size = found[2] if found else headers.get("content-length", "")
        start = int(found[1]) if found else 0
        if start not in {0, self.offset} or not (size.isascii() and size.isdigit()) or status_code > 206:
            raise SandkastenResponseError("The daemon's answer does not say which part of the file it is.")
        if start and int(size) != self.size_bytes:
            raise SandkastenResponseError("The daemon goes on with another file than the one it began.")
        self.offset, self.size_bytes = start, int(size)
        self.etag = headers.get("etag", "")
        mode = headers.get("x-file-mode", "")
        self.mode = int(mode, 8) & 0o777 if re.fullmatch("[0-7]{1,4}", mode) else 0o644
        return start == 0

    def take(self, count: int) -> None:
        """Count what came.

        Raises:
            SandkastenResponseError: it is more than was said.
        """
        self.offset += count
        if self.offset > (self.wanted_bytes or 0):
            raise SandkastenResponseError("The daemon sent more of the file than it said.")


@define(eq=False, repr=False)
class Tries:
    """How often a transfer may go on after its connection broke: so often without getting any further."""

    max_retries: int
    failed: int = 0
    reached: int = 0

    def allow(self, error: SandkastenConnectionError, reached: int = 0) -> bool:
        """Count a failure, and decide."""
        if reached > self.reached:
            self.reached, self.failed = reached, 0
        self.failed += 1
        is_final = isinstance(error, SandkastenTimeoutError | LocalDaemonError)
        return self.failed <= self.max_retries and not is_final


# --- names and symlinks


def listed_name(name: str) -> str:
    """A name in a directory, as a daemon says it.

    Raises:
        SandkastenResponseError: it is none.
    """
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise SandkastenResponseError(f"The daemon lists a file {name[:100]!r}, which is not a name.")
    return name


def stays_inside(path: Sequence[str], target: str) -> bool:
    """Whether a symlink at this place of a tree leads to something in the tree, whatever else is in it.

    So `..` may only come first, and not more often than there are directories: behind another name it
    could begin anywhere, since that may be a symlink itself.
    """
    names = target.split("/")
    ups = next((index for index, name in enumerate(names) if name != ".."), len(names))
    return not target.startswith("/") and ".." not in names[ups:] and ups < len(path) and bool(target)
