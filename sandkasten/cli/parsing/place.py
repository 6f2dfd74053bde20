"""The directory of the daemon in the background: it belongs only to this user, or it is not used.

It holds the socket, the key and the log. A user who could have made or could replace the directory would get
our commands and could run theirs, so every directory on the way to it is checked as well.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sandkasten._directories import find_trouble
from sandkasten.cli.output.failures import CommandLineError

_LONGEST_SOCKET_PATH = 107
_FIX = "Set XDG_RUNTIME_DIR to a directory of your own, with a short path, that nobody else can write to."


@dataclass(frozen=True)
class Place:
    """The directory of the daemon in the background, and the files in it."""

    directory: Path

    @property
    def socket(self) -> Path:
        """The socket on which the daemon listens."""
        return self.directory / "daemon.sock"

    @property
    def key(self) -> Path:
        """The file that holds the daemon's key."""
        return self.directory / "key"

    @property
    def log(self) -> Path:
        """The file with the daemon's log."""
        return self.directory / "log"

    @property
    def url(self) -> str:
        """The daemon's URL, as clients take it."""
        return f"unix://{self.socket}"


def choose(environ: Mapping[str, str], uid: int) -> Place:
    """Return the directory: in the user's runtime directory if there is one, else among the user's state."""
    runtime = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and _owner(runtime) == uid:
        return Place(runtime / "sandkasten")
    state = Path(environ.get("XDG_STATE_HOME", ""))
    base = state if state.is_absolute() else Path(os.path.expanduser("~/.local/state"))
    return Place(base / "sandkasten" / "run")


def find() -> Place | None:
    """Return the directory, or None if it does not exist.

    Raises:
        CommandLineError: others can enter or replace the directory.
    """
    place = choose(os.environ, os.geteuid())
    if not os.path.lexists(place.directory):
        return None
    _check(place.directory)
    return place


def make() -> Place:
    """Return the directory, made if need be.

    Raises:
        CommandLineError: others can enter or replace the directory, or its path is too long for a socket.
    """
    place = choose(os.environ, os.geteuid())
    if len(os.fsencode(place.socket)) > _LONGEST_SOCKET_PATH:
        raise CommandLineError(f"The path {place.socket} is too long for a socket. {_FIX}")
    place.directory.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # and `_check` tells whose it is
        place.directory.mkdir(mode=0o700)
    _check(place.directory)
    return place


@contextmanager
def locked(place: Place) -> Generator[None, None, None]:
    """Keep other commands from starting or ending the daemon during the block."""
    descriptor = os.open(place.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _owner(path: Path) -> int | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_uid if stat.S_ISDIR(status.st_mode) else None


def _check(directory: Path) -> None:
    status = directory.lstat()
    if not is_private(status, os.geteuid()):
        raise CommandLineError(f"{directory} is not a directory that only you can enter. {_FIX}")
    trouble = find_trouble(directory)
    if trouble is not None:
        raise CommandLineError(f"{directory} could be replaced by others: {trouble} {_FIX}")


def is_private(status: os.stat_result, uid: int) -> bool:
    """Return whether a directory is this user's and closed to everybody else."""
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o077
