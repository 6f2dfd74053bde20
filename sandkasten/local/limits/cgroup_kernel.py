"""Groups of the kernel's: the daemon's own, and one below it for each sandbox; see `cgroups.py`."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import select
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sandkasten.local.limits.cgroup_base import (
    Usage,
    expose_to_oom,
    listed,
)
from sandkasten.local.limits.limits import ALL_RESOURCES, Limits, Resource
from sandkasten.local.linux import processes
from sandkasten.local.linux.kernfs import number, value, words, write
from sandkasten.local.records import dataclass

_PREFIX = "sandkasten-"
_OURS = re.compile(r"sandkasten-\d+-[0-9a-f]{8}")
_BOX = "box"
_PERIOD_USEC = 100_000


class KernelCgroups:
    """The daemon's group, in one tree or in one per controller."""

    def __init__(self, version: int, bases: Mapping[str, Path], reasons: list[str]) -> None:
        """Make the daemon's group.

        Args:
            version: of the kernel's interface.
            bases: for each controller the group to make it in.
            reasons: why there is nothing better.
        """
        self._version = version
        self._reasons = list(reasons)
        self._bases = dict(bases)
        self._name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._locks: list[int] = []
        made = (self.directory(controller) for controller in bases)
        try:
            for directory in dict.fromkeys(made):
                directory.mkdir(mode=0o755)
                # As long as this is locked, others leave it alone; the kernel unlocks, however we end.
                self._locks.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                fcntl.flock(self._locks[-1], fcntl.LOCK_SH)
                directory.stat()  # nobody was faster
        except OSError:
            self.close()
            raise

    def directory(self, controller: str) -> Path:
        """The daemon's group in a controller's tree."""
        return self._bases[controller] / self._name

    @property
    def bounded(self) -> frozenset[Resource]:
        """See `Cgroups`."""
        if self._version == 1:
            return frozenset(name for name in ALL_RESOURCES if name in self._bases)
        enabled = words(self._bases["memory"] / "cgroup.subtree_control")
        return frozenset(name for name in ALL_RESOURCES if name in enabled)

    def create(self, name: str, limits: Limits) -> KernelGroup:
        """See `Cgroups`."""
        directories = {controller: self.directory(controller) / name for controller in self._bases}
        group = KernelGroup(self._version, directories, limits, self.bounded)
        try:
            group.make()
        except FileExistsError:
            raise  # and belongs to somebody else
        except OSError:
            group.remove()
            raise
        return group

    def describe(self) -> str:
        """See `Cgroups`."""
        said = f"cgroup v{self._version} at {self.directory('memory')} bounds {listed(self.bounded)}"
        missing = listed(name for name in ALL_RESOURCES if name not in self.bounded)
        return "; ".join([said, *([f"not bounded: {missing}"] if missing else []), *self._reasons])

    def cleanup_stale(self) -> None:
        """See `Cgroups`."""
        for base in dict.fromkeys(self._bases.values()):
            for directory in base.iterdir():
                if _OURS.fullmatch(directory.name) and directory.name != self._name:
                    with suppress(OSError):
                        _remove_stale(directory)

    def close(self) -> None:
        """See `Cgroups`."""
        for directory in {self.directory(controller) for controller in self._bases}:
            with suppress(OSError):
                directory.rmdir()
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()


