"""A sandbox's processes, seen from outside.

They are found by descending from the sandbox's process 1, to which every orphan in it returns, and
are signalled through pidfds that were checked after opening: a number alone may by then belong to a
process of the host's, and sandboxed code can arrange for that.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Collection, Container, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress

from sandkasten.local.records import dataclass

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_DEAD = {"Z", "X"}
# The place of the start time among the fields of /proc/PID/stat that follow the name.
_START = 19
# Likewise of its flags; from <linux/sched.h>.
_FLAGS = 6
_PF_EXITING = 0x4
_CHILDREN_BYTES = 4096
_KILL_ROUNDS = 20
_STOP_ROUNDS = 5
_FEW = 16
# Who forks faster than it is looked must not keep one look for ever.
_LOOK_SECONDS = 2.0
# How long what was killed may take to end: it needs a processor for that, and others may have all of them.
_KILL_SECONDS = 1.0
_NSEC_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_USEC_PER_TICK = 1_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """The usage of a sandbox's processes: resident memory, and CPU time of all that ever ran."""

    memory_bytes: int
    cpu_usage_usec: int


def descendants(pid: int) -> Iterator[int]:
    """The process itself, then all below it."""
    pending = [pid]
    while pending:
        current = pending.pop()
        yield current
        pending += children_of_all_threads(current)


def usage(pid: int) -> Usage:
    """Add up what the process and all below it use."""
    return usage_of(descendants(pid))


def usage_of(pids: Iterable[int]) -> Usage:
    """Add up what some processes use."""
    memory_pages = cpu_ticks = 0
    for member in pids:
        with suppress(OSError, ValueError, IndexError):
            fields = _stat(member)
            cpu_ticks += sum(map(int, fields[11:15]))  # its own, and of the children it waited for
            memory_pages += int(fields[21])
    return Usage(memory_pages * _PAGE_BYTES, cpu_ticks * _USEC_PER_TICK)


@dataclass(frozen=True)
class Process:
    """One process for as long as it lives: its number may come back, but not with the same start time."""

    pid: int
    start_ticks: int


@dataclass(frozen=True)
class Earlier:
    """The processes that there were at a moment, below some; made of no more than the numbers of these.

    To look at each of a session's processes would keep everybody waiting. Of the moment's own tick of the
    kernel's clock, those count that were there; those of ticks before count all.

    Attributes:
        pids: the first processes on each way down.
        tick: the moment.
    """

    pids: frozenset[int] = frozenset()
    tick: int = 0

    def __contains__(self, process: object) -> bool:
        """Return whether a process was there."""
        return isinstance(process, Process) and (
            process.start_ticks < self.tick or (process.start_ticks == self.tick and process.pid in self.pids)
        )


def below_now(parents: Iterable[int]) -> Earlier:
    """Return the processes below some that have one thread each."""
    pids = frozenset(child for parent in parents for child in children(parent))
    # Read after the list, so that nothing that the list lacks is earlier.
    return Earlier(pids, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NSEC_PER_TICK)


def children(pid: int) -> list[int]:
    """Return the children of a process that has one thread; none of one that is gone."""
    with suppress(OSError):
        descriptor = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.read(descriptor, _CHILDREN_BYTES)
            while part := os.read(descriptor, _CHILDREN_BYTES):
                found += part
        finally:
            os.close(descriptor)
        return [int(child) for child in found.split()]
    return []


def identified(pids: Iterable[int]) -> frozenset[Process]:
    """Return those of the processes that are there."""
    found: set[Process] = set()
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            found.add(Process(pid, int(_stat(pid)[_START])))
    return frozenset(found)


def has_ended(pid: int) -> bool:
    """Return whether a process has gone, is just going, or only waits to be reaped."""
    try:
        fields = _stat(pid)
    except OSError:
        return True
    return fields[0] in _DEAD or bool(int(fields[_FLAGS]) & _PF_EXITING)


def signal_others(
    init_pid: int,
    shell: Process,
    spared: Container[Process],
    pid_namespace: str,
    signal_number: int,
    *,
    user_namespace: str = "",
) -> int:
    """Send a signal to all processes of a sandbox except process 1, the shell, the spared and their children.

    With a user namespace, only to those that are in it: programs beside the shell have others.

    Returns how many there were, or 1 if the shell has gone: process 1 may have started another by then, and
    it is too early to know that shell from the rest. With SIGKILL, all that it was sent to have ended, unless
    the machine was too busy for that. The signal 0 only counts.
    """
    parents, found = [init_pid, shell.pid], 1
    own_namespace = user_namespace or pid_namespace
    deadline = 0.0  # not in the first round, so that they end beside one another
    with _stopped(init_pid, pid_namespace):
        # One that forks meanwhile may have a child that was not seen, so to kill them all takes some rounds.
        for _ in range(_KILL_ROUNDS if signal_number == signal.SIGKILL else 1):
            if shell not in identified([shell.pid]):
                break
            found = _signal_below(parents, spared, own_namespace, signal_number, deadline)
            if not found:
                break
            deadline = deadline or time.monotonic() + _KILL_SECONDS
    return found


