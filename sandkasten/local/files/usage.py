"""The disk usage of a session: files with a name in its workspace, and files that only processes hold.

All of it is hostile, and changes while it is measured. A file that cannot be read makes a measurement
incomplete, which counts as too much: otherwise code could hide files there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from sandkasten.local.limits.limits import DESCRIPTORS_MAX
from sandkasten.local.linux.syscalls import have_same_descriptors, pidfd_getfd
from sandkasten.local.records import dataclass

ENTRY_BYTES = 512

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# Above these levels each directory stays open, and is read on when one in it was measured.
_OPEN_LEVELS = 32
# Below them the names of directories that are still to be measured are kept; nobody needs as many or as deep.
_MAX_PENDING = 10_000
_MAX_DEPTH = 10_000


@dataclass(frozen=True)
class Usage:
    """The size in bytes, and whether that is all: something could not be read otherwise."""

    size_bytes: int
    is_whole: bool = True

    def __add__(self, other: Usage) -> Usage:
        """Return the sum."""
        return Usage(self.size_bytes + other.size_bytes, self.is_whole and other.is_whole)


def rest_never() -> None:
    """Go on."""


def tree_usage(
    path: str | os.PathLike[str],
    stop_at: int | None = None,
    *,
    insist: bool = False,
    step: Callable[[], None] = rest_never,
) -> Usage:
    """Measure a directory's contents; call it in a thread.

    No symlink is followed, nothing on another device counts, and neither depth nor width costs stack,
    descriptors or memory. Each name of a file counts for its share of the file, so that a file with several
    names counts once. Every entry counts 512 bytes at least, so that millions of empty files, which use up
    inodes, do not come for free.

    Args:
        path: the directory.
        stop_at: return as soon as it is this much.
        insist: give back to a directory's owner the right to read it, which code may have taken away.
        step: called at every entry.
    """
    walk = _Walk(stop_at, insist=insist, step=step)
    try:
        walk.run(path)
    finally:
        walk.close()
    return Usage(walk.total_bytes, walk.is_whole)


class _Level:
    """A directory on the way down: which one it is, and what of it is still to be entered."""

    __slots__ = ("descriptor", "entries", "identity", "mode", "pending")

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.mode = stat.S_IMODE(status.st_mode)
        self.identity = (status.st_dev, status.st_ino)
        self.descriptor: int | None = descriptor
        self.entries: Iterator[os.DirEntry[str]] | None = None
        self.pending: list[str] = []

    def close(self) -> None:
        """Close it; what is in it cannot be entered any more."""
        close = getattr(self.entries, "close", None)
        if close is not None:
            close()
        if self.descriptor is not None:
            os.close(self.descriptor)
        self.descriptor = None


class _Walk:
    def __init__(self, stop_at: int | None, *, insist: bool, step: Callable[[], None] = rest_never) -> None:
        self.total_bytes = 0
        self.is_whole = True
        self._stop_at = stop_at
        self._insist = insist
        self._step = step
        self._levels: list[_Level] = []
        self._pending = 0

    def run(self, root: str | os.PathLike[str]) -> None:
        if not stat.S_ISDIR(os.lstat(root).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(root))
        descriptor = self._open(root)
        if descriptor is not None:
            self._enter(descriptor)
        while self._levels and not self._enough:
            level = self._levels[-1]
            name = self._next_directory(level)
            if name is None:
                self._leave()
            elif level.descriptor is not None:
                descriptor = self._open(name, level.descriptor)
                if descriptor is not None:
                    self._enter(descriptor)

    def close(self) -> None:
        for level in self._levels:
            level.close()

    @property
    def _enough(self) -> bool:
        return self._stop_at is not None and self.total_bytes >= self._stop_at

    def _enter(self, descriptor: int) -> None:
        level = _Level(descriptor)
        self._levels.append(level)
        depth = len(self._levels)
        if level.identity[0] != self._levels[0].identity[0]:
            return  # another file system
        if depth > _MAX_DEPTH:
            self.is_whole = False
            return
        if self._insist and os.geteuid() != 0 and not level.mode & stat.S_IXUSR:
            os.fchmod(descriptor, level.mode | stat.S_IXUSR)
        level.entries = self._entries(descriptor)
        if depth > _OPEN_LEVELS:
            self._keep_names(level)
            above = self._levels[-2]
            if depth - 1 > _OPEN_LEVELS and above.descriptor is not None:
                os.close(above.descriptor)
                above.descriptor = None

    def _entries(self, descriptor: int) -> Iterator[os.DirEntry[str]] | None:
        try:
            return os.scandir(descriptor)
        except FileNotFoundError:  # it was deleted
            return None

    def _keep_names(self, level: _Level) -> None:
        """Read a deep directory to its end, since it cannot stay open."""
        entries = level.entries
        found: list[str] = []
        while entries is not None and (name := self._read_on(level)) is not None:
            if self._pending >= _MAX_PENDING:
                self.is_whole = False
                break
            self._pending += 1
            found.append(name)
        getattr(entries, "close", lambda: None)()
        level.entries, level.pending = None, found

    def _next_directory(self, level: _Level) -> str | None:
        if level.entries is not None:
            return self._read_on(level)
        if not level.pending:
            return None
        self._pending -= 1
        return level.pending.pop()

    def _read_on(self, level: _Level) -> str | None:
        """Count entries up to the next directory, and return its name."""
        assert level.entries is not None
        for entry in level.entries:
            self._step()
            try:
                is_directory = self._count(level, entry)
            except FileNotFoundError:
                continue
            except PermissionError:  # the directory was closed meanwhile
                self.is_whole = False
                return None
            if self._enough:
                return None
            if is_directory:
                return entry.name
        return None

    def _count(self, level: _Level, entry: os.DirEntry[str]) -> bool:
        """Count an entry; return whether it is a directory."""
        status = entry.stat(follow_symlinks=False)
        if status.st_dev != level.identity[0]:
            return False
        is_directory = stat.S_ISDIR(status.st_mode)
        names = 1 if is_directory else max(1, status.st_nlink)
        self.total_bytes += max(status.st_blocks * 512 // names, ENTRY_BYTES)
        return is_directory

    def _open(self, name: str | os.PathLike[str], parent: int | None = None) -> int | None:
        """Open a directory to read it; None: it is gone, or closed to its owner."""
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except PermissionError:
            descriptor = _opened_again(name, parent) if self._insist else None
            self.is_whole = self.is_whole and descriptor is not None
            return descriptor
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENXIO}:
                raise  # too few descriptors, say
            return None

    def _leave(self) -> None:
        left = self._levels.pop()
        above = self._levels[-1] if self._levels else None
        if left.descriptor is None:
            self.is_whole = self.is_whole and not left.pending
            self._pending -= len(left.pending)
        elif above is not None and above.descriptor is None:
            above.descriptor = _way_back(left.descriptor, above.identity)
            if above.descriptor is None:  # it was moved: what else is there is out of reach
                self.is_whole = self.is_whole and not above.pending
                self._pending -= len(above.pending)
                above.pending = []
        left.close()


def _opened_again(name: str | os.PathLike[str], parent: int | None) -> int | None:
    """Give a directory's owner back the right to read it, and open it; never by a symlink."""
    with suppress(OSError):
        pinned = os.open(name, os.O_PATH | _DIRECTORY, dir_fd=parent)
        try:
            here = f"/proc/self/fd/{pinned}"
            os.chmod(here, stat.S_IMODE(os.fstat(pinned).st_mode) | stat.S_IRUSR | stat.S_IXUSR)
            return os.open(here, _DIRECTORY & ~os.O_NOFOLLOW)
        finally:
            os.close(pinned)
    return None


