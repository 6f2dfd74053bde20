"""Processes and their results, as the wire has them."""

from __future__ import annotations

import base64
import time
from typing import Any

from sandkasten._protocol import Code
from sandkasten.local.api.asgi import event
from sandkasten.local.api.execs import lost_error
from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError
from sandkasten.local.sessions.execution import Piece
from sandkasten.local.sessions.job import Channel
from sandkasten.local.sessions.processes.output import Captured, Sink
from sandkasten.local.sessions.processes.process import ProcessJob, ProcessOutcome
from sandkasten.local.sessions.processes.table import Handle


def result_of(outcome: ProcessOutcome, sink: Sink) -> dict[str, Any]:
    """Return how a process ended, with its output where that was kept for the result."""
    result: dict[str, Any] = {
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "end": outcome.end.told(is_signal=outcome.signal is not None),
        "duration_ms": outcome.duration_ms,
        "stdout_bytes": sink.counts[Channel.STDOUT],
        "stderr_bytes": sink.counts[Channel.STDERR],
    }
    if isinstance(sink, Captured):
        result |= {
            "stdout_base64": _encoded(sink.content(Channel.STDOUT)),
            "stderr_base64": _encoded(sink.content(Channel.STDERR)),
            "truncated": sink.truncated,
        }
    return result


def info_of(handle: Handle) -> dict[str, Any]:
    """Return the facts about a process that was started."""
    job, size = handle.job, handle.terminal
    return {
        "id": handle.id,
        "pid": job.pid,
        "args": handle.args,
        "cwd": job.cwd,
        "running": job.is_running,
        "started_at": handle.started_at.isoformat(),
        "terminal": None if size is None else {"columns": size.columns, "rows": size.rows},
        "result": None if job.outcome is None else result_of(job.outcome, handle.tape),
    }


def run_answer(job: ProcessJob, sink: Captured) -> dict[str, Any]:
    """Return the result of a process that somebody waited for.

    Raises:
        ApiError: it was stopped at its deadline or for the disk's share, the session is gone, or it could not
            be started.
    """
    if job.error is not None:
        raise lost_error(job.error)
    assert job.outcome is not None
    result = result_of(job.outcome, sink)
    if job.outcome.end is JobEnd.OVER_QUOTA:
        sentence = "The process was stopped: it filled the workspace. Delete files in it."
        raise ApiError(507, Code.INSUFFICIENT_STORAGE, sentence, details=result)
    if job.outcome.end is JobEnd.TIMEOUT:
        sentence = f"The process was stopped after {job.timeout_ms} ms."
        raise ApiError(504, Code.COMMAND_TIMEOUT, sentence, details=result)
    return result


def piece_event(piece: Piece) -> bytes:
    """Return the event for a piece of output."""
    assert isinstance(piece.content, bytes)
    data = {"base64": _encoded(piece.content), "timestamp": _now_ms()}
    return event(str(piece.channel), data, piece.end)


def last_event(handle: Handle, position: int) -> bytes:
    """Return the event for a process's end."""
    job = handle.job
    if job.error is not None:
        error = lost_error(job.error)
        body: dict[str, Any] = {
            "error": error.message,
            "error_code": error.code,
            "status": error.status,
            "details": {},
        }
        return event("error", body, position)
    assert job.outcome is not None
    return event("done", result_of(job.outcome, handle.tape) | {"timestamp": _now_ms()}, position)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _now_ms() -> int:
    return round(time.time() * 1000)
