"""The events of an exec stream become chunks; pure, so that both worlds read them alike.

A stream is any number of `chunk` events and then exactly one `done` or `error`. One that ends with
neither was cut, and a cut stream is never taken for success.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
from attrs import define, frozen
from httpx_sse import ServerSentEvent

from sandkasten._answers import api_error, as_object, structure
from sandkasten.errors import SandkastenError, SandkastenResponseError, SandkastenStreamError
from sandkasten.models import ExecChunk


@define
class StreamReader:
    """Reads one stream's events, in order.

    Attributes:
        response: the stream's answer, which errors carry along.
        finished: whether the last event was seen.
    """

    response: httpx.Response
    finished: bool = False

    def read(self, event: ServerSentEvent) -> ExecChunk | None:
        """Make a chunk of an event; None for keep-alives and for events of a later protocol.

        Raises:
            SandkastenAPIError: the daemon reports a failure, by its class.
            SandkastenStreamError: it reports one without an error code.
            SandkastenResponseError: the event's data cannot be read.
        """
        if event.event == "chunk":
            chunk = structure(_data(event), _ChunkData)
            return ExecChunk(output=chunk.chunk, timestamp=_moment(chunk.timestamp))
        if event.event == "done":
            self.finished = True
            end = structure(_data(event), _DoneData)
            return ExecChunk(
                output="",
                timestamp=_moment(end.timestamp),
                done=True,
                exit_code=end.exit_code,
                cwd=end.cwd,
                duration_ms=end.duration_ms,
                shell_restarted=end.shell_restarted,
            )
        if event.event == "error":
            self.finished = True
            raise self._failure(as_object(_data(event)))
        return None

    def end(self) -> None:
        """Say that the connection gave no more.

        Raises:
            SandkastenStreamError: the command's end was not among it.
        """
        if not self.finished:
            raise SandkastenStreamError(
                "The stream was cut before the command's end, so its outcome is not known. "
                "Run a command that looks at what it did before running it again."
            )

    def _failure(self, body: Mapping[str, Any]) -> SandkastenError:
        message = str(body.get("error") or body.get("message") or "The daemon reported a failure")
        if not body.get("error_code"):
            return SandkastenStreamError(message)
        return api_error(message, body, self.response)


@frozen
class _ChunkData:
    chunk: str
    timestamp: int | None = None


@frozen
class _DoneData:
    exit_code: int
    cwd: str
    duration_ms: int = 0
    shell_restarted: bool = False
    timestamp: int | None = None


def _data(event: ServerSentEvent) -> Any:
    try:
        return json.loads(event.data)
    except (ValueError, RecursionError) as error:
        raise SandkastenResponseError(f"The data of a {event.event!r} event is not JSON.") from error


def _moment(unix_ms: int | None) -> datetime:
    try:
        return datetime.now(UTC) if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.now(UTC)  # a clock of another age is no reason to lose output
