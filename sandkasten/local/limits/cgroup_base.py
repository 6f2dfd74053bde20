"""Control groups as the rest of the daemon sees them, and the stand-in where there are none.

`cgroups.py` says how it all works; `cgroup_kernel.py` has the groups of the kernel's.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sandkasten.local.limits.limits import (
    OOM_SCORE_SANDBOX,
    Limits,
    Resource,
    counts_processes_per_sandbox,
)
from sandkasten.local.linux import processes
from sandkasten.local.linux.kernel import kernel_version
from sandkasten.local.linux.kernfs import number, write
from sandkasten.local.records import dataclass


class CgroupsError(Exception):
    """One kind of control groups is not to be had; the text says why."""


@dataclass(frozen=True)
class Usage:
    """The resources that a sandbox uses.

    Attributes:
        memory_bytes: memory of all its processes, without cached files that could be dropped.
        memory_limit: what all of them together may use; None: they are not bounded together.
        cpu_usage_usec: CPU time of all that ever ran.
        processes: processes and threads now.
    """

    memory_bytes: int
    memory_limit: int | None
    cpu_usage_usec: int
    processes: int


class Group(Protocol):
    """One sandbox's limits."""

    def add(self, pid: int) -> None:
        """Put a process in, before it has children; in want of memory it goes before the host's. May block.

        The first one is process 1 of the sandbox.

        Raises:
            OSError: it could not be bounded, and so must not run.
        """
        ...

    def usage(self, members: Collection[int] = ()) -> Usage:
        """Return the resources in use; call it in a thread.

        Args:
            members: the processes, for machines without groups; otherwise those below process 1.
        """
        ...

    def oom_kills(self) -> int:
        """Return how many of its processes were ended for want of memory, at the cost of one small read."""
        ...

    def kill(self) -> None:
        """Send SIGKILL to every process in it, and to those that they start meanwhile."""
        ...

    def remove(self, timeout_seconds: float = 10.0) -> None:
        """Wait until the group is empty, and remove the group; call this in a thread.

        Raises:
            TimeoutError: there are still processes.
        """
        ...


class Cgroups(Protocol):
    """A maker of groups."""

    @property
    def bounded(self) -> frozenset[Resource]:
        """The resources that the groups bound; the rest is left to rlimits."""
        ...

    def create(self, name: str, limits: Limits) -> Group:
        """Make a group for a new sandbox.

        Raises:
            OSError: it cannot be had.
        """
        ...

    def describe(self) -> str:
        """One line: what is used, and why nothing better."""
        ...

    def cleanup_stale(self) -> None:
        """Remove the groups of daemons that are gone, where no process is in them."""
        ...

    def close(self) -> None:
        """Remove the daemon's own group; those of its sandboxes are removed before."""
        ...


# --- without


class NoCgroups:
    """The stand-in: rlimits bound what they can, and /proc shows the usage."""

    def __init__(self, reasons: list[str]) -> None:
        """Keep the reasons why there are none."""
        self._reasons = list(reasons)
        self.bounded: frozenset[Resource] = frozenset()

    def create(self, name: str, limits: Limits) -> Group:
        """See `Cgroups`."""
        del name, limits
        return _NoGroup()

    def describe(self) -> str:
        """See `Cgroups`."""
        per_sandbox = counts_processes_per_sandbox(kernel_version())
        bounds = "memory of each process" + (", processes of each sandbox" if per_sandbox else "")
        not_bounded = "CPU" if per_sandbox else "processes, CPU"
        return "; ".join([f"no cgroups: rlimits bound {bounds}; not bounded: {not_bounded}", *self._reasons])

    def cleanup_stale(self) -> None:
        """See `Cgroups`."""

    def close(self) -> None:
        """See `Cgroups`."""


class _NoGroup:
    def __init__(self) -> None:
        self._pid: int | None = None
        self._pidfd: int | None = None

    def add(self, pid: int) -> None:
        if self._pid is None:
            self._pidfd, self._pid = os.pidfd_open(pid), pid
        expose_to_oom(pid)

    def usage(self, members: Collection[int] = ()) -> Usage:
        if self._pid is None:
            return Usage(0, None, 0, 0)
        counted = members or list(processes.descendants(self._pid))
        used = processes.usage_of(counted)
        return Usage(used.memory_bytes, None, used.cpu_usage_usec, len(counted))

    def oom_kills(self) -> int:
        return 0

    def kill(self) -> None:
        if self._pidfd is not None:  # process 1, and with it all others in its namespace
            with suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def remove(self, timeout_seconds: float = 10.0) -> None:
        if self._pidfd is None:
            return
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        if not poller.poll(timeout_seconds * 1000):
            raise TimeoutError(errno.ETIMEDOUT, "The sandbox still runs")
        os.close(self._pidfd)
        self._pidfd = self._pid = None


def expose_to_oom(pid: int) -> None:
    """Let a process go before the host's when memory runs out."""
    path = Path(f"/proc/{pid}/oom_score_adj")
    with suppress(OSError):
        if number(path) < OOM_SCORE_SANDBOX:
            write(path, str(OOM_SCORE_SANDBOX))


def listed(names: Iterable[str]) -> str:
    """Return names as a list for people."""
    return ", ".join(sorted(names))
