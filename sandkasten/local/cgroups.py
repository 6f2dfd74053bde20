"""Control groups: bounds for a sandbox as a whole, and what it uses, counted by the kernel.

The daemon has one group, `sandkasten-…`, below the one it runs in, so whatever bounds the daemon
bounds its sandboxes, too; below that, one group per sandbox. It comes in three kinds, and callers
need not know which:

* Version 2, one tree for all controllers, where the daemon's group was delegated to it (systemd's
  `Delegate=yes`, or a container with a writable /sys/fs/cgroup). A group whose controllers are on for
  its children cannot have processes itself, so what runs in a delegated group moves to a leaf of it.
  As root, a group above that already has such children will do, if no limit of ours is left behind.
* Version 1, one tree per controller, as root.
* None: rlimits bound (`limits.py`), and usage is added up from /proc.

In version 2, processes are not in the group with the limits but in `box` below it. Sandboxed code can
mount a cgroup file system: it makes a user and a cgroup namespace of its own, whose root is the group
it is in. Where the daemon is the same user, it may write there. Its limits are one level up, out of
sight, and so is the limit of zero further groups.

When memory runs out, the kernel ends one process of the group: the biggest, and process 1 last
(`OOM_SCORE_SANDBOX`). A command ends with status 137; if it is the shell, the supervisor starts a new
one; if it is process 1, the sandbox is lost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import select
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sandkasten.local import processes
from sandkasten.local.limits import (
    ALL_RESOURCES,
    OOM_SCORE_SANDBOX,
    Limits,
    Resource,
    counts_processes_per_sandbox,
    kernel_version,
)

_PREFIX = "sandkasten-"
_OURS = re.compile(r"sandkasten-\d+-[0-9a-f]{8}")
_LEAF = "sandkasten.leaf"  # where the processes of a delegated group go; stays, as they do
_BOX = "box"
_PERIOD_USEC = 100_000
_SYSTEMD_RUN = "systemd-run --user --scope -p Delegate=yes"


class CgroupsError(Exception):
    """One kind of control groups is not to be had; the text says why."""


@dataclass(frozen=True)
class Usage:
    """What a sandbox uses.

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


@dataclass(frozen=True)
class Events:
    """How often a limit was met: processes ended for want of memory, and those that could not start."""

    oom_kills: int = 0
    refused_forks: int = 0


class Group(Protocol):
    """One sandbox's limits."""

    def add(self, pid: int) -> None:
        """Put a process in, before it has children; in want of memory it goes before the host's.

        Raises:
            OSError: it could not be bounded, and so must not run.
        """
        ...

    def usage(self) -> Usage:
        """What it uses; call it in a thread."""
        ...

    def events(self) -> Events:
        """What happened at its limits."""
        ...

    def kill(self) -> None:
        """Send SIGKILL to every process in it, and to those that they start meanwhile."""
        ...

    def remove(self, timeout_seconds: float = 10.0) -> None:
        """Wait until it is empty, and remove it; call it in a thread.

        Raises:
            TimeoutError: there are still processes.
        """
        ...


class Cgroups(Protocol):
    """What makes groups."""

    @property
    def bounded(self) -> frozenset[Resource]:
        """Which resources its groups bound; the rest is left to rlimits."""
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


def find_cgroups(proc_self: Path = Path("/proc/self")) -> Cgroups:
    """Take the best that this machine offers to this user."""
    reasons: list[str] = []
    try:
        trees = read_hierarchies(
            (proc_self / "mountinfo").read_text("utf-8", "surrogateescape"),
            (proc_self / "cgroup").read_text("utf-8", "surrogateescape"),
        )
    except OSError as error:
        return NoCgroups([f"/proc: {error.strerror}"])
    for version, open_version in ((2, _open_v2), (1, _open_v1)):
        try:
            return open_version(trees, reasons)
        except CgroupsError as error:
            reasons.append(f"cgroup v{version}: {error}")
        except OSError as error:
            reasons.append(f"cgroup v{version}: {error.strerror} ({error.filename})")
    return NoCgroups(reasons)


@dataclass(frozen=True)
class Hierarchy:
    """One mounted tree: where it is mounted, and this process's group in it."""

    mount: Path
    own: Path


