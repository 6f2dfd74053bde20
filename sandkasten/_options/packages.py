"""The rules for requirements of packages: names with versions, and nothing else; pure.

Client and daemon both ask here. A requirement that names a place (a URL, a path, an option of an installer)
would let a client choose what the daemon reads, so there is no way to write one.
"""

from __future__ import annotations

import re
from typing import Any, cast

MAX_PACKAGES = 100
MAX_REQUIREMENT_CHARS = 300

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
_VERSION = r"(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+"
_REQUIREMENT = re.compile(
    rf"\s*({_NAME})\s*(\[\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\])?\s*((?:{_VERSION})(?:\s*,\s*{_VERSION})*)?\s*",
    re.ASCII,
)


def problem_with_packages(value: Any) -> str | None:
    """Return what is wrong with a list of requirements, as one sentence, or None."""
    if not isinstance(value, list | tuple):
        return "packages must be a list of requirements, such as ['pandas', 'matplotlib>=3.9']."
    rows = cast("list[Any]", value)
    if len(rows) > MAX_PACKAGES:
        return f"packages has {len(rows)} requirements: it may have at most {MAX_PACKAGES}."
    for row in rows:
        if not isinstance(row, str) or len(row) > MAX_REQUIREMENT_CHARS or not _REQUIREMENT.fullmatch(row):
            shown = repr(row)
            shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
            return (
                f"packages has {shown}: it must be a name, with versions if you like, such as 'pandas' or "
                "'matplotlib>=3.9,<4'. URLs, paths and options are not taken."
            )
    return None


def name_of(requirement: str) -> str:
    """Return the name in a requirement that was checked, as indexes compare names."""
    found = _REQUIREMENT.fullmatch(requirement)
    return canonical(found[1] if found else requirement)


def canonical(name: str) -> str:
    """Return a name as indexes compare it: `My_Package` and `my.package` are the same."""
    return re.sub(r"[-_.]+", "-", name).lower()


def merged(before: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    """Return requirements in one order and spelling; of two for one name and extras the later one counts."""
    found: dict[str, str] = {}
    for requirement in (*before, *added):
        match = _REQUIREMENT.fullmatch(requirement)
        assert match is not None
        extras = sorted(map(canonical, re.findall(_NAME, match[2] or "")))
        name = canonical(match[1]) + (f"[{','.join(extras)}]" if extras else "")
        found[name] = name + ",".join(sorted(re.sub(r"\s", "", match[3] or "").split(",")))
    return tuple(found[name] for name in sorted(found))
