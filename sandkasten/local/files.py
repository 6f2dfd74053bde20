"""Files in a sandbox, seen from outside.

Sandboxed code owns everything below /workspace and plants what it likes there, so a path is never
joined and opened: the kernel resolves it, with openat2, as if a directory that holds nothing but
`workspace` were the root of the file system. Symlinks work as they do inside, and none of them leads
anywhere else; magic links and mount points are refused.

    <root>/             not writable, not visible inside
        workspace/      mounted at /workspace
"""

from __future__ import annotations

import ctypes
import errno
import os
import posixpath
import secrets
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sandkasten.local.errors import ApiError, IsolationError, invalid_request
from sandkasten.local.host import Identity

MAX_ENTRIES = 100_000
_COPY_BYTES = 1024 * 1024


class _OpenHow(ctypes.Structure):
    """`struct open_how` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


# From <linux/openat2.h>; the system call has one number on all architectures.
_SYS_OPENAT2 = 437
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_RESOLVE = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV

_ATTEMPTS = 100

_libc = ctypes.CDLL(None, use_errno=True)


def inside_path(path: str) -> str:
    """The path below the root, such as `workspace/a/b`, of a path as a client says it.

    Raises:
        ApiError: INVALID_REQUEST for a path outside /workspace.
    """
    if not path or "\0" in path or not _is_unicode(path):
        raise invalid_request("The path is empty, or contains a NUL, or is not valid Unicode.")
    whole = posixpath.normpath(posixpath.join("/workspace", path))
    if whole != "/workspace" and not whole.startswith("/workspace/"):
        raise invalid_request(
            f"The path {path[:256]!r} is outside /workspace. Reach other files by a command."
        )
    return whole.lstrip("/")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Tree:
    """The files of one session or workspace. Methods block: call them in a thread."""

    def __init__(self, root: Path, identity: Identity, *, durable: bool) -> None:
        """Bind to a root as drawn above; `durable` files are on disk before a write is acknowledged."""
        self._root = root
        self._identity = identity
        self._durable = durable

    @property
    def workspace(self) -> Path:
        """The host directory that is mounted at /workspace."""
        return self._root / "workspace"

    def create(self) -> None:
        """Make the directories."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o711)  # bubblewrap, as the sandbox's user, has to get through
        self.workspace.mkdir(mode=0o700, exist_ok=True)
        self._identity.own(self.workspace)

    def read(self, path: str, max_bytes: int) -> tuple[bytes, bool]:
        """The first bytes of a file, and whether there are more.

        Raises:
            ApiError: there is no such file, or it is not a plain one.
        """
        with _explained(path), self._opened_root() as root:
            # Not blocking, since a FIFO could be what is opened.
            descriptor = open_inside(root, inside_path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            with open(descriptor, "rb", buffering=0) as file:
                mode = os.fstat(descriptor).st_mode
                if stat.S_ISDIR(mode):
                    raise IsADirectoryError(errno.EISDIR, "is a directory")
                if not stat.S_ISREG(mode):
                    raise invalid_request(f"{path!r} is not a plain file.")
                content = _read_up_to(file, max_bytes + 1)
        return content[:max_bytes], len(content) > max_bytes

    def write(self, path: str, source: IO[bytes]) -> str:
        """Write a file whole or not at all; returns its path inside.

        A symlink at the destination is replaced, not followed.

        Raises:
            ApiError: the path is outside, is a directory, or its parents cannot be made.
        """
        inside = inside_path(path)
        directory, name = posixpath.split(inside)
        if not directory:
            raise ApiError(400, "IS_DIRECTORY", f"{path!r} is a directory.")
        with _explained(path), self._opened_root() as root, self._parents(root, directory) as parent:
            mode = _replaceable_mode(parent, name)
            temporary = f".sandkasten-{secrets.token_hex(8)}"
            try:
                self._write_new(parent, temporary, source, mode)
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                _unlink_quietly(parent, temporary)
                raise
            if self._durable:
                _sync_directory(parent)
        return f"/{inside}"

    def entries(self, path: str) -> list[tuple[str, bool]]:
        """The names in a directory, sorted, and whether each is a directory itself.

        Raises:
            ApiError: there is no such directory, or it has more than 100,000 entries.
        """
        with _explained(path), self._opened_root() as root:
            descriptor = open_inside(root, inside_path(path), os.O_RDONLY | os.O_DIRECTORY)
            found: list[tuple[str, bool]] = []
            try:
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        found.append((_printable(entry.name), entry.is_dir(follow_symlinks=False)))
                        if len(found) > MAX_ENTRIES:
                            raise invalid_request(f"{path!r} has more than {MAX_ENTRIES} entries.")
            finally:
                os.close(descriptor)
        return sorted(found)

    @contextmanager
    def _opened_root(self) -> Generator[int, None, None]:
        descriptor = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _parents(self, root: int, directory: str) -> Generator[int, None, None]:
        """Open a directory below the root, making what is missing."""
        try:
            descriptor = _open_directory(root, directory)
        except FileNotFoundError:
            descriptor = self._make_directories(root, directory)
        try:
            _check_inside(root, descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_directories(self, root: int, directory: str) -> int:
        names = directory.split("/")
        parent = _open_directory(root, names[0])
        for depth, name in enumerate(names[1:], start=2):
            path = "/".join(names[:depth])
            try:
                child = _open_directory(root, path)
            except FileNotFoundError:
                _check_inside(root, parent)
                self._make_directory(parent, name)
                child = _open_directory(root, path)
            finally:
                os.close(parent)
            parent = child
        return parent

    def _make_directory(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            return  # made at this moment by somebody else; or a link to nowhere, as opening it will tell
        if self._identity.drops:
            os.chown(name, self._identity.uid, self._identity.gid, dir_fd=parent, follow_symlinks=False)

    def _write_new(self, parent: int, name: str, source: IO[bytes], mode: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if self._identity.drops:
                os.fchown(file.fileno(), self._identity.uid, self._identity.gid)
            if self._durable:
                os.fsync(file.fileno())


def check_openat2(directory: Path) -> None:
    """Make sure that the kernel has openat2, before anything relies on it.

    Raises:
        IsolationError: it does not, or a container's filter hides it.
    """
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_inside(root, ".", os.O_PATH))
    except OSError as error:
        raise IsolationError(
            f"This kernel cannot resolve paths safely (openat2: {error.strerror}). It takes Linux 5.6 or "
            "later; in a container, a seccomp profile that knows openat2 (Docker 20.10.0 or later)."
        ) from error
    finally:
        os.close(root)


def open_inside(root: int, path: str, flags: int) -> int:
    """Open a path as if `root` were the root of the file system; the caller closes the descriptor.

    Raises:
        OSError: what openat2(2) says; `path` must hold no NUL.
    """
    assert "\0" not in path
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE)
    number = errno.EAGAIN
    for _ in range(_ATTEMPTS):
        descriptor = _libc.syscall(
            _SYS_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
        )
        if descriptor >= 0:
            return int(descriptor)
        number = ctypes.get_errno()
        if number != errno.EAGAIN:  # directories were moved meanwhile, so the kernel was not sure
            break
    raise OSError(number, os.strerror(number))


def _open_directory(root: int, path: str) -> int:
    return open_inside(root, path, os.O_PATH | os.O_DIRECTORY)


def _check_inside(root: int, directory: int) -> None:
    """Make sure that nothing is made beside the workspace: a symlink may lead to the root, which is ours."""
    opened, top = (os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in (directory, root))
    if not f"{opened}/".startswith(f"{top}/workspace/"):
        raise invalid_request("The path leads outside /workspace.")


def _sync_directory(directory: int) -> None:
    # What was opened with O_PATH cannot be synced.
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replaceable_mode(parent: int, name: str) -> int:
    """The permissions for a file that is about to be written: those of the one that is there."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0o644
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory")
    return stat.S_IMODE(mode) & 0o777 if stat.S_ISREG(mode) else 0o644


def _unlink_quietly(parent: int, name: str) -> None:
    with suppress(OSError):  # it was never made, or the sandbox was quicker
        os.unlink(name, dir_fd=parent)


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := file.read(min(size, _COPY_BYTES))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _printable(name: str) -> str:
    """Names are bytes; what is not UTF-8 in them cannot travel in JSON."""
    return os.fsencode(name).decode(errors="replace")


_EXPLANATIONS = {
    errno.ENOENT: (
        404,
        "FILE_NOT_FOUND",
        "does not exist (a link that leads out of /workspace counts as missing)",
    ),
    errno.ENOTDIR: (404, "FILE_NOT_FOUND", "goes through something that is not a directory"),
    errno.EISDIR: (400, "IS_DIRECTORY", "is a directory"),
    errno.EACCES: (403, "PERMISSION_DENIED", "is not allowed by the permissions in the sandbox"),
    errno.EPERM: (403, "PERMISSION_DENIED", "is not allowed by the permissions in the sandbox"),
    errno.ELOOP: (400, "INVALID_REQUEST", "goes through too many links, or through one of the kernel's"),
    errno.EAGAIN: (409, "CONFLICT", "was moved while it was looked up; try again"),
    errno.ENAMETOOLONG: (400, "INVALID_REQUEST", "is too long"),
    errno.ENOSPC: (507, "INSUFFICIENT_STORAGE", "does not fit: the disk is full"),
    errno.EDQUOT: (507, "INSUFFICIENT_STORAGE", "does not fit: the disk quota is used up"),
    errno.ENXIO: (400, "INVALID_REQUEST", "is not a plain file"),
    errno.EXDEV: (400, "INVALID_REQUEST", "leads to another file system"),
}


@contextmanager
def _explained(path: str) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _EXPLANATIONS:
            raise
        status, code, words = _EXPLANATIONS[error.errno]
        raise ApiError(status, code, f"{path[:256]!r} {words}.") from error
