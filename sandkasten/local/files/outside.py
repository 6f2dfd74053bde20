"""The files of a session that are not in its workspace, such as those in /tmp, seen from outside.

The kernel resolves their paths below the root directory that the sandbox itself has, across its mounts, so a
path means what it means inside. A file is first only named (O_PATH), then judged by where and what
it is, and then opened by that descriptor: no FIFO, socket or device is opened, and nothing of /proc, /sys or
/dev.

The file systems that can be written here are in memory and bounded. Nothing lands in /workspace this way,
since that has a quota: files there have paths of their own.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from threading import Lock

from sandkasten.local.errors import ApiError, SandboxLostError, invalid_request
from sandkasten.local.files.newfile import Destination, NewFile, UnnamedFile
from sandkasten.local.files.resolving import is_in_workspace, place_of, whole_path
from sandkasten.local.files.tree import Tree
from sandkasten.local.linux.acting import acting_as
from sandkasten.local.linux.syscalls import kind_of_file_system, open_inside

_KERNELS = ("/proc/", "/sys/", "/dev/")
_SHARED_MEMORY = "/dev/shm/"  # noqa: S108  (the sandbox's own)
# From <linux/magic.h>: proc, sysfs, devpts, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, mqueue, nsfs.
_KINDS = {
    0x9FA0, 0x62656572, 0x1CD1, 0x27E0EB, 0x63677270, 0x64626720, 0x74726163, 0x73636673, 0xCAFE4A11,
    0x19800202, 0x6E736673,
}  # fmt: skip


class OutsideTree(Tree):
    """The files of one session, from its root directory on."""

    def __init__(self, root: int, workspace: Tree) -> None:
        """Begin with a descriptor of the root directory, which is copied, and the session's other tree."""
        super().__init__(workspace.root, workspace.staging, workspace.identity, durable=False)
        self._opened: int | None = os.dup(root)
        self._lock = Lock()

    def close(self) -> None:
        """Let go of the root directory; what is under way keeps it a little longer."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            os.close(opened)

    @contextmanager
    def opened_root(self) -> Generator[int, None, None]:
        """See `Tree`."""
        with self._lock:  # a number that was closed may mean another file by now
            if self._opened is None:
                raise SandboxLostError("the session ended")
            descriptor = os.dup(self._opened)
        try:
            with acting_as(self.identity):
                yield descriptor
        finally:
            os.close(descriptor)

    @property
    def top(self) -> str:
        """See `Tree`."""
        return "."

    def inside(self, path: str) -> str:
        """See `Tree`."""
        whole = whole_path(path)
        _check_kernels(f"{whole.rstrip('/')}/", path)
        return whole.lstrip("/") or "."

    def split(self, path: str, below: Sequence[str] = ()) -> tuple[str, str, str]:
        """See `Tree`."""
        inside = posixpath.normpath("/".join((self.inside(path), *below)))
        directory, name = posixpath.split(inside)
        if inside == ".":
            raise ApiError(400, "IS_DIRECTORY", f"{path!r} is a directory.")
        return inside, directory or ".", name

    def open_path(self, root: int, path: str, flags: int = 0) -> int:
        """See `Tree`."""
        return open_inside(root, path, os.O_PATH | flags, across_mounts=True)

    def open_at(self, root: int, path: str, flags: int) -> int:
        """See `Tree`."""
        named = self.open_path(root, path, flags & os.O_DIRECTORY)
        try:
            (self.check_change if flags & os.O_ACCMODE else self.check_place)(root, named)
            mode = os.fstat(named).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise OSError(errno.ENXIO, "is not a plain file")
            return os.open(f"/proc/self/fd/{named}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        finally:
            os.close(named)

    def open_directory(self, path: str) -> int:
        """See `Tree`; not the root, in which all else is mounted."""
        descriptor = super().open_directory(path)
        try:
            with self.opened_root() as root:
                if os.path.sameopenfile(root, descriptor):
                    raise invalid_request("/ as a whole cannot be searched or packed. Name a directory.")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def crosses_mounts(self, root: int, directory: int) -> bool:
        """See `Tree`: each file of /etc is a mount; only / has mounts of the kernel's files in it."""
        return not os.path.sameopenfile(root, directory)

    def check_place(self, root: int, descriptor: int) -> None:
        """See `Tree`."""
        place = place_of(root, descriptor)
        if not place or kind_of_file_system(descriptor) in _KINDS:
            raise invalid_request("The path leads to the kernel's files. Reach them by a command.")
        _check_kernels(place, place.rstrip("/"))

    def check_change(self, root: int, directory: int) -> None:
        """See `Tree`."""
        self.check_place(root, directory)
        if is_in_workspace(place_of(root, directory).rstrip("/")):
            raise invalid_request("The path leads back into /workspace. Name the file as it is called there.")

    def new_file_at(self, place: Destination, staging: int, mode: int, *, durable: bool) -> NewFile:
        """See `Tree`."""
        return UnnamedFile(place, staging, mode, self.identity, durable=durable)


def _check_kernels(place: str, path: str) -> None:
    if place.startswith(_KERNELS) and not place.startswith(_SHARED_MEMORY):
        raise invalid_request(f"{path[:256]!r} is among the kernel's files. Reach it by a command.")