def signal_inside(init_pid: int, pids: Collection[int], user_namespace: str, signal_number: int) -> int:
    """Send a signal to all processes of a sandbox that are in a user namespace, but not in process 1's.

    Args:
        init_pid: process 1, where all of them are that lost their parents.
        pids: and others that may be in it.
        user_namespace: which one, as the link in /proc names it; nobody inside can leave it.
        signal_number: the signal; 0 only counts.

    Returns how many there were. With SIGKILL, all that it was sent to have ended, unless the machine was too
    busy for that.
    """
    count, empty = 0, 0
    deadline = 0.0
    for _ in range(_KILL_ROUNDS if signal_number == signal.SIGKILL else 1):
        if signal_number == signal.SIGKILL:
            _stop_many(init_pid, pids, user_namespace)
        found = _signal_below(
            [init_pid], (), user_namespace, signal_number, deadline, others=pids, look_seconds=_LOOK_SECONDS
        )
        count = max(count, found)
        # One that forks at the wrong moment is not seen, so nothing must have been found twice.
        empty = 0 if found else empty + 1
        if empty == 2 or (empty and not count):
            break
        deadline = deadline or time.monotonic() + _KILL_SECONDS
    return count


def _stop_many(init_pid: int, pids: Collection[int], user_namespace: str) -> None:
    """Stop all of them first where they are many.

    Each that is killed makes room for another fork, so those that fork all the time are never found all. One
    that is stopped makes none: in the end all are stopped, or cannot fork at the limit.
    """
    for _ in range(_STOP_ROUNDS):
        found = _signal_below(
            [init_pid], (), user_namespace, signal.SIGSTOP, 0.0, others=pids, look_seconds=_LOOK_SECONDS
        )
        if found <= _FEW:
            break


def user_namespaces(pid: int) -> set[str]:
    """Return the user namespaces in which the process and all below it are."""
    found = set[str]()
    for member in descendants(pid):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/{member}/ns/user"))
    return found


def _signal_below(
    parents: Collection[int],
    spared: Container[Process],
    namespace_name: str,
    signal_number: int,
    deadline: float,
    *,
    others: Collection[int] = (),
    look_seconds: float = math.inf,
) -> int:
    """Send a signal to all that is below some processes; until a deadline, wait for each of them to end.

    Others are signalled, too. Those that are not in the namespace are left out, with all below them.
    """
    count = 0
    ends_at = time.monotonic() + look_seconds
    pending = [*others, *(child for parent in parents for child in children_of_all_threads(parent))]
    while pending:
        if time.monotonic() > ends_at:
            return count + 1  # there is at least one more
        current = pending.pop()
        if current in parents:
            continue
        with suppress(OSError, ValueError, IndexError), _held(current) as pidfd:
            is_spared = Process(current, int(_stat(current)[_START])) in spared
            if is_spared or not _is_inside(current, namespace_name):
                continue
            pending += children_of_all_threads(current)
            if not _ends(pidfd, 0):
                signal.pidfd_send_signal(pidfd, signal_number)
                count += 1
                _ends(pidfd, max(0, deadline - time.monotonic()))
    return count


def _ends(pidfd: int, seconds: float) -> bool:
    """Wait for a process to end, for a while; return whether it has.

    The state in /proc is that of the first thread, which may be dead while others go on.
    """
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def signal_one(process: Process, pid_namespace: str, signal_number: int) -> None:
    """Send a signal to one process, if it is still there."""
    with suppress(OSError, ValueError, IndexError), _held(process.pid) as pidfd:
        is_same = int(_stat(process.pid)[_START]) == process.start_ticks
        if is_same and namespace(process.pid) == pid_namespace:
            signal.pidfd_send_signal(pidfd, signal_number)


@contextmanager
def _stopped(pid: int, pid_namespace: str) -> Generator[None, None, None]:
    """Stop a process for a while, so that it starts no others; do nothing if it has gone."""
    process = next(iter(identified([pid])), None)
    if process is not None:
        signal_one(process, pid_namespace, signal.SIGSTOP)
    try:
        yield
    finally:
        if process is not None:
            signal_one(process, pid_namespace, signal.SIGCONT)


@contextmanager
def _held(pid: int) -> Generator[int, None, None]:
    """Open a process, so that what is checked afterwards is true of the process that is signalled."""
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def children_of_all_threads(pid: int) -> list[int]:
    """Return the children of a process."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def _is_inside(pid: int, name: str) -> bool:
    """Return whether a process is in a namespace, which names its own kind: `pid:[4026531836]`."""
    return os.readlink(f"/proc/{pid}/ns/{name.partition(':')[0]}") == name


def namespace(pid: int) -> str:
    """Return the process namespace of a process."""
    return os.readlink(f"/proc/{pid}/ns/pid")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second, the name, may hold anything."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def has_more_threads(pid: int, most: int) -> bool:
    """Return whether a process and all below it have more threads than that, looking at few."""
    count = 0
    for member in descendants(pid):
        with suppress(OSError):
            count += len(os.listdir(f"/proc/{member}/task"))
        if count > most:
            return True
    return False


def run_times(pids: Iterable[int], most: int) -> frozenset[tuple[str, str]] | None:
    """Return how long each thread of some processes has run so far; None: there are more, or it is unknown.

    Nothing of theirs ran between two calls that return the same: what makes a process or thread runs, too.
    """
    found: dict[str, str] = {}
    try:
        for pid in pids:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                    found[thread] = file.read().partition(" ")[0]
            if len(found) > most:
                return None
    except OSError:  # it ended just now, or the kernel does not count
        return None
    return None if not found or "0" in found.values() else frozenset(found.items())
