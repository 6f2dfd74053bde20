"""Directories that do not outlive their process: it removes them, or the next `sweep` does if it was killed.

In each lies a file that is locked as long as the process lives; what has no such file is somebody else's.
Not the directory itself is locked, since NFS would do that for one machine only.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from errno import E2BIG, EXDEV
from itertools import islice
from pathlib import Path

_LOCK = ".lock"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SUFFIX = "[a-z0-9_]{8}"  # what `mkdtemp` puts after the prefix
# So many entries, on so many levels, are removed here, at a tenth of what starting a program costs.
_FEW, _SHALLOW = 100, 6


class Scratch:
    """A new directory, which `close` removes with all that is in it."""

    def __init__(self, base: Path, prefix: str) -> None:
        """Create a directory below `base`, for this user only, and lock the directory."""
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
            lock = _locked(self.path)
            if lock is not None:
                break  # otherwise somebody's sweep was here before the lock
        self._lock: int | None = lock

    def close(self) -> None:
        """Remove the directory, which may be gone, and may have become another one by `rename`."""
        lock, self._lock = self._lock, None
        if lock is not None:
            remove_tree(self.path)
            os.close(lock)


def sweep(base: Path, prefix: str, before: Callable[[Path], None] | None = None) -> None:
    """Remove what killed processes of this user left below `base`.

    Args:
        base: where to look; it need not exist.
        prefix: what the names begin with.
        before: called with each directory that is about to go.
    """
    name = re.compile(re.escape(prefix) + _SUFFIX)
    with suppress(OSError):  # it cannot be read, or is not there
        with os.scandir(base) as entries:
            candidates = [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]
        for path in candidates:
            with suppress(OSError):  # somebody has it, or sweeps as well
                _remove_if_left(path, before)


def _locked(path: Path) -> int | None:
    """Lock a new directory; None if it was swept meanwhile."""
    lock_file = path / _LOCK
    try:
        lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:  # there are no locks here: then nobody may take it for left
        lock_file.unlink()
        return lock
    if lock_file.exists():
        return lock
    os.close(lock)
    return None


def _remove_if_left(path: Path, before: Callable[[Path], None] | None) -> None:
    """Remove a directory if it and its lock are this user's, and nobody holds the lock.

    In /tmp anybody can give anything such a name: a symlink to a directory of ours, or a directory of their
    own with a hard link to a file of ours in it.
    """
    directory = os.open(path, _DIRECTORY)
    try:
        lock = os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            if os.fstat(directory).st_uid == os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if before is not None:
                    before(path)
                remove_tree(path)
        finally:
            os.close(lock)
    finally:
        os.close(directory)


def remove_tree(path: Path) -> None:
    """Delete a directory that sandboxed code filled: as deep, as locked and as full as it liked.

    If the path is a symlink or a file, nothing happens.
    """
    try:
        directory = os.open(path, _DIRECTORY)
    except PermissionError:  # its owner closed it to the owner
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with suppress(OSError):
            _remove_few(directory, os.fstat(directory).st_dev, _FEW, _SHALLOW)
            os.rmdir(path)
            return
        # Not shutil.rmtree, which recurses in Python; and neither program follows symlinks here.
        _run("rm", "-rf", "--one-file-system", "--", str(path))
        if os.path.lexists(path):
            os.chmod(f"/proc/self/fd/{directory}", 0o700)
            _run("chmod", "-R", "u+rwX", "--", f"/proc/{os.getpid()}/fd/{directory}/.")
            _run("rm", "-rf", "--one-file-system", "--", str(path))
    finally:
        os.close(directory)


def _remove_few(directory: int, device: int, most: int, levels: int) -> int:
    """Remove what a directory has, and return how many more entries might be removed.

    Raises:
        OSError: there are more, or something does not let itself be removed in this way; much may be gone.
    """
    with os.scandir(directory) as found:
        entries = list(islice(found, most + 1))
    most -= len(entries)
    if most < 0 or levels == 0:
        raise OSError(E2BIG, "not just a few entries")
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=directory)
            continue
        below = os.open(entry.name, _DIRECTORY, dir_fd=directory)
        try:
            if os.fstat(below).st_dev != device:
                raise OSError(EXDEV, "another file system")
            most = _remove_few(below, device, most, levels - 1)
        finally:
            os.close(below)
        os.rmdir(entry.name, dir_fd=directory)
    return most


def _run(program: str, *words: str) -> None:
    """Run one of the system's programs: the user's PATH may lead anywhere, and this may be root."""
    found = shutil.which(program, path="/usr/bin:/bin") or f"/bin/{program}"
    subprocess.run([found, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False)
