"""The daemon's directories: closed to other users, and at places that other users cannot change."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from sandkasten._directories import Trouble, find_trouble
from sandkasten.local.errors import IsolationError
from sandkasten.local.identity import Identity

# What is in a data directory.
WORKSPACES = "workspaces"
IMAGES = "images"
PACKAGES = "packages"


def make_closed(path: Path, identity: Identity) -> None:
    """Create a directory with its parents, as far as they are missing, and close it to other users.

    Raises:
        OSError: it cannot be made, or other users can change what its path means.
    """
    missing = [step for step in (path, *path.parents) if not step.exists()]
    for step in reversed(missing):
        step.mkdir(exist_ok=True)
        identity.let_pass(step)
    trouble = find_trouble(path)
    if trouble is not None:
        raise PermissionError(errno.EPERM, str(trouble).removesuffix("."), str(path))
    _close(path, identity)


def secure_data_dir(directory: Path, identity: Identity) -> None:
    """Make sure that only this user decides what is in a data directory, as far as it exists.

    An earlier version left workspaces and images open to whoever knew a name: this closes them.

    Raises:
        IsolationError: others can change it; the text says what to do.
    """
    trouble = data_trouble(directory)
    if trouble is not None:
        raise IsolationError(
            f"{trouble} So workspaces and images are not safe in {directory}.",
            f"Run: {trouble.remedy}. Or choose another directory: set SANDKASTEN_DATA_DIR.",
        )
    for name in (WORKSPACES, IMAGES, PACKAGES):
        with suppress(FileNotFoundError):
            _close(directory / name, identity)


def data_trouble(directory: Path) -> Trouble | None:
    """Return how others can change a data directory, or what is in it that this user does not own.

    A path that this user cannot even look at is of no use to the daemon, and so no trouble.
    """
    with suppress(OSError):
        for path in (directory, directory / WORKSPACES, directory / IMAGES, directory / PACKAGES):
            trouble = find_trouble(path)
            if trouble is not None:
                return trouble
    return None


def _close(path: Path, identity: Identity) -> None:
    if path.stat().st_uid == os.geteuid():
        identity.let_pass(path)
