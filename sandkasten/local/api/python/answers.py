"""Runs and contexts, as the wire has them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from sandkasten._protocol import Code
from sandkasten.local.api.asgi import event
from sandkasten.local.api.execs import lost_error
from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError
from sandkasten.local.sessions.execution import Piece
from sandkasten.local.sessions.interpreters.context import Context
from sandkasten.local.sessions.interpreters.run import Collected, PythonRun, PythonTape
from sandkasten.local.sessions.job import Channel


def result_of(run: PythonRun) -> dict[str, Any]:
    """Return how a run ended, with its outputs and results where they were kept for that.

    Raises:
        ApiError: it was stopped at its deadline or for the disk's share, the session is gone, or there is no
            interpreter.
    """
    if run.error is not None:
        raise lost_error(run.error)
    assert run.outcome is not None
    result = run.outcome.result
    if isinstance(run.sink, Collected):
        result |= {
            "stdout": _text(run.sink, Channel.STDOUT),
            "stderr": _text(run.sink, Channel.STDERR),
            "results": run.sink.results,
            "truncated": run.sink.truncated,
        }
    if run.outcome.end is JobEnd.OVER_QUOTA:
        sentence = "The code was stopped: it filled the workspace. Delete files in it."
        raise ApiError(507, Code.INSUFFICIENT_STORAGE, sentence, details=result)
    if run.outcome.end is JobEnd.TIMEOUT:
        gone = "Its variables are gone." if run.outcome.context_lost else "Its variables are still there."
        sentence = f"The code was stopped after {run.timeout_ms} ms. {gone}"
        raise ApiError(504, Code.COMMAND_TIMEOUT, sentence, details=result)
    return result


def _text(sink: Collected, channel: Channel) -> str:
    return sink.content(channel).decode("utf-8", "replace")


def piece_events(piece: Piece) -> Iterator[bytes]:
    """Yield the events for a piece of output, or for the results in it."""
    assert isinstance(piece.content, bytes)
    if piece.channel is not Channel.RICH:
        yield event(str(piece.channel), {"base64": base64.b64encode(piece.content).decode()}, piece.end)
        return
    position = piece.end - len(piece.content)
    for line in piece.content.splitlines(keepends=True):
        position += len(line)
        try:
            name, content = json.loads(line)
        except ValueError:
            continue  # a reader began in its middle, at a position that was never given
        yield event(name, content, position)


def last_event(run: PythonRun, tape: PythonTape) -> bytes:
    """Return the event for a run's end."""
    try:
        return event("done", result_of(run), tape.end)
    except ApiError as error:
        body: dict[str, Any] = {
            "error": error.message,
            "error_code": error.code,
            "status": error.status,
            "details": error.details or {},
        }
        return event("error", body, tape.end)


def info_of(context: Context) -> dict[str, Any]:
    """Return the facts about a context."""
    started_at = context.started_at
    return {
        "name": context.name,
        "running": context.is_running,
        "started_at": None if started_at is None else started_at.isoformat(),
        "python_version": context.version,
        "execution_count": context.execution_count,
    }