def read_hierarchies(mountinfo: str, cgroup: str) -> dict[str, Hierarchy]:
    """The trees by controller, version 2's under the empty name; from the texts of /proc/self."""
    own_paths: dict[str, str] = {}
    for line in cgroup.splitlines():
        _number, controllers, path = line.split(":", 2)
        own_paths |= dict.fromkeys(controllers.split(","), path)
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        root, mount = (_unescape(field) for field in fields.split()[3:5])
        kind, _device, options = rest.split()[:3] if rest.count(" ") > 1 else ("", "", "")
        names = {"cgroup2": [""], "cgroup": options.split(",")}.get(kind, [])
        for name in names:
            own = own_paths.get(name)
            # A container may see a part of the tree only, and its own group may not be in it.
            if own is not None and f"{own}/".startswith(f"{root.rstrip('/')}/") and "/.." not in own:
                inside = own[len(root.rstrip("/")) :].strip("/")
                found.setdefault(name, Hierarchy(Path(mount), Path(mount) / inside))
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


# --- version 1


def _open_v1(trees: Mapping[str, Hierarchy], reasons: list[str]) -> Cgroups:
    if "memory" not in trees or "pids" not in trees:
        raise CgroupsError("the controllers memory and pids are not mounted")
    if os.geteuid() != 0:
        raise CgroupsError("needs root")
    bases = {name: trees[name].own for name in ("memory", "pids", "cpu", "cpuacct") if name in trees}
    return KernelCgroups(1, bases, reasons)


# --- version 2


def _open_v2(trees: Mapping[str, Hierarchy], reasons: list[str]) -> Cgroups:
    if "" not in trees:
        raise CgroupsError("not mounted")
    base = _find_base(trees[""])
    group = KernelCgroups(2, dict.fromkeys(ALL_RESOURCES, base), reasons)
    try:
        _enable(group.directory("memory"), group.bounded)
    except OSError:
        group.close()
        raise
    return group


def _find_base(tree: Hierarchy) -> Path:
    """The group below which ours goes: with controllers that are on for its children."""
    own = tree.own.parent if tree.own.name == _LEAF else tree.own
    offered = {name for name in _words(own / "cgroup.controllers") if name in ALL_RESOURCES}
    if "memory" not in offered or "pids" not in offered:
        raise CgroupsError("has no controllers here (version 1 has them, or they are not delegated)")
    writable = all(os.access(path, os.W_OK) for path in (own, own / "cgroup.procs"))
    if writable and (own == tree.mount or _is_delegated(own)):
        _enable_or_evacuate(own, offered)
        return own
    if os.geteuid() != 0 or not writable:
        raise CgroupsError(f"{own} is not delegated to this user (start it with {_SYSTEMD_RUN})")
    if any(_read(own / name).split()[:1] not in ([], ["max"]) for name in ("memory.max", "cpu.max")):
        raise CgroupsError(f"{own} has limits that must not be left (start it with Delegate=yes)")
    for above in own.parents:
        if {"memory", "pids"} <= set(_words(above / "cgroup.subtree_control")):
            return above
        if above == tree.mount:
            break
    raise CgroupsError("no group has the controllers memory and pids on for its children")