class KernelGroup:
    """One sandbox's group, in one tree or in one per controller."""

    def __init__(
        self, version: int, directories: Mapping[str, Path], limits: Limits, bounded: frozenset[Resource]
    ) -> None:
        """Keep where the group is going to be; `make` makes it."""
        self._directories = directories
        self._is_v2 = version == 2
        self._limits = limits
        self._bounded = bounded
        self._pid: int | None = None
        events = "memory.events" if self._is_v2 else "memory.oom_control"
        self._memory_events = directories["memory"] / events

    @property
    def _unique(self) -> list[Path]:
        return list(dict.fromkeys(self._directories.values()))

    @property
    def _members(self) -> list[Path]:
        """The directories whose processes are the sandbox's."""
        return [directory / _BOX for directory in self._unique] if self._is_v2 else self._unique

    def make(self) -> None:
        """Make the group, with its limits."""
        for directory in self._unique:
            directory.mkdir(mode=0o755)
        for member in self._members:
            member.mkdir(mode=0o755, exist_ok=True)
        if self._is_v2:
            write(self._directories["memory"] / "cgroup.max.descendants", "1")
        for setting in settings(2 if self._is_v2 else 1, self._limits):
            if setting.controller not in self._bounded:
                continue
            try:
                write(self._directories[setting.controller] / setting.file, setting.text)
            except OSError as error:
                if error.errno not in setting.tolerates:
                    raise

    def add(self, pid: int) -> None:
        """See `Group`."""
        for member in self._members:
            write(member / "cgroup.procs", str(pid))
        self._pid = self._pid or pid
        expose_to_oom(pid)

    def usage(self, members: Collection[int] = ()) -> Usage:
        """See `Group`."""
        del members
        memory, cpu = self._directories["memory"], self._directories.get("cpuacct")
        if self._is_v2:
            total, cached, spent = (
                "memory.current",
                "inactive_file",
                value(memory / "cpu.stat", "usage_usec"),
            )
        else:
            total, cached = "memory.usage_in_bytes", "total_inactive_file"
            spent = number(cpu / "cpuacct.usage") // 1000 if cpu else self._spent_by_proc()
        return Usage(
            memory_bytes=max(0, number(memory / total) - value(memory / "memory.stat", cached)),
            memory_limit=self._limits.memory_bytes,
            cpu_usage_usec=spent,
            processes=number(self._directories["pids"] / "pids.current"),
        )

    def oom_kills(self) -> int:
        """See `Group`."""
        return value(self._memory_events, "oom_kill")

    def kill(self) -> None:
        """See `Group`."""
        if self._is_v2:
            with suppress(OSError):  # since Linux 5.14
                write(self._directories["memory"] / "cgroup.kill", "1")
                return
        # From here on nothing in it can fork, so two rounds are enough: one for those that were just
        # being made in the first. Freezing, which this is often done with, would need a thaw as well.
        with suppress(OSError):
            write(self._directories["pids"] / "pids.max", "0")
        for _ in range(2):
            _kill_all(self._members[0])

    def remove(self, timeout_seconds: float = 10.0) -> None:
        """See `Group`."""
        deadline = time.monotonic() + timeout_seconds
        for directory in self._members + (self._unique if self._is_v2 else []):
            while not _removed(directory):
                left_seconds = deadline - time.monotonic()
                if left_seconds <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, "The group still has processes", str(directory))
                _wait_for_change(directory, left_seconds)

    def _spent_by_proc(self) -> int:
        return 0 if self._pid is None else processes.usage(self._pid).cpu_usage_usec


@dataclass(frozen=True)
class Setting:
    """One file of a group's, what goes in, and the errors that do no harm."""

    controller: Resource
    file: str
    text: str
    tolerates: tuple[int, ...] = ()


def settings(version: int, limits: Limits) -> Iterator[Setting]:
    """The files that hold a group's limits."""
    v2 = version == 2
    if limits.memory_bytes is not None:
        amount = str(limits.memory_bytes)
        yield Setting("memory", "memory.max" if v2 else "memory.limit_in_bytes", amount)
        # Nor may it swap, which would slow down the whole machine; kernels without swap have no such
        # file. Version 1 counts memory and swap together.
        file, amount = ("memory.swap.max", "0") if v2 else ("memory.memsw.limit_in_bytes", amount)
        yield Setting("memory", file, amount, (errno.ENOENT, errno.EACCES, errno.EOPNOTSUPP))
    if limits.processes is not None:
        yield Setting("pids", "pids.max", str(limits.processes))
    if limits.cpus is not None:
        quota_usec = max(1000, round(limits.cpus * _PERIOD_USEC))
        if v2:
            yield Setting("cpu", "cpu.max", f"{quota_usec} {_PERIOD_USEC}")
        else:
            yield Setting("cpu", "cpu.cfs_period_us", str(_PERIOD_USEC))
            # Refused where a group above has less, which then bounds it anyway.
            yield Setting("cpu", "cpu.cfs_quota_us", str(quota_usec), (errno.EINVAL,))


def _remove_stale(directory: Path) -> None:
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The kernel does not remove a group that has processes or groups; three levels are all we make.
        for pattern in (f"*/{_BOX}", "*"):
            for group in directory.glob(f"{pattern}/"):
                with suppress(OSError):
                    group.rmdir()
        directory.rmdir()
    finally:
        os.close(lock)


def _removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _wait_for_change(directory: Path, timeout_seconds: float) -> None:
    """Wait until a process leaves the group, or until that is likely."""
    pids = [int(word) for word in words(directory / "cgroup.procs")]
    poller, opened = select.poll(), list[int]()
    for pid in pids[:64]:
        with suppress(OSError):
            opened.append(os.pidfd_open(pid))
            poller.register(opened[-1], select.POLLIN)
    if opened:
        poller.poll(timeout_seconds * 1000)
        for descriptor in opened:
            os.close(descriptor)
    else:
        time.sleep(min(timeout_seconds, 0.002))  # they have ended, and the kernel is about to notice


def _kill_all(group: Path) -> None:
    held: dict[int, int] = {}
    for pid in map(int, words(group / "cgroup.procs")):
        with suppress(OSError):
            held[pid] = os.pidfd_open(pid)
    # Those that are still listed, now that they are held, are what the numbers mean.
    still = set(map(int, words(group / "cgroup.procs")))
    for pid, descriptor in held.items():
        if pid in still:
            with suppress(OSError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)
