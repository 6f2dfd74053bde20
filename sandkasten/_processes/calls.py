"""The calls of the extension `processes`, and how their answers are read; pure."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from attrs import evolve, frozen

from sandkasten import _wire
from sandkasten._answers import as_object, field_of, structure
from sandkasten._processes.arguments import Program
from sandkasten._protocol import MAX_KEEP_ALIVE_MS, MAX_TIMEOUT_MS
from sandkasten._wire import Call
from sandkasten.errors import SandkastenResponseError
from sandkasten.models import ProcessInfo, ProcessResult, Rows

# What a request has as JSON; of more than that, it has parts.
SMALL_INPUT_BYTES = 256 * 1024
# For how long one request waits for the end of a process; another one follows.
ROUND_MS = 60_000
# How much of an input goes in one request, and how long that may remain unread on a daemon that does not say
# meanwhile that it lives.
INPUT_PIECE_BYTES = 64 * 1024
_INPUT_MS = 24 * 3_600_000
# Time to stop everything, beyond the client's own timeout.
_END_MS = 5_000
_PIECE_BYTES = 256 * 1024


def run(
    session_id: str, program: Program, timeout_ms: int, stdin: bytes, keep_bytes: int
) -> Call[ProcessResult]:
    """`POST .../processes/run`: start a program, give it its input, and wait for its end."""
    fields: dict[str, Any] = {**program.fields, "timeout_ms": timeout_ms, "keep_bytes": keep_bytes}
    session, key = _wire.session_path(session_id), os.urandom(16).hex()
    call = Call(
        "POST",
        f"{session}/processes/run",
        result_of,
        wait_ms=(timeout_ms or MAX_TIMEOUT_MS) + _END_MS,
        in_line=True,
        key=key,
        cancel_path=f"{session}/executions/{key}",
    )
    if len(stdin) <= SMALL_INPUT_BYTES:
        encoded = {"input": base64.b64encode(stdin).decode()} if stdin else {}
        return evolve(call, json=fields | encoded)
    return _in_parts(call, fields, stdin)


def _in_parts(call: Call[ProcessResult], fields: Mapping[str, Any], stdin: bytes) -> Call[ProcessResult]:
    boundary = os.urandom(16).hex()
    disposition = "Content-Disposition: form-data; name="
    head = (
        f'--{boundary}\r\n{disposition}"request"\r\n\r\n{json.dumps(fields)}\r\n'
        f'--{boundary}\r\n{disposition}"input"; filename="input"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(head) + len(stdin) + len(tail)),
    }
    return evolve(call, content=partial(_body, head, stdin, tail), headers=headers, is_transfer=True)


def _body(head: bytes, stdin: bytes, tail: bytes) -> Iterator[bytes]:
    yield head
    for start in range(0, len(stdin), _PIECE_BYTES):
        yield stdin[start : start + _PIECE_BYTES]
    yield tail


def start(
    session_id: str,
    program: Program,
    *,
    stdin: bool,
    terminal: tuple[int, int] | None,
    timeout_ms: int | None,
) -> Call[ProcessInfo]:
    """`POST .../processes`; the process's id is the client's choice, so that it starts only once."""
    process_id = os.urandom(16).hex()
    body: dict[str, Any] = {"id": process_id, **program.fields, "stdin": stdin, "timeout_ms": timeout_ms}
    if terminal is not None:
        body["terminal"] = _size(terminal)
    path = f"{_wire.session_path(session_id)}/processes"
    return Call(
        "POST",
        path,
        info_of,
        json=body,
        idempotent=True,
        cancel_path=f"{path}/{process_id}?force=true",  # somebody who is interrupted now has no handle of it
    )


def listed(session_id: str) -> Call[list[ProcessInfo]]:
    """`GET .../processes`."""
    return _get(f"{_wire.session_path(session_id)}/processes", _infos)


def path_of(session_id: str, process_id: str) -> str:
    """The path of a process."""
    return f"{_wire.session_path(session_id)}/processes/{process_id}"


def info(path: str) -> Call[ProcessInfo]:
    """`GET .../processes/{id}`."""
    return _get(path, info_of)


def output(path: str, position: int, limits: tuple[int, int] | None = None) -> Call[None]:
    """`GET .../output`: a stream of events, from a position on; to the end, or for so long and so much."""
    headers = {"Last-Event-ID": str(position)}
    params = None if limits is None else {"wait_ms": limits[0], "max_bytes": limits[1]}
    wait_ms = 3 * MAX_KEEP_ALIVE_MS  # the daemon is never silent for as long as that
    return evolve(_get(f"{path}/output", _nothing, params), headers=headers, wait_ms=wait_ms)


def result(path: str, wait_ms: int) -> Call[ProcessInfo]:
    """`GET .../result`: wait for the end, but no longer than that."""
    call = _get(f"{path}/result", info_of, {"timeout_ms": wait_ms})
    return evolve(call, wait_ms=wait_ms, in_line=True)


def put_input(path: str, offset: int, content: bytes, *, close: bool = False) -> Call[int]:
    """`PUT .../input`: bytes from this position of its input on; the answer is the position after them.

    At most `INPUT_PIECE_BYTES`, which leave this side at once however slowly the process reads.
    """
    return Call(
        "PUT",
        f"{path}/input",
        _position,
        params={"offset": offset, "close": "true" if close else "false"},
        content=partial(_whole, content) if content else None,
        headers={"Content-Type": "application/octet-stream", "Content-Length": str(len(content))},
        wait_ms=_INPUT_MS if content else 0,
        is_transfer=True,
        idempotent=True,
        in_line=True,
    )


def _whole(content: bytes) -> Iterator[bytes]:
    yield content


def signal(path: str, number: str | int) -> Call[bool]:
    """`POST .../signal`: to the process's group; whether there was one."""
    body = {"signal": number}
    # Two of the others may be more than one.
    is_repeatable = number in {"KILL", "STOP", "CONT", 9, 19, 18}
    return Call("POST", f"{path}/signal", _delivered, json=body, idempotent=is_repeatable)


