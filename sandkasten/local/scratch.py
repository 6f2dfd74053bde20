"""Directories that are gone when their process is, however it ended.

Each is locked (flock) as long as its process lives. One that nobody locks was left by a process that was
killed, and goes at the next `sweep`. Where directories cannot be locked (NFS), nothing is swept.
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
from pathlib import Path
from types import TracebackType

# What `mkdtemp` puts after the prefix: what somebody else called sandkasten-run-notes stays.
_SUFFIX = "[a-z0-9_]{8}"


class Scratch:
    """A new directory, which is removed with all that is in it."""

    def __init__(self, base: Path, prefix: str, mode: int = 0o700) -> None:
        """Make it below `base` and lock it."""
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
            with suppress(FileNotFoundError):
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                with suppress(OSError):
                    fcntl.flock(self._lock, fcntl.LOCK_EX)
                if self.path.exists():
                    os.fchmod(self._lock, mode)
                    return
                os.close(self._lock)
            # Somebody's sweep was here before the lock.

    def close(self) -> None:
        """Remove it; it may be gone, and may have become another one by `rename`."""
        remove_tree(self.path)
        os.close(self._lock)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def sweep(base: Path, prefix: str, before: Callable[[Path], None] = lambda path: None) -> None:
    """Remove what killed processes of this user left below `base`.

    Args:
        base: where to look; it need not exist.
        prefix: what the names begin with.
        before: called with each directory that is about to go.
    """
    name = re.compile(re.escape(prefix) + _SUFFIX)
    try:
        with os.scandir(base) as entries:
            candidates = [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]
    except FileNotFoundError:
        return
    for path in candidates:
        with suppress(OSError):  # somebody has it, or sweeps as well
            _remove_if_left(path, before)


def _remove_if_left(path: Path, before: Callable[[Path], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before(path)
            remove_tree(path)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Delete a directory that sandboxed code filled: as deep, as locked and as full as it liked."""
    if not path.exists():
        return
    # Not shutil.rmtree, which recurses in Python; and neither program follows symlinks here.
    chmod, rm = shutil.which("chmod") or "chmod", shutil.which("rm") or "rm"
    subprocess.run([rm, "-rf", "--one-file-system", "--", path], capture_output=True, check=False)
    if path.exists():
        subprocess.run([chmod, "-R", "u+rwX", "--", path], capture_output=True, check=False)
        subprocess.run([rm, "-rf", "--one-file-system", "--", path], capture_output=True, check=False)
