"""The packages of a fake daemon's sessions: any that is asked for is there; pure."""

from __future__ import annotations

import re
from typing import Any

from sandkasten._options.packages import merged, name_of, problem_with_packages
from sandkasten.testing._store import RefusedError

_EXACTLY = re.compile(r"===?\s*([^,\s]+)")


def with_more(before: tuple[str, ...], asked: Any) -> tuple[str, ...]:
    """Return the requirements of a session that is given more.

    Raises:
        RefusedError: they are none.
    """
    problem = problem_with_packages(asked)
    if problem is not None:
        raise RefusedError(400, "INVALID_REQUEST", problem)
    return merged(before, tuple(asked))


def rows_of(requirements: tuple[str, ...]) -> list[dict[str, str]]:
    """Return names and versions; a version that nobody asked for is 1.0."""
    found = ((name_of(each), _EXACTLY.search(each)) for each in requirements)
    return [{"name": name, "version": version[1] if version else "1.0"} for name, version in found]
