"""The limits of one sandbox: plain numbers, what they are where nobody sets them, and rlimits.

Memory, processes and CPU of a sandbox as a whole are bounded by control groups (`cgroups.py`). Limits beyond
control groups, or beyond those of this machine, are left to rlimits:

* One file's size (RLIMIT_FSIZE), descriptors (RLIMIT_NOFILE), priorities, and what the kernel counts for each
  user: pending signals with timers, bytes of message queues, and locked memory, always. (Core dumps are
  off in the daemon itself, from which sandboxes inherit it.)
* Processes: RLIMIT_NPROC counts what one user has in one *user namespace*, since Linux 5.14. Each
  sandbox is a user namespace, and those made inside it count towards it; so this is a limit per
  sandbox, but only if it is set *after* bubblewrap made the namespace. Before 5.14 it counts all
  processes of the user on the host: the sandboxes would starve each other, so it is not used.
* Memory: RLIMIT_DATA, per process. Not RLIMIT_AS: that counts addresses which are only reserved, and
  threads, Node, Java and Go reserve gigabytes. It does not see shared memory and files in /tmp; and many
  processes may each take as much. It stops accidents, not malice.

Process 1 of the sandbox sets them, with `ulimit_command` as its first words, before anything of the user's
runs. Not `prlimit` from outside: on a process of another user it needs CAP_SYS_RESOURCE,
which root in a container does not have. Not `preexec_fn`: it is unsafe where there are threads.
"""

from __future__ import annotations

import dataclasses
import os
import resource
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, get_args

from sandkasten.local.limits.values import MIB, check_limit, read_limits
from sandkasten.local.records import dataclass

Resource = Literal["memory", "pids", "cpu"]
"""What control groups may bound, by the names of the kernel's controllers."""

ALL_RESOURCES: tuple[Resource, ...] = get_args(Resource)

GIB = 1024**3

# Which process the kernel ends first when memory runs out, 0 to 1000. Sandboxes before the rest of the
# machine; and in a sandbox, process 1 last, since the sandbox ends with it. Children inherit the number; the
# daemon sets process 1's, since everybody may lower their own again, and so /proc is read-only inside.
OOM_SCORE_SANDBOX = 300
OOM_SCORE_SHELL = 800

_NPROC_PER_NAMESPACE = (5, 14)
_DESCRIPTORS_SOFT = 1024  # what every Linux login has; programs that use select() break above it
DESCRIPTORS_MAX = 4096  # for those that ask for more; a descriptor is kernel memory


# What the kernel counts for each user, whichever sandbox it is in: a part of what users have, so that one
# sandbox does not use up all of it. (Python has no name for that of pending signals.)
RLIMIT_SIGPENDING = 11
OF_A_USER: Mapping[int, int] = {
    RLIMIT_SIGPENDING: 2048,  # signals that wait, and timers; users have 4,000 for each GiB of memory
    resource.RLIMIT_MSGQUEUE: 200 * 1024,  # two POSIX queues of the usual size; users have nine
    resource.RLIMIT_MEMLOCK: 8 * MIB,  # what a login has
}


@dataclass(frozen=True)
class Limits:
    """The limits of one sandbox; None: no limit.

    Attributes:
        memory_bytes: memory of all its processes, with what they keep in /tmp.
        processes: processes and threads at one time.
        cpus: CPU seconds per second.
        file_bytes: the largest file it can write.
        tmp_bytes: what each of its file systems in memory holds (/tmp, the home directory, /dev/shm).
        workspace_bytes: what its workspace may take on the disk. No kernel quota, but measured.
        output_bytes: a command's output that is kept.
    """

    memory_bytes: int | None
    processes: int | None
    cpus: float | None
    file_bytes: int | None
    tmp_bytes: int | None
    workspace_bytes: int | None
    output_bytes: int

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            LimitsError: which limit, and why.
        """
        for field in dataclasses.fields(self):
            check_limit(field.name, getattr(self, field.name))

    @classmethod
    def for_machine(cls, total_memory_bytes: int, cpu_count: int) -> Limits:
        """Return the limits that suit a machine: one sandbox gone wild leaves the rest of the machine usable.

        Sandboxes together may be promised more than the machine has; they seldom want it at the same time.
        """
        # Half, so that the machine lives; 8 GiB hold a data frame or a browser's build, and a few
        # sandboxes at once on a machine that has plenty.
        memory_bytes = min(max(total_memory_bytes // 2, 64 * MIB), 8 * GIB)
        return cls(
            memory_bytes=memory_bytes,
            processes=512,  # a parallel build or a browser; a fork bomb of this size is harmless
            cpus=float(min(cpu_count, 4)),  # on small machines all: the kernel shares them out fairly
            file_bytes=4 * GIB,  # a disk image or a model's weights, not the disk
            # There are three such file systems, and all of them full must leave memory for programs: for
            # files no process can be ended, so the kernel would end all of them, one after the other.
            tmp_bytes=memory_bytes // 4,
            workspace_bytes=8 * GIB,
            output_bytes=MIB,
        )

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any], defaults: Limits) -> Limits:
        """Return the defaults with what a configuration file has; "unlimited" takes a limit away.

        Raises:
            LimitsError: which key, and what is wrong.
        """
        values: dict[str, Any] = read_limits(settings)
        return dataclasses.replace(defaults, **values)


@dataclass(frozen=True)
class Rlimit:
    """One resource limit of the kernel's."""

    soft: int
    hard: int


