"""The calls of the extensions `session-options` and `exec-options`.

Most sessions and commands have none of these options. Then nothing is checked, and what checks them is not
even imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar

from attrs import evolve, frozen

from sandkasten import _checks
from sandkasten._answers import structure
from sandkasten._options.environments import PythonEnvironment
from sandkasten._protocol import MAX_COMMAND_BYTES, WORKSPACE
from sandkasten._wire import Call, session_path
from sandkasten.models import Limits, Rows, SessionInfo

T = TypeVar("T")


def session_options(
    env: Mapping[str, str] | None,
    cwd: str | PurePosixPath | None,
    limits: Limits | Mapping[str, Any] | None,
    labels: Mapping[str, str] | None,
    name: str | None,
) -> dict[str, Any]:
    """Return the fields of a new session that are given."""
    if all(option is None for option in (env, cwd, limits, labels, name)):
        return {}
    from sandkasten._options import checks as check  # noqa: PLC0415  (see above)

    return check.given(
        env=(env, check.environment),
        cwd=(cwd, check.cwd),
        limits=(limits, check.limits),
        labels=(labels, check.labels),
        name=(name, check.name),
    )


def image_name(image: str | PythonEnvironment) -> tuple[dict[str, Any], str]:
    """Return the fields that name an environment of Python, and the image beside it."""
    if isinstance(image, PythonEnvironment):
        return {"python_environment": image.path}, "base"
    return {}, image


def with_options(call: Call[SessionInfo], options: Mapping[str, Any]) -> Call[SessionInfo]:
    """Return the call that makes a session with these options."""
    return evolve(call, json={**(call.json or {}), **options})


@frozen(eq=False, repr=False)
class Extra:
    """The options of one command, checked; `path` is the file that holds its input or its text."""

    env: Mapping[str, str]
    cwd: str | None
    content: bytes | None
    path: str | None
    cmd: str

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a request to a daemon with the extension `exec-options`."""
        return ({"env": self.env} if self.env else {}) | ({} if self.cwd is None else {"cwd": self.cwd})


def extra(
    cmd: str,
    env: Mapping[str, str] | None,
    cwd: str | PurePosixPath | None,
    data: str | bytes | None,
) -> Extra:
    """Return the options of a command, and its text as it is sent.

    Input, and a command that is too long for a request, travel as files that are gone before it begins.
    """
    is_long = (
        isinstance(cmd, str) and len(cmd) > MAX_COMMAND_BYTES // 4 and len(cmd.encode()) > MAX_COMMAND_BYTES
    )
    if env is None and cwd is None and data is None and not is_long:
        return Extra({}, None, None, None, cmd)
    from sandkasten._options import checks as check  # noqa: PLC0415  (see above)
    from sandkasten._options.text import fed, loaded, stored  # noqa: PLC0415

    env, place = {} if env is None else check.environment(env), None if cwd is None else check.cwd(cwd)
    path = f"{WORKSPACE}/.__sk_{os.urandom(8).hex()}"
    if data is not None:
        return Extra(env, place, check.stdin(data), path, fed(_checks.command(cmd), path))
    if is_long:
        return Extra(env, place, stored(check.long_command(cmd)).encode(), path, loaded(path))
    return Extra(env, place, None, None, cmd)


def with_extra(call: Call[T], given: Extra, *, is_known: bool) -> Call[T]:
    """Return a command's call with its options, for a daemon that knows them or one that does not."""
    from sandkasten._options.text import lent  # noqa: PLC0415  (see above)

    fields = given.fields if is_known else {"cmd": lent(given.cmd, given.env)}
    return evolve(call, json={**(call.json or {}), **fields})


def renew_session(session_id: str, ttl_seconds: int | None) -> Call[SessionInfo]:
    """`POST /v1/sessions/{id}/renew`."""
    body = {} if ttl_seconds is None else {"ttl_seconds": _checks.ttl_seconds(ttl_seconds)}
    return Call(
        "POST",
        f"{session_path(session_id)}/renew",
        lambda answer: structure(answer, SessionInfo),
        json=body,
        idempotent=True,
    )


def labels_of(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return labels to look for.

    Raises:
        SandkastenInputError: no session can have these.
    """
    if labels is None:
        return {}
    from sandkasten._options import checks as check  # noqa: PLC0415  (see above)

    return check.labels(labels)


def labelled(sessions: list[SessionInfo], labels: Mapping[str, str]) -> list[SessionInfo]:
    """Return the sessions that have all of these labels."""
    return Rows(info for info in sessions if labels.items() <= dict(info.labels or {}).items())
