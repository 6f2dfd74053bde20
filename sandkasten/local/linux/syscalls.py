"""System calls that Python has no function for, all through one handle of the C library.

The first of them is openat2(2): the kernel resolves paths of a sandbox, so that no link leads out of a
directory.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from pathlib import Path

from sandkasten.local.errors import IsolationError


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

_AT_FDCWD = -100
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
# Numbers of system calls; that of kcmp is not the same everywhere.
_SYS_PIDFD_GETFD = 438
_SYS_KCMP = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
_KCMP_FILES = 2

_libc = ctypes.CDLL(None, use_errno=True)


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
            f"This kernel cannot resolve paths safely (openat2: {error.strerror}).",
            "Use Linux 5.6 or later; in a container, a seccomp profile that knows openat2 "
            "(Docker 20.10.0 or later).",
        ) from error
    finally:
        os.close(root)


def open_inside(root: int, path: str, flags: int, *, across_mounts: bool = False) -> int:
    """Open a path as if `root` were the root of the file system; the caller closes the descriptor.

    Args:
        root: a directory.
        path: the path.
        flags: those of open(2).
        across_mounts: whether it may lead to another mount, as the root of a whole sandbox has them.

    Raises:
        OSError: what openat2(2) says; `path` must hold no NUL.
    """
    assert "\0" not in path
    resolve = _RESOLVE & ~_RESOLVE_NO_XDEV if across_mounts else _RESOLVE
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
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


def kind_of_file_system(descriptor: int) -> int:
    """Return the number that the kernel has for the kind of file system of an open file.

    Raises:
        OSError: it does not say.
    """
    status = (ctypes.c_long * 64)()  # a struct statfs, which begins with it, and is shorter
    if _libc.fstatfs(descriptor, status) != 0:
        raise OSError(ctypes.get_errno(), "the file system is not known")
    return int(status[0])


def syncfs(descriptor: int) -> None:
    """Write to the disk what the file system of an open file has in memory.

    Raises:
        OSError: it could not be written.
    """
    if _libc.syncfs(descriptor) != 0:
        raise OSError(ctypes.get_errno(), "syncfs failed")


def exchange(first: Path, second: Path) -> bool:
    """Let two directories trade places in one moment; return whether that could be done."""
    renameat2 = getattr(_libc, "renameat2", None)  # musl had none for long
    paths = _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second)
    return renameat2 is not None and renameat2(*paths, ctypes.c_uint(_RENAME_EXCHANGE)) == 0


def pidfd_getfd(pidfd: int, number: int) -> int | None:
    """Return a copy of one of a process's descriptors, or None if it has none of that number.

    Raises:
        OSError: this process may not have it.
    """
    taken = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
    if taken >= 0:
        return int(taken)
    if ctypes.get_errno() == errno.EBADF:
        return None
    raise OSError(ctypes.get_errno(), "a descriptor cannot be examined")


def have_same_descriptors(first: int, second: int) -> bool:
    """Return whether two threads share one table of descriptors; False where the kernel does not say."""
    if _SYS_KCMP is None:
        return False
    return bool(_libc.syscall(_SYS_KCMP, first, second, _KCMP_FILES, 0, 0) == 0)


def rename_new(from_directory: int, name: str, to_directory: int, to_name: str) -> None:
    """Rename a name of one directory to a name of another, in which nothing may have that name.

    Raises:
        FileExistsError: something has.
        OSError: it cannot be done.
    """
    names = os.fsencode(name), os.fsencode(to_name)
    renameat2 = getattr(_libc, "renameat2", None)  # musl had none for long
    if renameat2 is None:
        raise OSError(errno.ENOSYS, "this C library cannot rename without replacing")
    if renameat2(from_directory, names[0], to_directory, names[1], ctypes.c_uint(_RENAME_NOREPLACE)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
