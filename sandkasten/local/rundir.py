"""The directory that holds what ends with a daemon, and the ones that killed daemons left behind."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandkasten.local import host
from sandkasten.local.host import Identity
from sandkasten.local.workspaces import remove_tree

PREFIX = "sandkasten-run-"
# As `mkdtemp` makes it: what somebody else called /tmp/sandkasten-run-me stays.
_NAME = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}")


@contextmanager
def run_dir(identity: Identity) -> Generator[Path, None, None]:
    """Make the directory, in a place that sandboxes can be built from, and remove it in the end.

    Raises:
        IsolationError: there is no such place.
    """
    path, lock = _make(identity)
    try:
        yield path
    finally:
        remove_tree(path)
        os.close(lock)


def sweep(base: Path) -> None:
    """Remove what daemons of this user left there that had no time to: nobody holds its lock any more."""
    with os.scandir(base) as entries:
        candidates = [entry.path for entry in entries if _NAME.fullmatch(entry.name)]
    for path in candidates:
        with suppress(OSError):
            _remove_if_left(path)


def _make(identity: Identity) -> tuple[Path, int]:
    """Make it and lock it; one that another daemon's sweep took before it was locked is made anew."""
    base = host.run_dir_base(identity)
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                os.fchmod(lock, 0o711 if identity.drops else 0o700)
                return path, lock
            os.close(lock)


def _remove_if_left(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _end_left(path)
            remove_tree(Path(path))
    finally:
        os.close(descriptor)


def _end_left(path: str) -> None:
    """End what was building a sandbox with a directory that nobody has any more.

    Bubblewrap's second process waits for a word of its first one, for ever if that was killed at this moment,
    with the daemon. Nothing of the sandbox runs in it.
    """
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            process = os.pidfd_open(int(name))
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes()
                program = os.path.basename(os.readlink(f"/proc/{name}/exe"))
                if f"{path}/".encode() in words and program.startswith("bwrap"):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)
