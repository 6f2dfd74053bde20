"""The doctor's readings: everything that is read from this machine, without any judgement."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from sandkasten._directories import Trouble, find_trouble
from sandkasten.local.errors import IsolationError
from sandkasten.local.files.directories import data_trouble
from sandkasten.local.files.rundir import run_dir
from sandkasten.local.identity import Identity, has_user, missing_capabilities
from sandkasten.local.images.built_in import find_images
from sandkasten.local.isolation import bwrap_binary, causes, mounttable, seccomp
from sandkasten.local.isolation.policy import Launcher
from sandkasten.local.limits.cgroups import find_cgroups
from sandkasten.local.limits.limits import Resource
from sandkasten.local.linux.syscalls import check_openat2
from sandkasten.local.options import Options, find_data_dir
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.preparing import prepare

_NEEDED = ("httptools", "multipart", "uvicorn")
_CONTAINERS = {"docker": "/.dockerenv", "podman": "/run/.containerenv"}
# systemd mounts it when it is first used; it hides nothing.
_HARMLESS = "/proc/sys/fs/binfmt_misc"


@dataclass(frozen=True)
class Bubblewrap:
    """The bubblewrap that would be used.

    Attributes:
        path: its path.
        is_system: whether it is the distribution's, not the wheel's.
        version: such as "0.11.0"; empty if it does not say.
        lacks: needed options that it does not know.
        has_overlay: whether it can mount overlays.
    """

    path: str
    is_system: bool
    version: str
    lacks: tuple[str, ...] = ()
    has_overlay: bool = True


@dataclass(frozen=True)
class Refusal:
    """The reason why this machine cannot do something.

    Attributes:
        says: the reason, as a sentence.
        fix: how to fix it.
    """

    says: str
    fix: str


@dataclass(frozen=True)
class Trial:
    """The trial of a sandbox.

    Attributes:
        obstacle: the reason why no sandbox could be tried.
        complaint: bubblewrap's message; None, without an obstacle, means that a sandbox was built.
        launcher: what started bubblewrap; None: it was not built.
        cannot_spawn: the reason why no process could be started beside its shell; empty if one could.
    """

    obstacle: str | None = None
    complaint: str | None = None
    launcher: Launcher | None = None
    cannot_spawn: str = ""

    @property
    def works(self) -> bool:
        """True if a sandbox was built."""
        return self.obstacle is None and self.complaint is None


@dataclass(frozen=True)
class Groups:
    """The control groups of this machine.

    Attributes:
        bounded: resources that they bound.
        described: the kind in use, and the reason why it is not a better one.
        offers_v2: whether version 2 has the controllers, for whoever they are delegated to.
        has_systemd: whether systemd runs the machine.
    """

    bounded: frozenset[Resource]
    described: str
    offers_v2: bool
    has_systemd: bool


@dataclass(frozen=True)
class Readings:
    """A machine and the user who runs the doctor.

    Attributes:
        kernel: the kernel's release.
        machine: the processor, as `platform.machine` names it.
        uid: the user who runs the doctor.
        sandbox_uid: the user of sandboxed code.
        missing_capabilities: rights that root needs and does not have.
        is_mapped: whether there is such a user in the user namespace that this is.
        missing_packages: Python packages that the daemon needs.
        max_user_namespaces: the limit of their number; None: the kernel has none of them.
        unprivileged_userns: Debian's switch; None: there is no such switch.
        apparmor_restricts: Ubuntu's switch.
        apparmor_allows: whether a profile is about the bubblewrap that is found.
        container: the kind of container that this is, or None.
        masked: what is mounted over parts of /proc.
        bwrap: bubblewrap, or why there is none.
        trial: what came of a sandbox.
        openat2: why the kernel cannot resolve paths safely, or None.
        seccomp: why system calls cannot be filtered, or None.
        takes_part: whether what is mounted elsewhere is mounted here, too.
        has_unshare: whether there are the programs that prepare the mounts of a sandbox.
        groups: control groups.
        images: the images that there are.
        has_bash: whether there is /bin/bash.
        temporary: where sockets and the like go; None: nowhere.
        temporary_trouble: how others can change what is in the one that is named; None: they cannot.
        data_dir: where workspaces are kept.
        data_trouble: how others can change what is in it; None: they cannot.
        free_bytes: room there.
        is_data_usable: whether that can be made and written, and sandboxes can reach it.
        open_files: how many this process may have open.
    """

    kernel: str
    machine: str
    uid: int
    sandbox_uid: int
    missing_capabilities: tuple[str, ...]
    is_mapped: bool
    missing_packages: tuple[str, ...]
    max_user_namespaces: int | None
    unprivileged_userns: bool | None
    apparmor_restricts: bool
    apparmor_allows: bool
    container: str | None
    masked: tuple[str, ...]
    bwrap: Bubblewrap | str
    trial: Trial
    openat2: Refusal | None
    seccomp: Refusal | None
    takes_part: bool
    has_unshare: bool
    groups: Groups
    images: frozenset[str]
    has_bash: bool
    temporary: str | None
    temporary_trouble: Trouble | None
    data_dir: str
    data_trouble: Trouble | None
    free_bytes: int
    is_data_usable: bool
    open_files: int


def read_machine() -> Readings:
    """Look at everything; what is made for that is removed again."""
    identity = Identity.of_this_process()
    groups = _groups()
    with ExitStack() as temporary:
        directory: Path | None = None
        with suppress(IsolationError):
            directory = temporary.enter_context(run_dir(identity))
        bwrap = _bwrap(identity, directory)
        path = bwrap.path if isinstance(bwrap, Bubblewrap) else ""
        data_dir = find_data_dir(None, identity)
        return Readings(
            kernel=platform.release(),
            machine=platform.machine(),
            uid=os.geteuid(),
            sandbox_uid=identity.uid,
            missing_capabilities=missing_capabilities(identity),
            is_mapped=has_user(identity.uid),
            missing_packages=tuple(name for name in _NEEDED if importlib.util.find_spec(name) is None),
            max_user_namespaces=_switch("user/max_user_namespaces"),
            unprivileged_userns=_as_bool(_switch("kernel/unprivileged_userns_clone")),
            apparmor_restricts=_switch("kernel/apparmor_restrict_unprivileged_userns") == 1,
            apparmor_allows=bool(path) and has_profile(_profiles(), path),
            container=_container(),
            masked=masked(_text("/proc/self/mountinfo")),
            bwrap=bwrap,
            trial=_try_a_sandbox(directory, identity, bwrap),
            openat2=_refused(lambda: check_openat2(Path("/"))),
            seccomp=_refused(lambda: _check_seccomp(platform.machine())),
            takes_part=mounttable.takes_part(_text("/proc/self/mountinfo")),
            has_unshare=mounttable.has_programs(),
            groups=groups,
            images=frozenset(find_images()),
            has_bash=os.access("/bin/bash", os.X_OK),
            temporary=None if directory is None else str(directory.parent),
            temporary_trouble=_trouble(Path(tempfile.gettempdir())),
            data_dir=str(data_dir),
            data_trouble=data_trouble(data_dir),
            free_bytes=shutil.disk_usage(_nearest(data_dir)).free,
            is_data_usable=_is_usable(_nearest(data_dir), identity),
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        )


def masked(mountinfo: str) -> tuple[str, ...]:
    """Return the mount points over parts of /proc."""
    points = (line.split()[4] for line in mountinfo.splitlines())
    return tuple(point for point in points if point.startswith("/proc/") and point != _HARMLESS)


def has_profile(profiles: Iterable[str], program: str) -> bool:
    """Return whether one of AppArmor's profiles is about a program, by its path."""
    lines = (line.split("#")[0].split() for text in profiles for line in text.splitlines())
    return any(program in words and "{" in words for words in lines)


