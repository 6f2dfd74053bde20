"""The packages of a fake daemon's sessions: any that is asked for is there; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from sandkasten.testing._store import RefusedError

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_EXACTLY = re.compile(r"===?\s*([^,\s]+)")


def with_more(before: tuple[str, ...], asked: Any) -> tuple[str, ...]:
    """Return the requirements of a session that is given more; of two for one name the later one counts.

    Raises:
        RefusedError: they are not a list of requirements.
    """
    rows = cast("Sequence[str]", asked) if isinstance(asked, list) else ("",)
    if not all(_NAME.match(str(row)) for row in rows):
        raise RefusedError(400, "INVALID_REQUEST", "packages must be a list of requirements.")
    found = {_name_of(requirement): requirement for requirement in (*before, *rows)}
    return tuple(found[name] for name in sorted(found))


def rows_of(requirements: tuple[str, ...]) -> list[dict[str, str]]:
    """Return names and versions; a version that nobody asked for is 1.0."""
    found = ((_name_of(each), _EXACTLY.search(each)) for each in requirements)
    return [{"name": name, "version": version[1] if version else "1.0"} for name, version in found]


def _name_of(requirement: str) -> str:
    found = _NAME.match(requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[1]).lower()
