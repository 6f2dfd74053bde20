"""The calls of the extension `packages`, and how their answers are read; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from sandkasten._answers import as_object, field_of, structure
from sandkasten._options.packages import problem_with_packages
from sandkasten._wire import Call, session_path
from sandkasten.errors import SandkastenInputError
from sandkasten.models import Rows, SessionInfo

# A set that is fetched for the first time; the daemon gives up before that.
_FETCH_MS = 600_000


@frozen
class PackageInfo:
    """A package that a session was given.

    Attributes:
        name: its name.
        version: its version.
    """

    name: str
    version: str


def checked(requirements: Sequence[str]) -> list[str]:
    """Return requirements as a list.

    Raises:
        SandkastenInputError: one is not a name with versions.
    """
    problem = problem_with_packages(requirements)
    if problem is not None:
        raise SandkastenInputError(problem)
    return list(requirements)


def with_packages(call: Call[SessionInfo], requirements: Sequence[str]) -> Call[SessionInfo]:
    """Return the call that makes a session with these packages."""
    body = {**(call.json or {}), "packages": checked(requirements)}
    return evolve(call, json=body, wait_ms=_FETCH_MS, in_line=True)


def install(session_id: str, requirements: Sequence[str]) -> Call[list[PackageInfo]]:
    """`POST .../packages`; it answers with all packages that the session then has."""
    body = {"packages": checked(requirements)}
    path = f"{session_path(session_id)}/packages"
    return Call("POST", path, _rows, json=body, wait_ms=_FETCH_MS, idempotent=True, in_line=True)


def listed(session_id: str) -> Call[list[PackageInfo]]:
    """`GET .../packages`."""
    return Call("GET", f"{session_path(session_id)}/packages", _rows, idempotent=True)


def _rows(answer: Any) -> list[PackageInfo]:
    return Rows(structure(field_of(as_object(answer), "packages"), list[PackageInfo]))
