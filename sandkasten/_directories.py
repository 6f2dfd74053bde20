"""Directories whose names stay what they are: the one place that decides which ones do.

A daemon builds sandboxes from paths, and its clients find its socket by one. If another user of this machine
can rename what is on the way to such a path, or can put a symlink there, that user decides what the path
means. So everything on the way must belong to root or to this user, and be closed to writing by others. The
sticky bit, as /tmp has it, is enough for a directory in which only the own names count.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ROOT = 0
_MAX_LINKS = 40  # as the kernel has it
_ACL = "system.posix_acl_access"


@dataclass(frozen=True)
class Trouble:
    """A directory or symlink that others can change.

    Attributes:
        path: where it is.
        says: what is wrong with it, to be read after the path.
        remedy: the command that an administrator could run.
    """

    path: Path
    says: str
    remedy: str

    def __str__(self) -> str:
        """Return a sentence that names the path."""
        return f"{self.path} {self.says}."


def find_trouble(path: Path) -> Trouble | None:
    """Return the first step to a path that another user can change, or None: the path keeps its meaning.

    A path that does not exist is examined as far as it does. Call this again when it was made.

    Raises:
        OSError: a step cannot be read, or the symlinks have no end.
    """
    trusted = _trusted_uids(os.geteuid())
    judged = (judge(step, step.lstat(), trusted, _is_private) for step in _steps(path))
    return next((trouble for trouble in judged if trouble is not None), None)


def judge(
    path: Path, status: os.stat_result, trusted_uids: Sequence[int], is_private: Callable[[Path, int], bool]
) -> Trouble | None:
    """Return what is wrong with one directory or symlink; pure.

    Args:
        path: where it is.
        status: its own, not that of a symlink's target.
        trusted_uids: the users that may own it; the first one is this user.
        is_private: whether a group that may write to it has no members except the user and root.
    """
    if status.st_uid not in trusted_uids:
        says = f"belongs to another user (uid {status.st_uid}), who can change what is in it"
        return Trouble(path, says, f"chown -h {trusted_uids[0]} {path}")
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return None
    if status.st_mode & stat.S_IWOTH:
        return Trouble(path, "can be changed by every user", f"chmod o-w {path}")
    if status.st_mode & stat.S_IWGRP and status.st_gid != _ROOT and not is_private(path, status.st_gid):
        return Trouble(path, f"can be changed by others (group {status.st_gid})", f"chmod g-w {path}")
    return None


def _steps(path: Path) -> Iterator[Path]:
    """Return each directory and symlink that the kernel passes on the way to a path, as far as it exists."""
    here = Path("/")
    yield here
    names = _names(path.absolute())
    links = 0
    while names:
        step = here / names.pop()
        try:
            status = step.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        yield step
        if not stat.S_ISLNK(status.st_mode):
            here = Path(os.path.normpath(step))
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(f"{path} has too many symlinks")
        target = Path(os.readlink(step))
        here = Path("/") if target.is_absolute() else here
        names += _names(target)


def _names(path: Path) -> list[str]:
    return [name for name in reversed(path.parts) if name != "/"]


def _trusted_uids(uid: int) -> list[int]:
    """Return root and the user, and in a user namespace those of its makers that have no number there."""
    trusted = [uid, _ROOT]
    with suppress(OSError, ValueError):
        unmapped = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
        if not is_mapped(Path("/proc/self/uid_map").read_text("ascii"), unmapped):
            trusted.append(unmapped)
    return trusted


def is_mapped(uid_map: str, uid: int) -> bool:
    """Return whether a user exists in a user namespace; from /proc/self/uid_map."""
    rows = (tuple(map(int, line.split())) for line in uid_map.splitlines())
    return not uid_map or any(first <= uid < first + count for first, _outside, count in rows)


def _is_private(path: Path, gid: int) -> bool:
    """Return whether a group that may write to a directory is only the user's: of that name, or of no name.

    The second is what containers have: a number for one volume. With an access control list the permissions
    of the group are those of whoever the list names.
    """
    import grp  # noqa: PLC0415  (there are no groups on Windows)
    import pwd  # noqa: PLC0415

    with suppress(OSError):
        os.getxattr(path, _ACL)
        return False
    if gid not in {os.getegid(), *os.getgroups()}:
        return False
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return True
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == user and {*group.gr_mem} <= {user, "root"}
