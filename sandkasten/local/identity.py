"""The host's user for sandboxed code, and the rights that root needs to handle its sandboxes."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NotRequired, TypedDict

from sandkasten._directories import is_mapped
from sandkasten.local.records import dataclass

# Whom sandboxes run as when the daemon is root: nobody else's id (systemd, distributions and container
# tools leave 60706 to 61183 alone), and small enough to be mapped in containers.
ROOT_DROPS_TO = 60_777

# To give files to the sandboxes' user and to handle them, to become that user, and to look at and end its
# processes. Containers have all of them by default except the last one.
_NEEDED_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SYS_PTRACE": 19,
}


@dataclass(frozen=True)
class Identity:
    """The host's user for sandboxed code.

    Attributes:
        uid: the host's user id.
        drops: whether that differs from the daemon's own.
    """

    uid: int
    drops: bool

    @classmethod
    def of_this_process(cls) -> Identity:
        """Return the identity of this process: an ordinary user stays who they are, and root drops.

        Root of a user namespace without that other user (`unshare -Ur`) is an ordinary user outside of it,
        and stays that.
        """
        drops = os.geteuid() == 0 and (_is_root_of_the_machine() or has_user(ROOT_DROPS_TO))
        return cls(ROOT_DROPS_TO if drops else os.geteuid(), drops)

    @property
    def gid(self) -> int:
        """The host's group id."""
        return self.uid if self.drops else os.getegid()

    def own(self, path: Path) -> None:
        """Give a file of the daemon's to sandboxed code."""
        if self.drops:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def let_pass(self, directory: Path) -> None:
        """Open one of the daemon's directories to the user that builds sandboxes, and to no other user.

        A program with the setuid bit, which code may leave in its workspace, makes anybody who runs it the
        user of all sandboxes. So no other user may get that far.
        """
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if self.drops:
                with suppress(OSError):  # this user namespace has no such group: then nobody else passes
                    os.fchown(descriptor, -1, self.gid)
            os.fchmod(descriptor, 0o710 if self.drops else 0o700)
        finally:
            os.close(descriptor)

    def can_pass(self, directory: Path) -> bool:
        """Return whether sandboxed code's user may pass a directory, by its permissions."""
        if not self.drops:
            return os.access(directory, os.X_OK)
        status = directory.stat()
        return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == self.gid else stat.S_IXOTH))

    def can_reach(self, path: Path) -> bool:
        """Return whether sandboxed code's user could open a path, by its permissions and its parents'."""
        if not self.drops:
            return os.access(path, os.R_OK)
        return all(map(self.can_pass, path.parents)) and bool(path.stat().st_mode & stat.S_IROTH)


class PopenIdentity(TypedDict):
    """Some of the arguments of `Popen`."""

    umask: int
    user: NotRequired[int]
    group: NotRequired[int]
    extra_groups: NotRequired[list[int]]


def popen_identity(identity: Identity, *, drops_later: bool = False) -> PopenIdentity:
    """The arguments of `Popen` that start a process as sandboxed code's user, unless it drops by itself."""
    if identity.drops and not drops_later:
        return {"umask": 0o022, "user": identity.uid, "group": identity.gid, "extra_groups": []}
    return {"umask": 0o022}


def missing_capabilities(identity: Identity) -> tuple[str, ...]:
    """Return the rights that root lacks and that it takes to handle sandboxes of another user."""
    if not identity.drops:
        return ()
    return tuple(name for name, bit in _NEEDED_CAPABILITIES.items() if not has_capability(bit))


def has_capability(bit: int) -> bool:
    """Return whether this process has a right, by the number that the kernel has for it."""
    status = Path("/proc/self/status").read_text("ascii", "replace")
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    return bool(effective >> bit & 1)


def has_user(uid: int) -> bool:
    """Return whether a user exists in the user namespace of this process."""
    try:
        return is_mapped(Path("/proc/self/uid_map").read_text("ascii"), uid)
    except OSError:
        return True  # a kernel without user namespaces


def _is_root_of_the_machine() -> bool:
    # The kernel's settings belong to the machine's root; seen from a user namespace without it, to nobody.
    return os.stat("/proc/sys/kernel").st_uid == 0
