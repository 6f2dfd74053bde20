"""Unpacking what strangers packed: tar archives of root file systems, and directories.

Nothing in an archive is believed. `tarfile` only parses; it extracts nothing, since its filters check
path names first and use them afterwards, and were escaped again and again (CVE-2025-4517, CVE-2025-4330,
CVE-2025-4138, CVE-2024-12718, and the hard links of python/cpython#151558 and #157190). Here no path is
checked and then used: the kernel resolves a member's directory, by openat2, as if the new root were the
only file system there is, and the member is made in it by its last name alone, which is never followed.
So a symlink is stored as it is and works inside as it would in a container, but leads nobody outside.

The fate of members:

    directories, files   new, with the permissions rwx of the member and at least those that it takes to
                         remove them; setuid, setgid and sticky bits, owners and attributes are dropped
    symlinks             as they are
    hard links           links to files that are inside already; a symlink there is linked, not followed
    devices, FIFOs       nothing: `docker export` has some, and a sandbox has a /dev of its own
    anything else        an error, and so are `..` and NUL in names, and GNU's sparse files

A member replaces what stands in its place, whole, save that a directory keeps what is in a directory.
All that comes in is counted after decompression, headers and padding included, and bounded.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandkasten.local.identity import Identity
from sandkasten.local.images.archives import (
    CHUNK_BYTES,
    Budget,
    Readable,
    TarReader,
    bad_image,
    explained,
    parse_path,
)
from sandkasten.local.linux.syscalls import open_inside

Names = Sequence[bytes]

_LATEST_TIME = 1 << 33
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpacker:
    """Fills a new root. Entries that a later layer removes go to `trash`, a directory on the same disk."""

    def __init__(self, root: Path, trash: Path, identity: Identity) -> None:
        """Open both directories, which must be empty."""
        self._identity = identity
        self._removed = 0
        self.written = 0
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._trash = os.open(trash, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close both directories."""
        os.close(self._root)
        os.close(self._trash)

    def directory(self, names: Names, mode: int) -> None:
        """Make a directory, or give one that is there its permissions."""
        if not names:
            return
        with self._parent(names) as parent:
            if not stat.S_ISDIR(_mode(parent, names[-1])):
                self._discard(parent, names[-1])
                os.mkdir(names[-1], 0o700, dir_fd=parent)
            self._settle_directory(parent, names[-1], mode)

    def file(self, names: Names, mode: int, mtime: float, content: Iterator[bytes]) -> None:
        """Create a file."""
        with self._parent(names) as parent:
            self._discard(parent, names[-1])
            with open(os.open(names[-1], _NEW_FILE, 0o600, dir_fd=parent), "wb", buffering=0) as file:
                for part in content:
                    file.write(part)
                    self.written += len(part)
                self._settle(file.fileno(), mode & 0o777 | 0o400)
                # Python's compiled files know their sources by it. A file system may not know all times.
                if 0 <= mtime < _LATEST_TIME:
                    os.utime(file.fileno(), (mtime, mtime))

    def symlink(self, names: Names, target: bytes) -> None:
        """Make a symlink, wherever that may lead."""
        with self._parent(names) as parent:
            self._discard(parent, names[-1])
            os.symlink(target, names[-1], dir_fd=parent)
            if self._identity.drops:
                ids = self._identity.uid, self._identity.gid
                os.chown(names[-1], *ids, dir_fd=parent, follow_symlinks=False)

    def hard_link(self, names: Names, target: Names) -> None:
        """Give a file that is there another name."""
        with self._parent(target, make=False) as source, self._parent(names) as parent:
            linked = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            if not (stat.S_ISREG(linked.st_mode) or stat.S_ISLNK(linked.st_mode)):
                raise bad_image(f"The archive has a hard link to {_shown(target)}, which is not a file.")
            if _mode(parent, names[-1]) and os.path.samestat(
                linked, os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
            ):
                return
            self._discard(parent, names[-1])
            os.link(target[-1], names[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def remove(self, names: Names) -> None:
        """Take away what a layer hides, if it is there."""
        try:
            with self._parent(names, make=False) as parent:
                self._discard(parent, names[-1])
        except (FileNotFoundError, NotADirectoryError):
            return

    def empty(self, names: Names) -> None:
        """Take away what is in a directory, if it is there."""
        try:
            directory = open_inside(self._root, _joined(names), os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            for name in os.listdir(directory):
                self._discard(directory, os.fsencode(name))
        finally:
            os.close(directory)

    @contextmanager
    def _parent(self, names: Names, *, make: bool = True) -> Generator[int, None, None]:
        if not names:
            raise bad_image("The archive has a member that would replace the root itself.")
        try:
            parent = _open_directory(self._root, names[:-1])
        except FileNotFoundError:
            if not make:
                raise
            parent = self._make_directories(names[:-1])
        try:
            yield parent
        finally:
            os.close(parent)

    def _make_directories(self, names: Names) -> int:
        directory = _open_directory(self._root, ())
        for depth, name in enumerate(names, start=1):
            try:
                child = _open_directory(self._root, names[:depth])
            except FileNotFoundError:
                os.mkdir(name, 0o700, dir_fd=directory)  # fails at a link to nowhere, as it should
                self._settle_directory(directory, name, 0o755)
                child = _open_directory(self._root, names[:depth])
            finally:
                os.close(directory)
            directory = child
        return directory

    def _discard(self, parent: int, name: bytes) -> None:
        """Move an entry out of the way: however deep and full a directory is, that is one step."""
        if _mode(parent, name):
            os.rename(name, str(self._removed), src_dir_fd=parent, dst_dir_fd=self._trash)
            self._removed += 1

    def _settle_directory(self, parent: int, name: bytes, mode: int) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        directory = os.open(name, flags, dir_fd=parent)
        try:
            self._settle(directory, mode & 0o777 | 0o700)
        finally:
            os.close(directory)

    def _settle(self, descriptor: int, mode: int) -> None:
        if self._identity.drops:
            os.fchown(descriptor, self._identity.uid, self._identity.gid)
        os.fchmod(descriptor, mode)


def unpack_tar(unpacker: Unpacker, source: Readable, budget: Budget, *, layer: bool) -> None:
    """Unpack an archive; what a `layer` says of the layers below it is left to `apply_whiteouts`.

    Raises:
        ApiError: INVALID_IMAGE or INSUFFICIENT_STORAGE.
    """
    reader = TarReader(source, budget)
    with explained("The archive"):
        for member in reader.members():
            names = parse_path(member.name)
            if not (layer and names and names[-1].startswith(_WHITEOUT)):
                with explained(f"{_shown(names)} in the archive"):
                    _unpack_member(unpacker, reader, member, names)


def _unpack_member(unpacker: Unpacker, reader: TarReader, member: tarfile.TarInfo, names: Names) -> None:
    if member.isdir():
        unpacker.directory(names, member.mode)
    elif member.isreg():
        unpacker.file(names, member.mode, member.mtime, reader.content(member))
    elif member.issym():
        unpacker.symlink(names, member.linkname.encode("utf-8", "surrogateescape"))
    elif member.islnk():
        unpacker.hard_link(names, parse_path(member.linkname))
    elif not (member.isdev() or member.isfifo()):
        raise bad_image(f"The archive's member {_shown(names)} is of an unknown kind {member.type!r}.")


def apply_whiteouts(unpacker: Unpacker, source: Readable, budget: Budget) -> None:
    """Take away what a layer hides of those below. It comes before unpacking the layer, which it spares.

    Raises:
        ApiError: INVALID_IMAGE.
    """
    with explained("The layer"):
        for member in TarReader(source, budget).members():
            names = parse_path(member.name)
            if not names or not names[-1].startswith(_WHITEOUT):
                continue
            hidden = names[-1].removeprefix(_WHITEOUT)
            if hidden in {b"", b".", b".."}:
                raise bad_image(f"The layer has a whiteout of no file: {_shown(names)}.")
            if names[-1] == _OPAQUE:
                unpacker.empty(names[:-1])
            elif not hidden.startswith(_WHITEOUT):  # notes of aufs
                unpacker.remove([*names[:-1], hidden])


def copy_directory(unpacker: Unpacker, source: Path, budget: Budget) -> None:
    """Copy a directory; of other file systems that are mounted in it, only the mount points.

    Raises:
        ApiError: INVALID_IMAGE or INSUFFICIENT_STORAGE.
    """
    with explained(f"The directory {str(source)!r}"):
        root = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _Copy(unpacker, root, budget).run()
        finally:
            os.close(root)


class _Copy:
    def __init__(self, unpacker: Unpacker, root: int, budget: Budget) -> None:
        self._unpacker = unpacker
        self._root = root
        self._budget = budget
        self._linked: dict[tuple[int, int], Names] = {}
        self._pending: list[list[bytes]] = [[]]

    def run(self) -> None:
        while self._pending:
            directory = self._pending.pop()
            try:
                opened = self._open(directory, os.O_DIRECTORY)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                continue
            try:
                with os.scandir(opened) as entries:
                    for entry in entries:
                        self._budget.take_member()
                        names = [*directory, os.fsencode(entry.name)]
                        with explained(_shown(names)):
                            self._copy(entry, opened, names)
            finally:
                os.close(opened)

    def _copy(self, entry: os.DirEntry[str], directory: int, names: list[bytes]) -> None:
        status = entry.stat(follow_symlinks=False)
        inode = status.st_dev, status.st_ino
        if stat.S_ISDIR(status.st_mode):
            self._unpacker.directory(names, status.st_mode)
            self._pending.append(names)
        elif inode in self._linked:
            self._unpacker.hard_link(names, self._linked[inode])
        elif stat.S_ISLNK(status.st_mode):
            self._unpacker.symlink(names, os.fsencode(os.readlink(entry.name, dir_fd=directory)))
        elif stat.S_ISREG(status.st_mode):
            self._unpacker.file(names, status.st_mode, status.st_mtime, self._content(names))
            if status.st_nlink > 1:
                self._linked[inode] = names

    def _content(self, names: Names) -> Iterator[bytes]:
        with open(self._open(names, os.O_NONBLOCK), "rb", buffering=0) as file:
            while part := file.read(CHUNK_BYTES):
                self._budget.take_bytes(len(part))
                yield part

    def _open(self, names: Names, flags: int) -> int:
        return open_inside(self._root, _joined(names), os.O_RDONLY | os.O_NOFOLLOW | os.O_NOCTTY | flags)


def _mode(parent: int, name: bytes) -> int:
    """Return the mode of the entry in this place, or 0 for none."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _open_directory(root: int, names: Names) -> int:
    return open_inside(root, _joined(names), os.O_PATH | os.O_DIRECTORY)


def _joined(names: Names) -> str:
    return os.fsdecode(b"/".join(names)) or "."


def _shown(names: Names) -> str:
    return repr(b"/".join(names).decode(errors="replace")[:200])
