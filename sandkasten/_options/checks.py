"""Checks of options before anything is sent: each returns its value or raises `SandkastenInputError`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from attrs import asdict

from sandkasten import _checks
from sandkasten._options import rules
from sandkasten.errors import SandkastenInputError
from sandkasten.local.limits.values import LimitsError, read_limits
from sandkasten.models import Limits


def environment(value: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables, within bounds for their number and size."""
    _refuse(rules.problem_with_environment(value))
    return dict(value)


def labels(value: Mapping[str, str]) -> dict[str, str]:
    """Return labels: short names, and values of one line."""
    _refuse(rules.problem_with_labels(value))
    return dict(value)


def name(value: str) -> str:
    """Return a name for a session, which could not be an id."""
    _refuse(rules.problem_with_name(value))
    return value


def cwd(value: str | PurePosixPath) -> str:
    """Return a directory in the sandbox, absolute or relative."""
    text = str(value) if isinstance(value, PurePosixPath) else value
    _refuse(rules.problem_with_directory(text))
    return text


def limits(value: Limits | Mapping[str, Any]) -> dict[str, int | float]:
    """Return the limits that are given, as numbers."""
    if isinstance(value, Limits):
        given = {key: limit for key, limit in asdict(value).items() if limit is not None}
    elif isinstance(value, Mapping):
        given = dict(value)
    else:
        raise SandkastenInputError(
            f"limits is of type {type(value).__name__}.", "Pass Limits, as Limits(memory_bytes='1g')."
        )
    try:
        read = read_limits(given)
    except LimitsError as error:
        raise SandkastenInputError(str(error)) from None
    known = {key: limit for key, limit in read.items() if limit is not None}
    if len(known) < len(read):
        raise SandkastenInputError("A session cannot lift a limit of its daemon.", "Pass a number.")
    return known


def stdin(value: str | bytes) -> bytes:
    """Return the bytes of a command's input; text is UTF-8."""
    content = _checks.content(value, "input")
    return content.encode() if isinstance(content, str) else content


def long_command(value: str) -> str:
    """Return a command that is too long for a request, but not for a shell."""
    _refuse(rules.problem_with_long_command(value))
    return value


def given(**options: tuple[Any, Callable[[Any], Any]]) -> dict[str, Any]:
    """Return the fields of a body: of each option with its check, the value if there is one."""
    made = {key: check(value) for key, (value, check) in options.items() if value is not None}
    return {key: value for key, value in made.items() if value != {}}


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise SandkastenInputError(problem)
