"""The doctor's decision on mounts: whether those of the host come along, and what bounds names in memory."""

from __future__ import annotations

from sandkasten.local.doctor.finding import Finding, State
from sandkasten.local.doctor.readings import Readings

_COMMAND = "python app.py"  # stands for the reader's own
_INSTALL = (
    "Install unshare and mount, which prepare the mounts of a sandbox:\nsudo apt-get install util-linux mount"
)
_COUNT = "Let control groups bound memory, which count them: see above."


def mounts(readings: Readings) -> Finding:
    """Return the finding about the table of mounts that sandboxes start from."""
    name, launcher = "mounts", readings.trial.launcher
    if launcher is None:
        return Finding(name, State.OK, "No sandbox was built, so nothing was mounted.")
    comes_along = readings.takes_part and not launcher.words
    is_bounded = "memory" in readings.groups.bounded or bool(launcher.memory)
    if comes_along:
        says = "What is mounted below /usr while a session runs appears in it, with its own options."
        return Finding(name, State.DEGRADED, says, _private(readings) if readings.has_unshare else _INSTALL)
    if not is_bounded:
        says = "Empty files and names in /tmp are not bounded: an eighth of the machine's memory holds them."
        return Finding(name, State.DEGRADED, says, _COUNT if readings.has_unshare else _INSTALL)
    says = "What the host mounts later does not come along into sandboxes."
    return Finding(name, State.OK, says)


def _private(readings: Readings) -> str:
    start = "unshare --mount --propagation private"
    command = f"{start} {_COMMAND}" if readings.uid == 0 else f'sudo {start} sudo -u "$USER" {_COMMAND}'
    return f"Start the daemon where mounts are private:\n{command}"
