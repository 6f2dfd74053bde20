"""Control groups: bounds for a sandbox as a whole, and what it uses, counted by the kernel.

The daemon has one group, `sandkasten-…`, below the one it runs in, so whatever bounds the daemon
bounds its sandboxes, too; below that, one group per sandbox. It comes in three kinds, and callers
need not know which:

* Version 2, one tree for all controllers, where the daemon's group was delegated to it (systemd's
  `Delegate=yes`, or a container with a writable /sys/fs/cgroup). A group whose controllers are on for
  its children cannot have processes itself, so what runs in a delegated group moves to a leaf of it.
  Where the group is not delegated but the user's systemd manages it, the daemon gets a scope of its own
  (`systemd.py`); as root, a group above that already has such children will do. Neither if a limit of
  ours would be left behind.
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
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from sandkasten.local.limits import systemd
from sandkasten.local.limits.cgroup_base import (
    Cgroups,
    CgroupsError,
    Group,
    NoCgroups,
    Usage,
)
from sandkasten.local.limits.cgroup_kernel import KernelCgroups
from sandkasten.local.limits.limits import ALL_RESOURCES
from sandkasten.local.linux.kernfs import read, words, write
from sandkasten.local.records import dataclass

__all__ = [
    "Cgroups",
    "CgroupsError",
    "Group",
    "Hierarchy",
    "KernelCgroups",
    "NoCgroups",
    "Usage",
    "find_cgroups",
    "read_hierarchies",
]

_LEAF = "sandkasten.leaf"  # where the processes of a delegated group go; stays, as they do
_LIMITS = ("memory.max", "memory.high", "cpu.max")
_SYSTEMD_RUN = "systemd-run --user --scope -p Delegate=yes"


def find_cgroups(proc_self: Path = Path("/proc/self")) -> Cgroups:
    """Take the best that this machine offers to this user."""
    reasons: list[str] = []
    try:
        trees = _read_own(proc_self)
    except OSError as error:
        return NoCgroups([f"/proc: {error.strerror}"])
    for version, open_version in ((2, _open_v2), (1, _open_v1)):
        try:
            return open_version(trees, reasons, proc_self)
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


def _read_own(proc_self: Path) -> dict[str, Hierarchy]:
    mountinfo, cgroup = (
        (proc_self / name).read_text("utf-8", "surrogateescape") for name in ("mountinfo", "cgroup")
    )
    return read_hierarchies(mountinfo, cgroup)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


# --- version 1


def _open_v1(trees: Mapping[str, Hierarchy], reasons: list[str], _proc_self: Path) -> Cgroups:
    if "memory" not in trees or "pids" not in trees:
        raise CgroupsError("the controllers memory and pids are not mounted")
    if os.geteuid() != 0:
        raise CgroupsError("needs root")
    bases = {name: trees[name].own for name in ("memory", "pids", "cpu", "cpuacct") if name in trees}
    return KernelCgroups(1, bases, reasons)


# --- version 2


def _open_v2(trees: Mapping[str, Hierarchy], reasons: list[str], proc_self: Path) -> Cgroups:
    if "" not in trees:
        raise CgroupsError("not mounted")
    base = _find_base(trees[""], proc_self)
    group = KernelCgroups(2, dict.fromkeys(ALL_RESOURCES, base), reasons)
    try:
        _enable(group.directory("memory"), group.bounded)
    except OSError:
        group.close()
        raise
    return group


def _find_base(tree: Hierarchy, proc_self: Path) -> Path:
    """The group below which ours goes: with controllers that are on for its children."""
    own = tree.own.parent if tree.own.name == _LEAF else tree.own
    offered = {name for name in words(own / "cgroup.controllers") if name in ALL_RESOURCES}
    if "memory" not in offered or "pids" not in offered:
        raise CgroupsError("has no controllers here (version 1 has them, or they are not delegated)")
    writable = all(os.access(path, os.W_OK) for path in (own, own / "cgroup.procs"))
    if writable and (own == tree.mount or _is_delegated(own)):
        _enable_or_evacuate(own, offered)
        return own
    is_root, is_managed = os.geteuid() == 0, systemd.is_managed_for_user(own)
    if not writable or not (is_root or is_managed):
        raise CgroupsError(f"{own} is not delegated to this user (start it with {_SYSTEMD_RUN})")
    if any(read(own / name).split()[:1] not in ([], ["max"]) for name in _LIMITS):
        raise CgroupsError(f"{own} has limits that must not be left (start it with Delegate=yes)")
    if is_root:
        return _group_above(tree)
    if not systemd.may_be_left(own):
        raise CgroupsError(f"{own} is a service that must not be left (give its unit Delegate=yes)")
    return _own_scope(tree, proc_self)


def _group_above(tree: Hierarchy) -> Path:
    for above in tree.own.parents:
        if {"memory", "pids"} <= set(words(above / "cgroup.subtree_control")):
            return above
        if above == tree.mount:
            break
    raise CgroupsError("no group has the controllers memory and pids on for its children")


def _own_scope(tree: Hierarchy, proc_self: Path) -> Path:
    systemd.move_to_own_scope(tree.own, proc_self / "cgroup")
    own = _read_own(proc_self)[""].own
    _enable_or_evacuate(own, [name for name in words(own / "cgroup.controllers") if name in ALL_RESOURCES])
    return own


def _is_delegated(group: Path) -> bool:
    """Return whether systemd delegated a group; write permission does not show that."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return systemd.is_delegated_to_user(group)


def _enable_or_evacuate(group: Path, controllers: Iterable[str]) -> None:
    try:
        _enable(group, controllers)
    except OSError as error:
        # Not supported: somebody turned on those that tolerate processes in a group, as its only ones.
        if error.errno not in {errno.EBUSY, errno.EOPNOTSUPP}:
            raise
        leaf = group / _LEAF
        leaf.mkdir(exist_ok=True)
        for _ in range(20):  # more may start while we move them
            for pid in words(group / "cgroup.procs"):
                with suppress(ProcessLookupError):
                    write(leaf / "cgroup.procs", pid)
            if not words(group / "cgroup.procs"):
                break
        _enable(group, controllers)


def _enable(group: Path, controllers: Iterable[str]) -> None:
    missing = sorted(set(controllers) - set(words(group / "cgroup.subtree_control")))
    if missing:
        # All at once: cpu or pids alone would be allowed where there are processes, and then memory never.
        write(group / "cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
