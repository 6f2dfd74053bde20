"""Files being written, and the meaning of the kernel's errors about files for a client."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from sandkasten._names import to_json
from sandkasten._protocol import Code
from sandkasten.local.errors import ApiError
from sandkasten.local.identity import Identity
from sandkasten.local.linux.acting import acting_as
from sandkasten.local.records import dataclass

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES = 8 * 1024 * 1024
_EXPLANATIONS = {
    errno.ENOENT: (
        404,
        "FILE_NOT_FOUND",
        "does not exist (a link that leads out counts as missing)",
    ),
    errno.ENOTDIR: (400, Code.NOT_A_DIRECTORY, "is not a directory, or goes through something that is not"),
    errno.EEXIST: (409, Code.FILE_EXISTS, "exists"),
    errno.ENOTEMPTY: (409, Code.DIRECTORY_NOT_EMPTY, "is a directory with something in it"),
    errno.EISDIR: (400, "IS_DIRECTORY", "is a directory"),
    errno.EACCES: (403, "PERMISSION_DENIED", "is not allowed by the permissions in the sandbox"),
    errno.EPERM: (403, "PERMISSION_DENIED", "is not allowed by the permissions in the sandbox"),
    errno.ELOOP: (
        400,
        "INVALID_REQUEST",
        "goes through too many links, or one of the kernel's. Name the file itself",
    ),
    errno.EAGAIN: (409, "CONFLICT", "was moved while it was looked up; try again"),
    errno.EINVAL: (400, Code.INVALID_REQUEST, "cannot be there. A directory cannot go into itself"),
    errno.EBUSY: (409, Code.CONFLICT, "is in use: something is mounted there"),
    errno.ENAMETOOLONG: (400, "INVALID_REQUEST", "is too long. Choose shorter names"),
    errno.ENOSPC: (507, "INSUFFICIENT_STORAGE", "does not fit: the disk is full"),
    errno.EDQUOT: (507, "INSUFFICIENT_STORAGE", "does not fit: the disk quota is used up"),
    errno.ENXIO: (400, "INVALID_REQUEST", "is not a plain file. Reach it by a command"),
    errno.EROFS: (403, "PERMISSION_DENIED", "is on a disk that is read-only"),
    errno.EXDEV: (400, "INVALID_REQUEST", "leads to another file system. Reach it by a command"),
}


@contextmanager
def explained(path: str, *, is_path: bool = True) -> Generator[None, None, None]:
    """Say what went wrong with a path, or with something else of that name.

    Raises:
        ApiError: for what clients or sandboxes can cause.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _EXPLANATIONS:
            raise
        status, code, words = _EXPLANATIONS[error.errno]
        details = to_json("path", path) if is_path else None
        raise ApiError(status, code, f"{path[:256]!r} {words}.", details=details) from error


class Staging(Protocol):
    """The staging directory: on the same file system as the destination, unreachable by any client path."""

    def make(self) -> Path:
        """Give the directory, made if need be.

        Raises:
            ApiError: it cannot be made.
        """
        ...

    def find(self) -> Path | None:
        """Give it, if it was made."""
        ...


class StagingIn:
    """A directory that is made when it is needed."""

    def __init__(self, path: Path) -> None:
        """Make nothing yet."""
        self._path = path

    def make(self) -> Path:
        """See `Staging`."""
        with explained("the directory for what is being written", is_path=False):
            self._path.mkdir(mode=0o700, exist_ok=True)
        return self._path

    def find(self) -> Path | None:
        """See `Staging`."""
        return self._path if self._path.is_dir() else None


@dataclass(frozen=True)
class Destination:
    """The place of a file.

    Attributes:
        inside: the path that was asked for, below the root.
        parent: the directory that it goes to, a descriptor.
        name: its name there.
    """

    inside: str
    parent: int
    name: str