def _way_back(descriptor: int, identity: tuple[int, int]) -> int | None:
    """Open `..`, if that is still the directory which it was."""
    try:
        parent = os.open("..", _DIRECTORY, dir_fd=descriptor)
    except OSError:
        return None
    status = os.fstat(parent)
    if (status.st_dev, status.st_ino) == identity:
        return parent
    os.close(parent)
    return None


# --- files without a name


def held_usage(pids: Iterable[int], workspace: str | os.PathLike[str], uid: int) -> Usage:
    """Measure the files that have no name any more and that processes have open, run or have mapped.

    Args:
        pids: the processes; the first one is of the daemon's making, and the others are below it.
        workspace: a directory on the disk that counts.
        uid: whose files count: deleted ones of an image, say, belong to others.
    """
    try:
        held = _Held(os.stat(workspace).st_dev, uid)
    except FileNotFoundError:
        return Usage(0)
    for number, pid in enumerate(pids):
        try:
            held.look_at(pid)
        except PermissionError:
            if number == 0:  # a daemon without that right, as root has it not in many containers
                return Usage(0)
            held.is_whole = False
        except OSError:
            continue  # it has ended
    return Usage(sum(held.sizes.values()), held.is_whole)


class _Held:
    def __init__(self, device: int, uid: int) -> None:
        self.sizes: dict[int, int] = {}  # by inode
        self.is_whole = True
        self._device = device
        self._uid = uid

    def look_at(self, pid: int) -> None:
        threads = [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
        for thread in threads:
            if thread == pid or not have_same_descriptors(pid, thread):
                with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
                    self._look_at_descriptors(thread, f"/proc/{pid}/task/{thread}/fd")
        for (
            thread
        ) in threads:  # they share their memory; only one that has ended, as the first may have, has none
            with suppress(FileNotFoundError, ProcessLookupError):
                if self._look_at_mappings(thread):
                    self._count(f"/proc/{thread}/exe")
                    break

    def _look_at_descriptors(self, pid: int, directory: str) -> None:
        try:
            entries = os.scandir(directory)
        except PermissionError:
            self._look_at_closed(pid)
            return
        with entries:
            for entry in entries:
                self._count(entry.path)

    def _look_at_closed(self, pid: int) -> None:
        """Examine a process whose descriptors are not listed for an ordinary user.

        It closed itself, as agents with keys do, or is a bash that nobody can read. The daemon may still take
        each descriptor by its number.
        """
        pidfd = os.pidfd_open(pid)
        try:
            for number in range(DESCRIPTORS_MAX):
                taken = pidfd_getfd(pidfd, number)
                if taken is not None:
                    self._count(f"/proc/self/fd/{taken}")
                    os.close(taken)
        finally:
            os.close(pidfd)

    def _look_at_mappings(self, pid: int) -> bool:
        """Count what is only mapped: all of it where the kernel shows it (to root), else what is mapped.

        Returns whether there are mappings.
        """
        device = f"{os.major(self._device):02x}:{os.minor(self._device):02x}"
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
            lines = maps.readlines()
        deleted = [line.split(maxsplit=5) for line in lines if line.endswith(" (deleted)\n")]
        for area, _permissions, offset, on_device, inode, _path in deleted:
            start, end = area.split("-")
            if on_device != device or self._count(f"/proc/{pid}/map_files/{start}-{end}"):
                continue
            size_bytes = int(offset, 16) + int(end, 16) - int(start, 16)
            self.sizes[int(inode)] = max(self.sizes.get(int(inode), 0), size_bytes)
        return bool(lines)

    def _count(self, path: str) -> bool:
        """Count a file if it has no name; return whether it could be examined."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        is_ours = status.st_dev == self._device and status.st_uid == self._uid
        if is_ours and not status.st_nlink and stat.S_ISREG(status.st_mode):
            self.sizes[status.st_ino] = max(status.st_blocks * 512, ENTRY_BYTES)
        return True
