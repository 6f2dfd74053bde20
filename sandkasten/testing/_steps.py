"""The steps by which a server sends an answer or breaks it off, as values; pure.

An answer becomes a sequence of steps: bytes to send, pauses, and ends that no HTTP server would choose.
`_server` performs them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from http.client import responses
from typing import Any


@dataclass(frozen=True)
class Pause:
    """Nothing is sent for this long."""

    seconds: float


class End(Enum):
    """An end of the connection that leaves the answer incomplete, or the client without any."""

    CUT = "the connection is closed, in good order"
    RESET = "the connection is reset"
    SILENCE = "the connection stays open, and nothing comes any more"


Step = bytes | Pause | End


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Attributes:
        status: its status.
        headers: its headers, except those that give the length of the body.
        body: the body, where it is known as a whole.
        events: the parts of a body that is sent bit by bit, instead of `body`.
        pause_seconds: how long it takes until anything is sent.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    events: Iterable[bytes | Pause] | None = None
    pause_seconds: float = 0.0


def json_answer(content: Any, status: int = 200) -> Answer:
    """An answer in JSON."""
    body = json.dumps(content, separators=(",", ":")).encode()
    return Answer(status, {"Content-Type": "application/json"}, body)


def error_answer(status: int, code: str, message: str, details: Mapping[str, Any] | None = None) -> Answer:
    """An error as daemons report it."""
    body = {"error_code": code, "message": message}
    return json_answer(body | ({"details": dict(details)} if details else {}), status)


def stream_answer(events: Iterable[bytes | Pause]) -> Answer:
    """A stream of server-sent events."""
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    return Answer(200, headers, events=events)


def event(name: str, data: Any, event_id: int | None = None) -> bytes:
    """One server-sent event."""
    first = "" if event_id is None else f"id: {event_id}\n"
    return f"{first}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def steps_of(answer: Answer) -> Iterator[Step]:
    """Send an answer as it should be sent."""
    yield Pause(answer.pause_seconds)
    if answer.events is None:
        yield head_of(answer) + answer.body
        return
    yield head_of(answer)
    for part in answer.events:
        yield part if isinstance(part, Pause) else framed(part)
    yield LAST_FRAME


def head_of(answer: Answer) -> bytes:
    """The status line and the headers."""
    if answer.events is None:
        framing = {"Content-Length": str(len(answer.body))}
    else:
        framing = {"Transfer-Encoding": "chunked"}
    lines = [f"{name}: {value}" for name, value in {**answer.headers, **framing}.items()]
    first = f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Unknown')}"
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


def framed(part: bytes) -> bytes:
    """A part of a body in HTTP's chunked framing."""
    return b"%x\r\n%b\r\n" % (len(part), part)


LAST_FRAME = framed(b"")
