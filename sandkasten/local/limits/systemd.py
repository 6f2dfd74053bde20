"""The user's systemd: which of its control groups it leaves to us, and one of its own for a daemon.

Below `user@UID.service` all groups belong to the user, but each is managed by the user's systemd unless it
was delegated. The system's instance marks what it delegates with an attribute of the group; the user's
cannot, so it is asked.

A daemon whose group is managed moves to a scope that is delegated. That lives as long as the group it came
from would, and what bounds the slice bounds it still. A service stays where it is, since who wrote its unit
decides what bounds it; but desktops start programs as services, too (`app-NAME@ID.service`). And from
elsewhere, such as a login over ssh, nothing is moved: what runs below `user@UID.service` ends with the last
login.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import time
from pathlib import Path

from sandkasten.local.limits.cgroup_base import CgroupsError

_SECONDS = 3.0
_POLL_SECONDS = 0.002
_START = (
    "call",
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
    "StartTransientUnit",
    "ssa(sv)a(sa(sv))",
)
_UNLIMITED = str(2**64 - 1)
_DESKTOP_PROGRAM = re.compile(r"app-.+@.*\.service")


def is_managed_for_user(group: Path) -> bool:
    """Return whether a group is one of those of this user's systemd."""
    return f"user@{os.geteuid()}.service" in group.parent.parts


def is_delegated_to_user(group: Path) -> bool:
    """Return whether the user's systemd delegates a group to the processes in it."""
    if not is_managed_for_user(group):
        return False
    try:
        return _ask("systemctl", "show", "--property=Delegate", "--value", "--", group.name) == "yes"
    except CgroupsError:
        return False


def may_be_left(group: Path) -> bool:
    """Return whether a group is that of some program, and not of a service with a unit of its own."""
    return group.name.endswith(".scope") or _DESKTOP_PROGRAM.fullmatch(group.name) is not None


def move_to_own_scope(group: Path, own_group: Path) -> None:
    """Have the user's systemd make a scope for this process, and wait until it is there.

    Args:
        group: where the process is.
        own_group: the file of /proc that says so.

    Raises:
        CgroupsError: that was not to be had.
    """
    name = f"sandkasten-{os.getpid()}-{secrets.token_hex(4)}.scope"
    properties = _properties(os.getpid(), group.parent.name)
    count = str(len(properties))
    words = [word for each in properties for word in each]
    _ask("busctl", *_START, name, "fail", count, *words, "0")
    deadline = time.monotonic() + _SECONDS
    while not own_group.read_text("utf-8", "surrogateescape").rstrip("\n").endswith(f"/{name}"):
        if time.monotonic() > deadline:
            raise CgroupsError(f"systemd made no scope within {_SECONDS:.0f} seconds")
        time.sleep(_POLL_SECONDS)


def _properties(pid: int, slice_name: str) -> list[tuple[str, ...]]:
    return [
        ("PIDs", "au", "1", str(pid)),
        ("Delegate", "b", "true"),
        ("TasksMax", "t", _UNLIMITED),  # each sandbox has a limit of its own
        ("CollectMode", "s", "inactive-or-failed"),
        ("Description", "s", "Sandkasten daemon"),
        *([("Slice", "s", slice_name)] if slice_name.endswith(".slice") else []),
    ]


def _ask(program: str, *words: str) -> str:
    """Run one of systemd's programs, whatever the environment says of where the user's instance is.

    Raises:
        CgroupsError: it failed; the text is what it said.
    """
    runtime_dir = f"/run/user/{os.geteuid()}"
    environ = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "XDG_RUNTIME_DIR": runtime_dir}
    try:
        done = subprocess.run(
            [program, "--user", *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CgroupsError(f"{program} does not run ({error})") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CgroupsError(f"{program} failed ({said[:200]})")
    return done.stdout.decode(errors="replace").strip()