class NewFile:
    """A file that appears under its name when it is complete, or never. Methods block.

    Until then it is in the staging directory, where the sandbox does not see it.
    If the workspace turns out to be on another disk, by a mount or a symlink of the host's, a copy of it is
    beside its place for a moment.
    """

    def __init__(
        self, place: Destination, staging: int, mode: int, identity: Identity, *, durable: bool
    ) -> None:
        """Begin the file; the two directories' descriptors are closed with it; see `Tree.new_file`."""
        self._inside = place.inside
        self._name = place.name
        self._mode = mode
        self._identity = identity
        self._durable = durable
        self._temporary = secrets.token_hex(8)
        self._staging = staging
        self._parent = place.parent
        self._descriptor = self._begun()
        self._is_open = True

    def _begun(self) -> int:
        return os.open(self._temporary, _NEW, 0o600, dir_fd=self._staging)

    def _appear(self) -> None:
        move(self._staging, self._temporary, self._parent, self._name, self._copy)

    def _vanish(self) -> None:
        unlink_quietly(self._temporary, self._staging)

    def write(self, data: bytes | memoryview) -> None:
        """Write on.

        Raises:
            ApiError: the disk is full.
        """
        with explained(f"/{self._inside}"):
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def pieces(self, size_bytes: int) -> Iterator[bytes]:
        """Yield what was written so far."""
        position = 0
        while piece := os.pread(self._descriptor, size_bytes, position):
            position += len(piece)
            yield piece

    def commit(self) -> str:
        """Put it in its place; returns its path inside.

        Raises:
            ApiError: that has become a directory, or is gone.
        """
        with explained(f"/{self._inside}"), acting_as(self._identity):
            self._settle(self._descriptor)
            self._appear()
            if self._durable:
                _sync_directory(self._parent)
        self._close()
        return f"/{self._inside}"

    def _settle(self, descriptor: int) -> None:
        os.fchmod(descriptor, self._mode)
        parent = os.fstat(self._parent)
        if parent.st_mode & stat.S_ISGID:  # as if it had been made there
            os.fchown(descriptor, -1, parent.st_gid)
        if self._durable:
            os.fsync(descriptor)

    def _copy(self, name: str) -> None:
        with (
            open(os.open(self._temporary, _READ, dir_fd=self._staging), "rb", buffering=0) as source,
            open(os.open(name, _NEW, 0o600, dir_fd=self._parent), "wb", buffering=0) as copy,
        ):
            while os.sendfile(copy.fileno(), source.fileno(), None, _COPY_BYTES):
                pass
            self._settle(copy.fileno())

    def discard(self) -> None:
        """Take it away, unless it is in its place already."""
        if self._is_open:
            self._vanish()
            self._close()

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _close(self) -> None:
        self._is_open = False
        os.close(self._descriptor)
        os.close(self._parent)
        os.close(self._staging)


def move(staging: int, temporary: str, parent: int, name: str, copy: Callable[[str], None]) -> None:
    """Rename something in the staging directory to its place.

    Args:
        staging: that directory, a descriptor.
        temporary: its name there.
        parent: the directory it goes to, a descriptor.
        name: its name there.
        copy: makes the same under another name in `parent`, where that is on another disk.

    Raises:
        OSError: it cannot be there.
    """
    try:
        os.rename(temporary, name, src_dir_fd=staging, dst_dir_fd=parent)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    beside = f".sandkasten-{secrets.token_hex(8)}"
    try:
        copy(beside)
        os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        unlink_quietly(beside, parent)
        raise
    unlink_quietly(temporary, staging)


class UnnamedFile(NewFile):
    """A file on the file system of its place, without a name until it is complete: nothing of it can be left.

    The sandbox does not see it before either.
    """

    def _begun(self) -> int:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._parent)

    def _appear(self) -> None:
        file = f"/proc/self/fd/{self._descriptor}"
        with suppress(FileExistsError):
            os.link(file, self._name, dst_dir_fd=self._parent, follow_symlinks=True)
            return
        beside = f".sandkasten-{secrets.token_hex(8)}"
        try:
            os.link(file, beside, dst_dir_fd=self._parent, follow_symlinks=True)
            os.rename(beside, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except BaseException:
            unlink_quietly(beside, self._parent)
            raise

    def _vanish(self) -> None:
        pass


@contextmanager
def in_the_making(staging: int) -> Generator[str, None, None]:
    """Give a new name in the staging directory, at which nothing is left in the end."""
    name = secrets.token_hex(8)
    try:
        yield name
    finally:
        unlink_quietly(name, staging)


def unlink_quietly(name: str, directory: int) -> None:
    """Remove a name of a directory, if it is there."""
    with suppress(OSError):  # it is in its place already, or there is nothing more to do
        os.unlink(name, dir_fd=directory)


def _sync_directory(directory: int) -> None:
    # What was opened with O_PATH cannot be synced.
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
