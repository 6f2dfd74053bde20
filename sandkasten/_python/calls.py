"""The calls of the extension `python`, and how their answers are read; pure."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import evolve, field, frozen

from sandkasten import _checks as check
from sandkasten import _wire
from sandkasten._answers import as_object, field_of, structure
from sandkasten._protocol import MAX_COMMAND_BYTES, MAX_TIMEOUT_MS, PYTHON_CONTEXT
from sandkasten._python.values import (
    PythonContextInfo,
    PythonFault,
    PythonResult,
    PythonVariable,
    RichResult,
)
from sandkasten._wire import Call
from sandkasten.errors import SandkastenInputError, SandkastenResponseError
from sandkasten.models import Rows

T = TypeVar("T")

# Time to stop what runs, and for an interpreter to be started, beyond the client's own timeout.
_END_MS = 10_000


def run(session_id: str, code: str, context: str, timeout_ms: int, keep_bytes: int) -> Call[PythonResult]:
    """`POST .../python`: run code and wait for its end."""
    return _run(session_id, code, context, timeout_ms, keep_bytes, parse=result_of)


def stream(session_id: str, code: str, context: str, timeout_ms: int) -> Call[None]:
    """`POST .../python`: the same, as a stream of events."""
    return _run(session_id, code, context, timeout_ms, 0, parse=_nothing)


def _run(
    session_id: str, code: str, context: str, timeout_ms: int, keep_bytes: int, *, parse: Callable[[Any], T]
) -> Call[T]:
    timeout_ms = check.timeout_ms(timeout_ms)
    key, session = os.urandom(16).hex(), _wire.session_path(session_id)
    body: dict[str, Any] = {
        "code": checked_code(code),
        "context": context,
        "timeout_ms": timeout_ms,
        "keep_bytes": check.keep_bytes(keep_bytes),
    }
    return Call(
        "POST",
        f"{session}/python",
        parse,
        json=body,
        wait_ms=(timeout_ms or MAX_TIMEOUT_MS) + _END_MS,
        in_line=True,
        key=key,
        cancel_path=f"{session}/executions/{key}",
    )


def from_position(call: Call[None], position: int) -> Call[None]:
    """Return a stream's call as it goes on at a position."""
    resumed = _wire.resumed(call, str(position) if position else None)
    return evolve(resumed, headers={**(resumed.headers or {}), "Accept": "text/event-stream"})


def contexts(session_id: str) -> Call[list[PythonContextInfo]]:
    """`GET .../python`."""
    return Call("GET", f"{_wire.session_path(session_id)}/python", _contexts, idempotent=True)


def path_of(session_id: str, name: str) -> str:
    """Return the path of a context."""
    return f"{_wire.session_path(session_id)}/python/{name}"


def variables(path: str) -> Call[list[PythonVariable]]:
    """`GET .../variables`."""
    return Call("GET", f"{path}/variables", _variables, idempotent=True, wait_ms=_END_MS)


def interrupt(path: str) -> Call[bool]:
    """`POST .../interrupt`: whether any code ran."""
    return Call("POST", f"{path}/interrupt", _interrupted)


def restart(path: str) -> Call[None]:
    """`POST .../restart`."""
    return Call("POST", f"{path}/restart", _nothing, idempotent=True, wait_ms=_END_MS)


def close(path: str) -> Call[None]:
    """`DELETE .../python/{name}`."""
    return Call("DELETE", path, _nothing, idempotent=True, wait_ms=_END_MS)


# --- arguments


def checked_code(code: str) -> str:
    """Return code that a daemon accepts.

    Raises:
        SandkastenInputError: it is no text, or too long.
    """
    if not isinstance(code, str):
        raise SandkastenInputError(f"code is {check.shown(code)}: it must be a str.")
    text = check.unicode_text(code, "code", nul=True)
    if len(text.encode()) > MAX_COMMAND_BYTES:
        raise SandkastenInputError(
            f"code has more than {MAX_COMMAND_BYTES} bytes.", "write() it to a file, and import that."
        )
    return text


def checked_context(name: str) -> str:
    """Return the name of a context.

    Raises:
        SandkastenInputError: it cannot be one.
    """
    if not isinstance(name, str) or not PYTHON_CONTEXT.fullmatch(name):
        raise SandkastenInputError(
            f"context is {check.shown(name)}: it must have 1 to 64 letters, digits, dots, dashes and _."
        )
    return name


# --- answers


def result_of(answer: Any) -> PythonResult:
    """Read how code ended; without outputs where the answer has none."""
    row = structure(answer, _Result)
    fault = None if row.error is None else structure(row.error, PythonFault)
    return PythonResult(
        stdout=row.stdout,
        stderr=row.stderr,
        results=tuple(rich_of(each) for each in row.results),
        error=fault,
        end=row.end,
        duration_ms=row.duration_ms,
        truncated=row.truncated,
        restarted=row.restarted,
        context_lost=row.context_lost,
        execution_count=row.execution_count,
    )


def rich_of(answer: Any, *, is_value: bool | None = None) -> RichResult:
    """Read a display, or a value."""
    row = structure(answer, _Rich)
    return RichResult(row.data, row.is_value if is_value is None else is_value, row.metadata)


def _contexts(answer: Any) -> list[PythonContextInfo]:
    return _rows(answer, "contexts", PythonContextInfo)


def _variables(answer: Any) -> list[PythonVariable]:
    return _rows(answer, "variables", PythonVariable)


def _rows(answer: Any, name: str, kind: Any) -> list[Any]:
    rows: Any = field_of(as_object(answer), name)
    if not isinstance(rows, list):
        raise SandkastenResponseError(f"The daemon's answer cannot be read: field {name!r} is not a list.")
    return Rows(structure(row, kind) for row in rows)  # pyright: ignore[reportUnknownVariableType]


def _interrupted(answer: Any) -> bool:
    return structure(answer, _Interrupted).interrupted


def _nothing(_answer: Any) -> None:
    return None


@frozen(eq=False, repr=False)
class _Result:
    end: str
    stdout: str = ""
    stderr: str = ""
    results: tuple[dict[str, Any], ...] = ()
    error: dict[str, Any] | None = None
    duration_ms: int = 0
    truncated: bool = False
    restarted: bool = False
    context_lost: bool = False
    execution_count: int = 0


@frozen(eq=False, repr=False)
class _Rich:
    data: dict[str, str]
    metadata: dict[str, Any] = field(factory=dict[str, Any])
    is_value: bool = False


@frozen(eq=False, repr=False)
class _Interrupted:
    interrupted: bool
