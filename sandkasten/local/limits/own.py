"""The limits that a session asks for itself, within those of the daemon and of this machine; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from sandkasten.local.limits.limits import Limits, Resource, counts_processes_per_sandbox
from sandkasten.local.limits.values import LimitsError, read_limits


def own_limits(
    asked: Mapping[str, Any],
    most: Limits,
    bounded: Collection[Resource],
    kernel: tuple[int, int],
    groups: str,
) -> Limits:
    """Return the limits of a session that asks for these.

    Args:
        asked: the limits by their names; what is not asked for is as the daemon has it.
        most: the daemon's.
        bounded: the resources that control groups bound.
        kernel: its version.
        groups: what is known of control groups here.

    Raises:
        LimitsError: one that makes no sense, is more than the daemon's, or cannot be bounded here.
    """
    values: dict[str, Any] = read_limits(asked)
    for name, value in values.items():
        _check_most(name, value, getattr(most, name))
        reason = None if value is None else _unbounded(name, bounded, kernel)
        if reason is not None:
            raise LimitsError(f"{name} cannot be bounded on this machine: {reason}; {groups}.")
    if values.get("memory_bytes") and most.tmp_bytes is not None and "tmp_bytes" not in values:
        # Files in memory count as memory: with all of them full, programs need some, too.
        values["tmp_bytes"] = min(most.tmp_bytes, values["memory_bytes"] // 4)
    return replace(most, **values)


def as_numbers(limits: Limits, bounded: Collection[Resource], kernel: tuple[int, int]) -> dict[str, Any]:
    """Return the limits that this machine keeps, as the wire has them; null is no limit."""
    names = [field.name for field in fields(limits)]
    return {name: None if _unbounded(name, bounded, kernel) else getattr(limits, name) for name in names}


def _check_most(name: str, value: float | None, most: float | None) -> None:
    if most is not None and (value is None or value > most):
        told = "unlimited" if value is None else value
        raise LimitsError(f"{name} is {told}: this daemon's sessions may have at most {most}. Ask for less.")


def _unbounded(name: str, bounded: Collection[Resource], kernel: tuple[int, int]) -> str | None:
    """Return why a limit would bound nothing here. Memory is then bounded for each process by itself."""
    if name == "cpus" and "cpu" not in bounded:
        return "no control group has the controller 'cpu'"
    if name == "processes" and "pids" not in bounded and not counts_processes_per_sandbox(kernel):
        return "no control group has the controller 'pids', and before Linux 5.14 rlimits count the user's"
    return None
