"""Processes of this machine as tests see them from outside; what a function looks at may end meanwhile."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def has_ended(pid: int) -> bool:
    """Return whether a process ended with all its threads; one that its parent has yet to reap has.

    The first thread may be a zombie while others still run and hold the sockets open, so the state of /proc
    is not enough; a pidfd waits for the last of them.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 0)[0])
    finally:
        os.close(pidfd)


def processes_with(words: str) -> list[int]:
    """Return the other processes of this machine that have some words in their command line."""
    return [pid for pid in _all() if pid != os.getpid() and words.encode() in _content(pid, "cmdline")]


def names_of(pids: Iterable[int]) -> set[str]:
    """Return the names of the programs in some processes."""
    return {_content(pid, "comm").decode().strip() for pid in pids} - {""}


def descriptors_of(pid: int) -> list[str]:
    """Return the targets of all descriptors that a process holds, as the kernel names them."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(entry))
    return found


def _all() -> Iterable[int]:
    return map(int, filter(str.isdigit, os.listdir("/proc")))


def _content(pid: int, name: str) -> bytes:
    """Return the content of one of a process's files; nothing if the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # ended before it was opened, or before it was read; or another user's, on some machines
        return b""
