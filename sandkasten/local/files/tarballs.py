"""Directories as archives: packed from, and unpacked into, trees that sandboxed code changes meanwhile.

Packing opens each directory and file by openat2, as if the packed directory were the root of the file
system, so nothing that is swapped for a symlink leads out of it. Directories, plain files and symlinks are
packed; what has several names is packed under each; FIFOs, sockets and devices are left out. Unpacking
goes through `Tree`, which resolves each member's path in the same way, and replaces files one by one,
whole.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass

from sandkasten import _tar
from sandkasten._tar import ERROR_NOTE, Kind, Member
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.newfile import NewFile, explained
from sandkasten.local.files.tree import Tree
from sandkasten.local.linux.acting import steps_as
from sandkasten.local.linux.syscalls import open_inside

PIECE_BYTES = 1024 * 1024
MAX_MEMBERS = 1_000_000
MAX_WAITING = 100_000  # directories that were seen and not yet opened


class BrokenOffError(Exception):
    """The rest of what was promised cannot be sent; the connection must not end as if it had been."""


def pack(tree: Tree, path: str) -> Generator[bytes, None, None]:
    """Yield an archive of a directory in pieces of about 1 MiB; blocks.

    An error after the first piece is the archive's last member, after which its end is missing.

    Raises:
        ApiError: there is no such directory, before the first piece.
        BrokenOffError: break the connection off.
    """
    directory = tree.open_directory(path)
    try:
        with tree.opened_root() as root:
            across_mounts = tree.crosses_mounts(root, directory)
        packer = _Packer(directory, across_mounts=across_mounts)
        yield from steps_as(tree.identity, _in_pieces(_packed(packer)))
    finally:
        os.close(directory)


def _packed(packer: _Packer) -> Iterator[bytes]:
    try:
        yield from packer.members()
    except ApiError as error:
        yield _tar.note({ERROR_NOTE: json.dumps(error.body)})
    else:
        yield _tar.END


def _in_pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    pending: list[bytes] = []
    size = 0
    for part in parts:
        pending.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield b"".join(pending) if len(pending) > 1 else part
            pending, size = [], 0
    if pending:
        yield b"".join(pending)


@dataclass(frozen=True, slots=True)
class _Found:
    """A directory that waits for its turn; with a whole path each they would weigh the square of a tree."""

    name: str
    parent: _Found | None

    @property
    def path(self) -> tuple[str, ...]:
        names = [self.name]
        above = self.parent
        while above is not None:
            names.append(above.name)
            above = above.parent
        return tuple(reversed(names))


class _Packer:
    def __init__(self, root: int, *, across_mounts: bool) -> None:
        self._root = root
        self._across_mounts = across_mounts
        self._count = 0
        self._pending: list[_Found | None] = [None]  # the root itself

    def members(self) -> Iterator[bytes]:
        while self._pending:
            found = self._pending.pop()
            path = found.path if found else ()
            with explained("/".join(path)):
                directory = self._open(self._root, "/".join(path) or ".", os.O_DIRECTORY)
            if directory is None:
                continue
            try:
                if path:
                    yield _tar.header(Member(path, Kind.DIRECTORY, mode=0o755))
                yield from self._entries(directory, found, path)
            finally:
                os.close(directory)

    def _entries(self, directory: int, found: _Found | None, path: tuple[str, ...]) -> Iterator[bytes]:
        with os.scandir(directory) as entries:
            for entry in entries:
                self._count += 1
                if self._count > MAX_MEMBERS:
                    raise invalid_request(f"The directory has more than {MAX_MEMBERS} files in it.")
                if entry.is_dir(follow_symlinks=False):
                    self._wait(_Found(entry.name, found))
                else:
                    yield from self._entry(directory, entry, (*path, entry.name))

    def _wait(self, found: _Found) -> None:
        if len(self._pending) >= MAX_WAITING:
            raise invalid_request(f"The directory has more than {MAX_WAITING} directories side by side.")
        self._pending.append(found)

    def _entry(self, directory: int, entry: os.DirEntry[str], path: tuple[str, ...]) -> Iterator[bytes]:
        if entry.is_symlink():
            with suppress(OSError):  # it is no symlink any more
                target = os.readlink(entry.name, dir_fd=directory)
                yield _tar.header(Member(path, Kind.SYMLINK, mode=0o777, target=target))
        elif entry.is_file(follow_symlinks=False):
            with explained("/".join(path)):
                file = self._open(directory, entry.name, os.O_NONBLOCK | os.O_NOCTTY)
            if file is not None:
                try:
                    yield from _content(file, path)
                finally:
                    os.close(file)

    def _open(self, root: int, path: str, flags: int) -> int | None:
        """Open what was seen a moment ago; None if that is not there any more."""
        try:
            flags |= os.O_RDONLY | os.O_NOFOLLOW
            return open_inside(root, path, flags, across_mounts=self._across_mounts)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}:
                return None
            raise


def _content(file: int, path: tuple[str, ...]) -> Iterator[bytes]:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        return
    left, mode = status.st_size, stat.S_IMODE(status.st_mode)
    yield _tar.header(Member(path, Kind.FILE, left, mode, mtime_seconds=int(status.st_mtime)))
    while left:
        part = os.read(file, min(left, PIECE_BYTES))
        if not part:
            raise BrokenOffError("/".join(path))
        left -= len(part)
        yield part
    yield _tar.padding(status.st_size)


class TreeSink:
    """Unpacks an archive into a directory of a tree; methods block.

    Attributes:
        files: how many are in their places.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        """Make the directory, as far as it is missing.

        Raises:
            ApiError: the path is outside, or something else is in its place.
        """
        tree.make_directory(path)
        self._tree = tree
        self._path = path
        self._count = 0
        self.files = 0
        self._file: NewFile | None = None

    def begin(self, member: Member) -> None:
        """Make a directory or a symlink, or begin a file."""
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise invalid_request(f"The archive has more than {MAX_MEMBERS} members.")
        if member.kind is Kind.DIRECTORY:
            self._tree.make_directory(self._path, member.path)
        elif member.kind is Kind.SYMLINK:
            self._tree.make_symlink(self._path, member.path, member.target)
        elif member.kind is Kind.FILE:
            self._file = self._tree.new_file(self._path, member.path, member.mode, one_of_many=True)
        else:
            raise invalid_request(
                f"The archive's member {'/'.join(member.path)[:256]!r} is neither a directory, nor a plain "
                "file, nor a symlink."
            )

    def write(self, data: memoryview) -> None:
        """Write on."""
        assert self._file is not None
        self._file.write(data)

    def end(self) -> None:
        """Put the file in its place."""
        assert self._file is not None
        self._file.commit()
        self._file = None
        self.files += 1

    def discard(self) -> None:
        """Take away what is not complete."""
        if self._file is not None:
            self._file.discard()
