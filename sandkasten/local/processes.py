"""A sandbox's processes, seen from outside.

They are found by descending from the sandbox's process 1, to which every orphan in it returns, and
are signalled through pidfds that were checked after opening: a number alone may by then belong to a
process of the host's, and sandboxed code can arrange for that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_DEAD = {"Z", "X"}
_USEC_PER_TICK = 1_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a sandbox's processes use: resident memory, and CPU time of all that ever ran."""

    memory_bytes: int
    cpu_usage_usec: int


def descendants(pid: int) -> Iterator[int]:
    """The process itself, then all below it."""
    pending = [pid]
    while pending:
        current = pending.pop()
        yield current
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{thread}/children", encoding="ascii") as children:
                    pending.extend(map(int, children.read().split()))


def usage(pid: int) -> Usage:
    """Add up what the process and all below it use."""
    memory_pages = cpu_ticks = 0
    for member in descendants(pid):
        with suppress(OSError, ValueError, IndexError):
            fields = _stat(member)
            cpu_ticks += sum(map(int, fields[11:15]))  # its own, and of the children it waited for
            memory_pages += int(fields[21])
    return Usage(memory_pages * _PAGE_BYTES, cpu_ticks * _USEC_PER_TICK)


def signal_groups(
    pid: int, pid_namespace: str, chosen: Callable[[int], bool], signal_number: signal.Signals
) -> int:
    """Send a signal to the members of chosen process groups that are below `pid` and in the namespace.

    Returns how many there were. One that forks while it is looked for may have a child that was not
    seen: who means to kill them all does so until there is none.
    """
    return sum(_signal(member, pid_namespace, chosen, signal_number) for member in descendants(pid))


def _signal(
    pid: int, pid_namespace: str, chosen: Callable[[int], bool], signal_number: signal.Signals
) -> bool:
    with suppress(OSError, ValueError, IndexError):
        pidfd = os.pidfd_open(pid)
        try:
            fields = _stat(pid)
            if fields[0] not in _DEAD and chosen(int(fields[2])) and namespace(pid) == pid_namespace:
                signal.pidfd_send_signal(pidfd, signal_number)
                return True
        finally:
            os.close(pidfd)
    return False


def namespace(pid: int) -> str:
    """Which process namespace a process is in."""
    return os.readlink(f"/proc/{pid}/ns/pid")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second, the name, may hold anything."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()
