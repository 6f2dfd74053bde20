"""System calls about files as the user of sandboxed code, made by a daemon that is root.

Linux checks permissions of files by a thread's own `fsuid`, `fsgid` and groups. With an `fsuid` other than
0 a thread is also without root's rights about files (CAP_DAC_OVERRIDE, CAP_FOWNER and their like), which come
back with it. Other threads keep theirs.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from sandkasten.local.identity import Identity

_libc = ctypes.CDLL(None, use_errno=True)
# That of the C library would change all threads.
_SYS_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159}.get(platform.machine())
_NOBODY = 0xFFFF_FFFF  # no user: changes nothing, and so only asks


@contextmanager
def acting_as(identity: Identity) -> Generator[None, None, None]:
    """Have the permissions of sandboxed code's user in this thread during a block; never across a `yield`.

    Raises:
        PermissionError: the thread cannot become that user; nothing was done.
    """
    if not identity.drops:
        yield
        return
    uid, gid = _become(_libc.setfsuid, _NOBODY), _become(_libc.setfsgid, _NOBODY)
    groups = os.getgroups()
    try:
        _set_groups([])
        _become(_libc.setfsgid, identity.gid)
        _become(_libc.setfsuid, identity.uid)  # last, since the rights to do the others go with it
        _check(identity)
        yield
    finally:
        _become(_libc.setfsuid, uid)
        _become(_libc.setfsgid, gid)
        _set_groups(groups)


def steps_as(identity: Identity, steps: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield what an iterator yields, of which each step acts as sandboxed code's user."""
    while True:
        with acting_as(identity):
            step = next(steps, None)
        if step is None:
            return
        yield step


def _become(change: ctypes._NamedFuncPointer, number: int) -> int:  # pyright: ignore[reportPrivateUsage]
    return int(change(ctypes.c_uint32(number))) & _NOBODY


def _check(identity: Identity) -> None:
    now = _become(_libc.setfsuid, _NOBODY), _become(_libc.setfsgid, _NOBODY)
    if now != (identity.uid, identity.gid):
        raise PermissionError("a thread of the daemon cannot take the sandbox's user")


def _set_groups(groups: list[int]) -> None:
    if _SYS_SETGROUPS is None:
        raise PermissionError("a thread's groups cannot be set on this architecture")
    array = (ctypes.c_uint32 * len(groups))(*groups)
    if _libc.syscall(_SYS_SETGROUPS, len(groups), array) != 0:
        raise PermissionError(ctypes.get_errno(), "a thread's groups cannot be set")
