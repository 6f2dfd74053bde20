"""A copy of an image's bash that can be run but not read.

The session's first programs, process 1 and the shell, hold the state that decides what later commands are
reported to have done. The kernel closes a process's memory, variables and descriptors (/proc/PID/mem and its
like) to others of the same user, if that user may run its program but not read it. Bash itself misses
nothing by that, nor do the programs that it starts: they are read, and so are as open as ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sandkasten.local.isolation.policy import BASH, Image

_MAX_BYTES = 64 * 1024 * 1024
# A program that looks for its libraries beside itself works in its own place only.
_OF_ITS_PLACE = b"$ORIGIN"
_ELF = b"\x7fELF"


def copy_closed(bash: int, copy: Path) -> str | None:
    """Copy a program, given as a descriptor, and give the copy's path; None where there can be none."""
    try:
        copy.unlink(missing_ok=True)  # an earlier copy could not be written to
        if _copy(bash, copy):
            return str(copy)
        copy.unlink(missing_ok=True)
    except OSError:
        with suppress(OSError):
            copy.unlink(missing_ok=True)
    return None


def _copy(bash: int, copy: Path) -> bool:
    status = os.fstat(bash)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES or _is_noexec(copy.parent):
        return False
    with os.fdopen(os.dup(bash), "rb") as file:
        program = file.read(_MAX_BYTES)
    if not program.startswith(_ELF) or _OF_ITS_PLACE in program:
        return False
    copy.write_bytes(program)
    # The kernel lets the daemon trace what runs it only if the sandbox knows the file's user and group.
    os.chown(copy, -1, os.getegid())
    copy.chmod(0o111)
    return stat.S_IMODE(copy.stat().st_mode) == 0o111


def with_closed_bash(images: Mapping[str, Image], directory: Path) -> dict[str, Image]:
    """This machine's own images, with a copy of its bash in a directory."""
    try:
        bash = os.open(BASH, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return dict(images)
    try:
        copy = copy_closed(bash, directory / "bash")
    finally:
        os.close(bash)
    return {name: replace(image, closed_bash=copy) for name, image in images.items()}


def _is_noexec(directory: Path) -> bool:
    return bool(os.statvfs(directory).f_flag & os.ST_NOEXEC)