def _is_delegated(group: Path) -> bool:
    """Whether systemd says so. That we may write is not enough: a terminal's group is its user's."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return False


def _enable_or_evacuate(group: Path, controllers: Iterable[str]) -> None:
    try:
        _enable(group, controllers)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        leaf = group / _LEAF
        leaf.mkdir(exist_ok=True)
        for _ in range(20):  # more may start while we move them
            for pid in _words(group / "cgroup.procs"):
                with suppress(ProcessLookupError):
                    _write(leaf / "cgroup.procs", pid)
            if not _words(group / "cgroup.procs"):
                break
        _enable(group, controllers)


def _enable(group: Path, controllers: Iterable[str]) -> None:
    for name in sorted(set(controllers) - set(_words(group / "cgroup.subtree_control"))):
        _write(group / "cgroup.subtree_control", f"+{name}")


# --- groups of the kernel's


class KernelCgroups:
    """The daemon's group, in one tree or in one per controller."""

    def __init__(self, version: int, bases: Mapping[str, Path], reasons: list[str]) -> None:
        """Make it.

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
        words = _words(self._bases["memory"] / "cgroup.subtree_control")
        return frozenset(name for name in ALL_RESOURCES if name in words)

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
        said = f"cgroup v{self._version} at {self.directory('memory')} bounds {_listed(self.bounded)}"
        missing = _listed(name for name in ALL_RESOURCES if name not in self.bounded)
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
        """Know where it is to be."""
        self._directories = directories
        self._is_v2 = version == 2
        self._limits = limits
        self._bounded = bounded
        self._pid: int | None = None

    @property
    def _unique(self) -> list[Path]:
        return list(dict.fromkeys(self._directories.values()))

    @property
    def _members(self) -> list[Path]:
        """Where the processes are."""
        return [directory / _BOX for directory in self._unique] if self._is_v2 else self._unique

    def make(self) -> None:
        """Make it, with its limits."""
        for directory in self._unique:
            directory.mkdir(mode=0o755)
        for member in self._members:
            member.mkdir(mode=0o755, exist_ok=True)
        if self._is_v2:
            _write(self._directories["memory"] / "cgroup.max.descendants", "1")
        for setting in settings(2 if self._is_v2 else 1, self._limits):
            if setting.controller not in self._bounded:
                continue
            try:
                _write(self._directories[setting.controller] / setting.file, setting.text)
            except OSError as error:
                if error.errno not in setting.tolerates:
                    raise

    def add(self, pid: int) -> None:
        """See `Group`."""
        for member in self._members:
            _write(member / "cgroup.procs", str(pid))
        self._pid = pid
        _expose_to_oom(pid)

    def usage(self) -> Usage:
        """See `Group`."""
        memory, cpu = self._directories["memory"], self._directories.get("cpuacct")
        if self._is_v2:
            total, cached, spent = (
                "memory.current",
                "inactive_file",
                _value(memory / "cpu.stat", "usage_usec"),
            )
        else:
            total, cached = "memory.usage_in_bytes", "total_inactive_file"
            spent = _number(cpu / "cpuacct.usage") // 1000 if cpu else self._spent_by_proc()
        return Usage(
            memory_bytes=max(0, _number(memory / total) - _value(memory / "memory.stat", cached)),
            memory_limit=self._limits.memory_bytes,
            cpu_usage_usec=spent,
            processes=_number(self._directories["pids"] / "pids.current"),
        )

    def events(self) -> Events:
        """See `Group`."""
        memory = self._directories["memory"] / ("memory.events" if self._is_v2 else "memory.oom_control")
        pids = self._directories["pids"] / "pids.events"
        return Events(oom_kills=_value(memory, "oom_kill"), refused_forks=_value(pids, "max"))

    def kill(self) -> None:
        """See `Group`."""
        if self._is_v2:
            with suppress(OSError):  # since Linux 5.14
                _write(self._directories["memory"] / "cgroup.kill", "1")
                return
        # From here on nothing in it can fork, so two rounds are enough: one for those that were just
        # being made in the first. Freezing, which this is often done with, would need a thaw as well.
        with suppress(OSError):
            _write(self._directories["pids"] / "pids.max", "0")
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
    pids = [int(word) for word in _words(directory / "cgroup.procs")]
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
    for pid in map(int, _words(group / "cgroup.procs")):
        with suppress(OSError):
            held[pid] = os.pidfd_open(pid)
    # Those that are still listed, now that they are held, are what the numbers mean.
    still = set(map(int, _words(group / "cgroup.procs")))
    for pid, descriptor in held.items():
        if pid in still:
            with suppress(OSError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)


# --- without


class NoCgroups:
    """Rlimits bound what they can, and /proc tells what is used."""

    def __init__(self, reasons: list[str]) -> None:
        """Keep why."""
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
        self._pidfd, self._pid = os.pidfd_open(pid), pid
        _expose_to_oom(pid)

    def usage(self) -> Usage:
        if self._pid is None:
            return Usage(0, None, 0, 0)
        used = processes.usage(self._pid)
        members = sum(1 for _ in processes.descendants(self._pid))
        return Usage(used.memory_bytes, None, used.cpu_usage_usec, members)

    def events(self) -> Events:
        return Events()

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


def _expose_to_oom(pid: int) -> None:
    path = Path(f"/proc/{pid}/oom_score_adj")
    with suppress(OSError):
        if _number(path) < OOM_SCORE_SANDBOX:
            _write(path, str(OOM_SCORE_SANDBOX))


# --- files of the kernel's: written with one call, and read as far as they are there


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text("utf-8")
    return ""


def _words(path: Path) -> list[str]:
    return _read(path).split()


def _number(path: Path) -> int:
    return int(_read(path).strip() or 0)


def _value(path: Path, key: str) -> int:
    """The number after a key that begins a line."""
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