def _bwrap(identity: Identity, directory: Path | None) -> Bubblewrap | str:
    with tempfile.TemporaryDirectory() as spare:
        try:
            path = bwrap_binary.find_bwrap(identity, directory or Path(spare))
        except IsolationError as error:
            return error.what
        except OSError as error:
            return str(error)
        is_system = path.startswith(("/usr/", "/bin/"))
        text = bwrap_binary.bwrap_help(path)
        version = bwrap_binary.bwrap_version(path)
        return Bubblewrap(path, is_system, version, tuple(bwrap_binary.lacks(text)), "--overlay-src" in text)


def _try_a_sandbox(directory: Path | None, identity: Identity, bwrap: Bubblewrap | str) -> Trial:
    """Do what a daemon does when it starts."""
    if directory is None or isinstance(bwrap, str):
        return Trial("there is no bubblewrap" if isinstance(bwrap, str) else "there is nowhere to build it")
    try:
        settings = prepare(directory, identity, Options())
    except IsolationError as error:
        return Trial(complaint=error.complaint) if error.complaint else Trial(str(error))
    except OSError as error:
        return Trial(str(error))
    settings.cgroups.close()
    return Trial(launcher=settings.isolation.launcher, cannot_spawn=settings.isolation.cannot_spawn)


def _check_seccomp(machine: str) -> None:
    seccomp.program(machine)
    known = _text("/proc/sys/kernel/seccomp/actions_avail").split()
    if not {"errno", "kill_process"} <= set(known):
        raise IsolationError(causes.NO_SECCOMP.says, causes.NO_SECCOMP.fix)


def _groups() -> Groups:
    cgroups = find_cgroups()
    try:
        return Groups(
            bounded=cgroups.bounded,
            described=cgroups.describe(),
            offers_v2="memory" in _text("/sys/fs/cgroup/cgroup.controllers").split(),
            has_systemd=os.path.isdir("/run/systemd/system"),
        )
    finally:
        cgroups.close()


def _container() -> str | None:
    found = (name for name, path in _CONTAINERS.items() if os.path.exists(path))
    return next(found, "kubernetes" if "KUBERNETES_SERVICE_HOST" in os.environ else None)


def _nearest(path: Path) -> Path:
    """The directory itself, or the one that it would be made in."""
    return next(above for above in (path, *path.parents) if os.path.isdir(above))


def _is_usable(directory: Path, identity: Identity) -> bool:
    is_open = all(map(identity.can_pass, (directory, *directory.parents)))
    return os.access(directory, os.W_OK | os.X_OK) and is_open


def _trouble(directory: Path) -> Trouble | None:
    with suppress(OSError):
        return find_trouble(directory)
    return None


def _profiles() -> list[str]:
    with suppress(OSError):
        return [_text(str(path)) for path in Path("/etc/apparmor.d").iterdir() if path.is_file()]
    return []


def _refused(check: Callable[[], None]) -> Refusal | None:
    try:
        check()
    except IsolationError as error:
        return Refusal(error.what, error.hint)
    return None


def _switch(name: str) -> int | None:
    text = _text(f"/proc/sys/{name}").strip()
    return int(text) if text else None


def _as_bool(value: int | None) -> bool | None:
    return None if value is None else value != 0


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""


def is_linux() -> bool:
    """Return whether there is anything to read at all."""
    return sys.platform == "linux"