def machine_limits() -> Limits:
    """Return the limits that suit this machine."""
    total_memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Limits.for_machine(total_memory_bytes, len(os.sched_getaffinity(0)))


def counts_processes_per_sandbox(kernel: tuple[int, int]) -> bool:
    """Return whether RLIMIT_NPROC bounds one sandbox rather than all of one user."""
    return kernel >= _NPROC_PER_NAMESPACE


def rlimits(limits: Limits, bounded: Collection[Resource], kernel: tuple[int, int]) -> dict[int, Rlimit]:
    """Return the resource limits with which a sandbox's processes start.

    Args:
        limits: the wanted limits.
        bounded: the resources that control groups bound already.
        kernel: its version.
    """
    chosen = {
        resource.RLIMIT_NOFILE: Rlimit(_DESCRIPTORS_SOFT, DESCRIPTORS_MAX),
        # A user may have the right to real-time priority, for music; its sandboxes have it not.
        resource.RLIMIT_RTPRIO: Rlimit(0, 0),
        resource.RLIMIT_NICE: Rlimit(0, 0),
        **{which: Rlimit(most, most) for which, most in OF_A_USER.items()},
    }
    if limits.file_bytes is not None:
        chosen[resource.RLIMIT_FSIZE] = Rlimit(limits.file_bytes, limits.file_bytes)
    if limits.processes is not None and "pids" not in bounded and counts_processes_per_sandbox(kernel):
        chosen[resource.RLIMIT_NPROC] = Rlimit(limits.processes, limits.processes)
    if limits.memory_bytes is not None and "memory" not in bounded:
        chosen[resource.RLIMIT_DATA] = Rlimit(limits.memory_bytes, limits.memory_bytes)
    return chosen


def clamped(wanted: Mapping[int, Rlimit]) -> dict[int, Rlimit]:
    """No limit higher than this process's own: only root may raise those."""

    def lower(which: int, limit: Rlimit) -> Rlimit:
        _soft, hard = resource.getrlimit(which)
        return (
            limit if hard == resource.RLIM_INFINITY else Rlimit(min(limit.soft, hard), min(limit.hard, hard))
        )

    return {which: lower(which, limit) for which, limit in wanted.items()}


# Bash's letter, and the bytes in one of its units (outside of its POSIX mode).
_ULIMIT: Mapping[int, tuple[str, int]] = {
    resource.RLIMIT_RTPRIO: ("r", 1),
    resource.RLIMIT_NICE: ("e", 1),
    resource.RLIMIT_NOFILE: ("n", 1),
    resource.RLIMIT_FSIZE: ("f", 1024),
    resource.RLIMIT_NPROC: ("u", 1),
    resource.RLIMIT_DATA: ("d", 1024),
    RLIMIT_SIGPENDING: ("i", 1),
    resource.RLIMIT_MSGQUEUE: ("q", 1),
    resource.RLIMIT_MEMLOCK: ("l", 1024),
}


def ulimit_command(wanted: Mapping[int, Rlimit]) -> str:
    """The bash command that sets them; it fails if one cannot be set."""

    def words() -> Iterator[str]:
        for which, limit in wanted.items():
            letter, unit = _ULIMIT[which]
            # The soft one first: it may never be above the hard one.
            yield f"ulimit -S -{letter} {limit.soft // unit}"
            yield f"ulimit -H -{letter} {limit.hard // unit}"

    return " && ".join(words()) or ":"
