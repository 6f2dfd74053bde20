"""Paths of a sandbox, resolved by the kernel: openat2(2), so that no link leads out of a directory."""

from __future__ import annotations

import ctypes
import errno
import os
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
