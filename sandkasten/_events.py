"""The events of an exec stream become chunks; pure, so that both worlds read them alike.

A stream is any number of `chunk` events and then exactly one `done` or `error`. One that ends with
neither was cut, and a cut stream is never taken for success. A daemon with the extension `resume` gives
each event an id and goes on after it over another connection; what it no longer holds is a `gap`.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import httpx
from attrs import define, evolve, field, frozen
from httpx_sse import ServerSentEvent

from sandkasten._answers import api_error, as_object, request_id_of, structure
from sandkasten._cut import CappedText, mark
from sandkasten._prompts import without_prompts
from sandkasten.errors import (
    SandkastenAPIError,
    SandkastenError,
    SandkastenResponseError,
    SandkastenStreamError,
    SandkastenTimeoutError,
)
from sandkasten.models import ExecChunk, ExecResult

# How much of its output a stream keeps for its result, and for an error: as much as an exec keeps.
KEEP_BYTES = 1024 * 1024


@frozen(eq=False, repr=False)
class _LateAnswer:
    status: int
    body: Any


def late_answer(event: ServerSentEvent, response: httpx.Response) -> httpx.Response | None:
    """Return the answer that an event carries, as if it had come without a stream; None if it carries none.

    Raises:
        SandkastenResponseError: it cannot be read.
    """
    if event.event != "answer":
        return None
    answer = structure(data_of(event), _LateAnswer)
    headers = {"X-Request-ID": request_id_of(response) or ""}
    return httpx.Response(answer.status, json=answer.body, headers=headers, request=response.request)


@define(eq=False, repr=False)
class EventReader:
    """Reads the events of one stream, over one connection or several: what all kinds of streams share.

    Attributes:
        response: the answer that is being read, which errors carry along.
        finished: whether the last event was seen.
        cuts: how many connections in a row ended without bringing an event.
    """

    response: httpx.Response | None = field(default=None, init=False)
    finished: bool = field(default=False, init=False)
    cuts: int = field(default=0, init=False)

    def cut(self, reason: SandkastenError | None, *, may_resume: bool, max_cuts: int) -> None:
        """Say that the connection ended, for a reason if one is known; do nothing if it may be resumed.

        Raises:
            SandkastenError: it may not, and the stream's end was not seen.
        """
        self.cuts += 1
        if self.finished or (may_resume and self.cuts <= max_cuts):
            return
        if isinstance(reason, SandkastenTimeoutError):
            raise reason
        error = self._cut_short(f" ({reason})" if reason else "")
        if self.response is not None:
            error.request_id = request_id_of(self.response)
        raise error

    def _cut_short(self, because: str) -> SandkastenStreamError:
        """Return the error for a stream of this kind whose end was not seen."""
        raise NotImplementedError


@define(eq=False, repr=False)
class StreamReader(EventReader):
    """Reads the events of one command, in order.

    Attributes:
        keep_bytes: how much of the output is kept, head and tail of it.
        position: the id of the last event, from which a daemon with the extension `resume` goes on.
        is_over: whether nobody reads the stream any more, or the last event was seen.
        has_prompts: whether prompts are around the output, as on the Go daemon, which sends all of an
            output as one chunk.
    """

    keep_bytes: int = KEEP_BYTES
    position: str | None = None
    is_over: bool = False
    has_prompts: bool = False
    _kept: CappedText = field(init=False)
    _missed_bytes: int = 0
    _end: ExecChunk | None = None

    def __attrs_post_init__(self) -> None:
        self._kept = CappedText(self.keep_bytes)

    def read(self, event: ServerSentEvent) -> ExecChunk | None:
        """Make a chunk of an event; None for keep-alives and for events of a later protocol.

        Raises:
            SandkastenAPIError: the daemon reports a failure, by its class.
            SandkastenStreamError: it reports one that has no class.
            SandkastenResponseError: the event's data cannot be read.
        """
        make = {"chunk": _chunk, "data": _piped, "gap": _gap, "done": _done}.get(event.event)
        if event.event == "error":
            self.finished = self.is_over = True
            raise failure_of(event, self.response, self._kept.text())
        if make is None:
            return None
        chunk = make(data_of(event))
        if self.has_prompts:
            chunk = evolve(chunk, output=without_prompts(chunk.output))
        self.finished = self.is_over = chunk.done
        if event.id != self.position and is_count(event.id):
            self.position, self.cuts = event.id, 0  # it goes on
        if chunk.missed_bytes:
            self._missed_bytes += chunk.missed_bytes
            self._kept.add(mark(chunk.missed_bytes))
        self._kept.add(chunk.output)
        self._end = chunk if chunk.done else None
        return chunk

    def result(self) -> ExecResult:
        """Return how the command ended, as an exec would have answered.

        Raises:
            SandkastenError: its end was not seen.
        """
        end = self._end
        if end is None or end.exit_code is None or end.cwd is None:
            raise SandkastenError(
                "The stream has no result yet: the command's end was not seen.", "Iterate to the end first."
            )
        return ExecResult(
            exit_code=end.exit_code,
            cwd=end.cwd,
            output=self._kept.text(),
            truncated=self._kept.truncated or self._missed_bytes > 0,
            duration_ms=end.duration_ms or 0,
            shell_restarted=end.shell_restarted,
            end=end.end,
        )

    def _cut_short(self, because: str) -> SandkastenStreamError:
        return SandkastenStreamError(
            f"The stream was cut before the command's end{because}, so its outcome is not known.",
            "Run a command that looks at what it did before running it again.",
            output=self._kept.text(),
        )


def failure_of(
    event: ServerSentEvent, response: httpx.Response | None, output: str = ""
) -> SandkastenAPIError | SandkastenStreamError:
    """Return the failure that an `error` event reports: by its class if it has a code that is known.

    Args:
        event: the event.
        response: the answer that it came in, which the error carries along.
        output: what was received before.

    Raises:
        SandkastenResponseError: the event's data cannot be read.
    """
    body = as_object(data_of(event))
    message = str(body.get("error") or body.get("message") or "The daemon reported a failure")
    if response is not None:
        error = api_error(message, body, response)
        if error.error_code is not None:
            return error
    return SandkastenStreamError(f"{message.rstrip('.')}.", output=output)


def piece_of(data: Any, name: str) -> tuple[bytes, datetime]:
    """Return the bytes that an event of this name carries, and when the daemon saw them.

    Raises:
        SandkastenResponseError: they cannot be read.
    """
    piece = structure(data, _PipedData)
    try:
        content = base64.b64decode(piece.base64, validate=True)
    except ValueError as error:
        raise SandkastenResponseError(f"The data of a {name!r} event is not base64.") from error
    return content, moment_of(piece.timestamp)


def is_count(event_id: str) -> bool:
    """Return whether an event's id is a position."""
    return event_id.isascii() and event_id.isdigit() and len(event_id) <= 18


