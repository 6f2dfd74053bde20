"""The resources that a session uses, in words and percentages; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandkasten.cli.output.text import size

if TYPE_CHECKING:
    from sandkasten.models import SessionStats


@dataclass(frozen=True)
class Reading:
    """The resources that a session used, and the time of reading, in seconds of any steady clock."""

    stats: SessionStats
    seconds: float


def cpu_percent(before: Reading | None, now: Reading) -> float | None:
    """Return the CPU time between two readings as a percentage; 100 is one whole CPU."""
    if before is None or now.seconds <= before.seconds:
        return None
    used_usec = now.stats.cpu_usage_usec - before.stats.cpu_usage_usec
    return max(0.0, used_usec / 1e4 / (now.seconds - before.seconds))


def fields(stats: SessionStats, cpu: float | None = None) -> Mapping[str, str]:
    """Return the names and values for people."""
    memory, limit = size(stats.memory_bytes), stats.memory_limit
    if limit is not None:
        memory += f" of {size(limit)} ({100 * stats.memory_bytes / limit:.1f}%)"
    percentage = "" if cpu is None else f" ({cpu:.1f}%)"
    return {"memory": memory, "cpu": f"{stats.cpu_usage_usec / 1e6:.2f} s{percentage}"}
