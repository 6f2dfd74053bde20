"""The doctor's decision on processes beside a session's shell: whether the trial could start one."""

from __future__ import annotations

from sandkasten.local.doctor.finding import Finding, State
from sandkasten.local.doctor.readings import Readings

_ALLOW = "sudo sysctl -w vm.memfd_noexec=1 kernel.apparmor_restrict_unprivileged_userns=0"


def spawning(readings: Readings) -> Finding:
    """Return the finding about processes beside the shell."""
    name, trial = "processes", readings.trial
    if not trial.works:
        return Finding(name, State.OK, "No sandbox was built, so nothing was started in one.")
    if not trial.cannot_spawn:
        return Finding(name, State.OK, "Sessions start processes beside their shell.")
    fix = f"Commands of the shell work. Allow programs from memory, and user namespaces:\n{_ALLOW}"
    return Finding(name, State.DEGRADED, trial.cannot_spawn, fix)