def _chunk(data: Any) -> ExecChunk:
    chunk = structure(data, _ChunkData)
    return ExecChunk(output=chunk.chunk, timestamp=moment_of(chunk.timestamp))


def _piped(data: Any) -> ExecChunk:
    content, timestamp = piece_of(data, "data")
    return ExecChunk(output="", timestamp=timestamp, data=content)


def _gap(data: Any) -> ExecChunk:
    missed_bytes = max(0, structure(data, _GapData).missed_bytes)
    return ExecChunk(output="", timestamp=moment_of(None), missed_bytes=missed_bytes)


def _done(data: Any) -> ExecChunk:
    end = structure(data, _DoneData)
    return ExecChunk(
        output="",
        timestamp=moment_of(end.timestamp),
        done=True,
        exit_code=end.exit_code,
        cwd=end.cwd,
        duration_ms=end.duration_ms,
        shell_restarted=end.shell_restarted,
        end=end.end,
    )


@frozen(eq=False, repr=False)
class _ChunkData:
    chunk: str
    timestamp: int | None = None


@frozen(eq=False, repr=False)
class _PipedData:
    base64: str
    timestamp: int | None = None


@frozen(eq=False, repr=False)
class _GapData:
    missed_bytes: int


@frozen(eq=False, repr=False)
class _DoneData:
    exit_code: int
    cwd: str
    duration_ms: int = 0
    shell_restarted: bool = False
    timestamp: int | None = None
    end: str | None = None


def data_of(event: ServerSentEvent) -> Any:
    """Decode the data of an event.

    Raises:
        SandkastenResponseError: it is not JSON.
    """
    try:
        return json.loads(event.data)
    except (ValueError, RecursionError) as error:
        raise SandkastenResponseError(f"The data of a {event.event!r} event is not JSON.") from error


def moment_of(unix_ms: int | None) -> datetime:
    """Return when something happened, or now if that is not said."""
    try:
        return datetime.now(UTC) if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.now(UTC)  # a clock of another age is no reason to lose output
