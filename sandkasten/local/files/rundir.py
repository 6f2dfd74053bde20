"""The directory that holds what ends with a daemon, and the ones that killed daemons left behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sandkasten._directories import find_trouble
from sandkasten.local.errors import IsolationError
from sandkasten.local.identity import Identity
from sandkasten.local.linux import scratch

PREFIX = "sandkasten-run-"


@contextmanager
def run_dir(identity: Identity) -> Generator[Path, None, None]:
    """Create the directory, in a place that sandboxes can be built from, and remove it in the end.

    Raises:
        IsolationError: there is no such place.
    """
    with closing(scratch.Scratch(Path(run_dir_base(identity)), PREFIX)) as directory:
        identity.let_pass(directory.path)
        yield directory.path


def run_dir_base(identity: Identity) -> str:
    """Return where the directory may be that holds what ends with a daemon: sandboxes are built from it.

    Raises:
        IsolationError: there is no such place.
    """
    for base in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108  (what is made there is ours alone)
        # A socket's path may have 107 bytes at most.
        if len(base) < 60 and os.path.isdir(base) and _is_usable(identity, Path(base)):
            return base
    raise IsolationError(
        "No directory for temporary files can be reached by the user that sandboxes run as and is safe from "
        "other users.",
        "Set TMPDIR to one of root's or your own that everybody may enter, with a short path.",
    )


def sweep(base: Path) -> None:
    """Remove what daemons of this user left there that had no time to."""
    scratch.sweep(base, PREFIX, _end_left)


def _end_left(path: Path) -> None:
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


def _is_usable(identity: Identity, directory: Path) -> bool:
    try:
        is_open = all(map(identity.can_pass, (directory, *directory.parents)))
        return is_open and os.access(directory, os.W_OK) and find_trouble(directory) is None
    except OSError:
        return False
