"""The calls of the extension `session-options`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from attrs import evolve

from sandkasten import _checks
from sandkasten._answers import structure
from sandkasten._options import checks as check
from sandkasten._wire import Call, session_path
from sandkasten.models import Limits, Rows, SessionInfo


def session_options(
    env: Mapping[str, str] | None,
    cwd: str | PurePosixPath | None,
    limits: Limits | Mapping[str, Any] | None,
    labels: Mapping[str, str] | None,
    name: str | None,
) -> dict[str, Any]:
    """Return the fields of a new session that are given."""
    return check.given(
        env=(env, check.environment),
        cwd=(cwd, check.cwd),
        limits=(limits, check.limits),
        labels=(labels, check.labels),
        name=(name, check.name),
    )


def with_options(call: Call[SessionInfo], options: Mapping[str, Any]) -> Call[SessionInfo]:
    """Return the call that makes a session with these options."""
    return evolve(call, json={**(call.json or {}), **options})


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


def labelled(sessions: list[SessionInfo], labels: Mapping[str, str]) -> list[SessionInfo]:
    """Return the sessions that have all of these labels."""
    return Rows(info for info in sessions if labels.items() <= dict(info.labels or {}).items())
