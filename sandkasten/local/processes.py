"""A sandbox's processes, seen from outside.

They are found by descending from the sandbox's process 1, to which every orphan in it returns, and
are signalled through pidfds that were checked after opening: a number alone may by then belong to a
process of the host's, and sandboxed code can arrange for that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
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


def kill_group(pid: int, pid_namespace: str, group: int, signal_number: signal.Signals) -> None:
    """Send a signal to the members of a process group that are below `pid` and in the namespace."""
    for member in descendants(pid):
        with suppress(OSError, ValueError, IndexError):
            pidfd = os.pidfd_open(member)
            try:
                if int(_stat(member)[2]) == group and namespace(member) == pid_namespace:
                    signal.pidfd_send_signal(pidfd, signal_number)
            finally:
                os.close(pidfd)


def only_child(pid: int) -> int:
    """The one child of a process that has one thread."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return int(children.read().split()[0])


def namespace(pid: int) -> str:
    """Which process namespace a process is in."""
    return os.readlink(f"/proc/{pid}/ns/pid")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second, the name, may hold anything."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()