def resize(path: str, size: tuple[int, int]) -> Call[None]:
    """`POST .../resize`."""
    return Call("POST", f"{path}/resize", _nothing, json=_size(size), idempotent=True)


def end(path: str, *, force: bool) -> Call[ProcessInfo]:
    """`DELETE .../processes/{id}`: stop it and all that it started."""
    params = {"force": "true"} if force else None
    return Call("DELETE", path, info_of, params=params, idempotent=True, wait_ms=_END_MS)


def _get(path: str, parse: Any, params: Mapping[str, str | int] | None = None) -> Call[Any]:
    return Call("GET", path, parse, params=params, idempotent=True)


def _size(size: tuple[int, int]) -> dict[str, int]:
    return {"columns": size[0], "rows": size[1]}


# --- answers


def result_of(answer: Any) -> ProcessResult:
    """Read how a process ended; without outputs where the answer has none."""
    row = structure(answer, _Result)
    return ProcessResult(
        exit_code=row.exit_code,
        signal=row.signal,
        stdout_bytes=_decoded(row.stdout_base64),
        stderr_bytes=_decoded(row.stderr_base64),
        end=row.end,
        truncated=row.truncated,
        duration_ms=row.duration_ms,
        stdout_total_bytes=row.stdout_bytes,
        stderr_total_bytes=row.stderr_bytes,
    )


def info_of(answer: Any) -> ProcessInfo:
    """Read the facts about a process."""
    row = structure(answer, _Info)
    size = row.terminal
    return ProcessInfo(
        id=row.id,
        args=tuple(row.args),
        cwd=row.cwd,
        running=row.running,
        started_at=row.started_at,
        pid=row.pid,
        terminal=None if size is None else (size.columns, size.rows),
        result=None if row.result is None else result_of(row.result),
    )


def _infos(answer: Any) -> list[ProcessInfo]:
    rows: Any = field_of(as_object(answer), "processes")
    if not isinstance(rows, list):
        raise SandkastenResponseError("The daemon's answer cannot be read: field 'processes' is not a list.")
    return Rows(info_of(row) for row in rows)  # pyright: ignore[reportUnknownVariableType]


def _position(answer: Any) -> int:
    return structure(answer, _Position).position


def _delivered(answer: Any) -> bool:
    return structure(answer, _Delivered).delivered


def _nothing(_answer: Any) -> None:
    return None


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise SandkastenResponseError("The output of a process is not base64.") from error


@frozen(eq=False, repr=False)
class _Result:
    exit_code: int
    signal: str | None = None
    end: str = "exited"
    duration_ms: int = 0
    stdout_base64: str = ""
    stderr_base64: str = ""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    truncated: bool = False


@frozen(eq=False, repr=False)
class _Size:
    columns: int
    rows: int


@frozen(eq=False, repr=False)
class _Info:
    id: str
    args: tuple[str, ...]
    cwd: str
    running: bool
    started_at: datetime
    pid: int | None = None
    terminal: _Size | None = None
    result: dict[str, Any] | None = None


@frozen(eq=False, repr=False)
class _Position:
    position: int


@frozen(eq=False, repr=False)
class _Delivered:
    delivered: bool
