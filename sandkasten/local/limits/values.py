"""The limits of a session as people write them: names, types and checks; pure, and the client imports it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypedDict

KIB, MIB = 1024, 1024**2

_UNLIMITED = "unlimited"
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": KIB, "m": MIB, "g": 1024**3, "t": 1024**4}

# The lowest value of each. Below that a sandbox cannot even start, and errors would tell of something else.
_LOWEST: Mapping[str, float] = {
    "memory_bytes": 16 * MIB,
    "processes": 8,
    "cpus": 0.01,  # the kernel's own lowest: 1 ms of 100
    "file_bytes": 64 * KIB,
    "tmp_bytes": 64 * KIB,
    "workspace_bytes": 1,
    "output_bytes": 1,
}


class SessionLimits(TypedDict, total=False):
    """The limits of one session. Sizes are bytes, or texts such as "512m" and "1g" (powers of 1024).

    Attributes:
        memory_bytes: memory of all its processes, with what they keep in /tmp.
        processes: processes and threads at one time.
        cpus: CPU seconds per second.
        file_bytes: the largest file it can write.
        tmp_bytes: what each of its file systems in memory holds (/tmp, the home directory, /dev/shm).
        workspace_bytes: what its workspace may take on the disk.
        output_bytes: a command's output that is kept.
    """

    memory_bytes: int | str
    processes: int | str
    cpus: float | str
    file_bytes: int | str
    tmp_bytes: int | str
    workspace_bytes: int | str
    output_bytes: int | str


class LimitsError(ValueError):
    """A limit that makes no sense; the text names it."""


def read_limits(settings: Mapping[str, Any]) -> dict[str, int | float | None]:
    """Return limits as numbers, None for no limit.

    Raises:
        LimitsError: which key, and what is wrong.
    """
    for key in settings:
        if key not in _LOWEST:
            raise LimitsError(f"There is no limit {key!r}. There are: {', '.join(sorted(_LOWEST))}.")
    values = {key: _read(key, value) for key, value in settings.items()}
    for key, value in values.items():
        check_limit(key, value)
    return values


def check_limit(name: str, value: Any) -> None:
    """Refuse a value that cannot be meant.

    Raises:
        LimitsError: why.
    """
    if value is None:
        if name == "output_bytes":
            raise LimitsError("output_bytes needs a number: the output is kept in the daemon's memory.")
        return
    number_types = (int, float) if name == "cpus" else (int,)
    if isinstance(value, bool) or not isinstance(value, number_types):
        raise LimitsError(f'{name} must be {_kind(name)} or "{_UNLIMITED}", not {value!r}.')
    lowest = _LOWEST[name]
    if not lowest <= value < 2**63:  # false for NaN, too
        raise LimitsError(f"{name} must be from {lowest} to {2**63 - 1}, not {value!r}.")


def _read(name: str, value: Any) -> Any:
    if value == _UNLIMITED:
        return None
    size_bytes = parse_size(value) if isinstance(value, str) and name.endswith("_bytes") else None
    return value if size_bytes is None else size_bytes


def parse_size(text: str) -> int | None:
    """Return a size in bytes that is written as "1g" is; None: it is not."""
    size = _SIZE.fullmatch(text.strip())
    return None if size is None else int(float(size[1]) * _UNITS[size[2].lower()])


def _kind(name: str) -> str:
    if name == "cpus":
        return "a number"
    return (
        'a whole number of bytes, a size such as "512m" or "1g"'
        if name.endswith("_bytes")
        else "a whole number"
    )
