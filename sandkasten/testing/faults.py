"""Faults between a client and a daemon, for `FakeDaemon.fail_next`.

A fault is a function of the answer that the daemon would have given. Most faults let the daemon serve the
request, and spoil the answer; `status` and `bad_gateway` answer in its stead, so that nothing is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from sandkasten.testing._steps import (
    Answer,
    End,
    Pause,
    Step,
    error_answer,
    framed,
    head_of,
    steps_of,
)

__all__ = [
    "Fault",
    "bad_gateway",
    "cut",
    "cut_before_done",
    "cut_mid_event",
    "garbage_json",
    "missing_fields",
    "reset",
    "reset_mid_body",
    "silence",
    "status",
    "trickle",
    "wrong_content_type",
]


@dataclass(frozen=True)
class Fault:
    """A way to spoil an answer.

    Attributes:
        name: what it is, for people.
        spoil: makes the steps of the bad answer from the good one.
        executes: whether the daemon does what it was asked; if not, `spoil` gets an empty answer.
    """

    name: str
    spoil: Callable[[Answer], Iterable[Step]] = field(repr=False)
    executes: bool = True


# --- lost connections


def reset() -> Fault:
    """Reset the connection before anything of the answer."""
    return Fault("reset before the headers", lambda _answer: [End.RESET])


def reset_mid_body(after_bytes: int | None = None) -> Fault:
    """Reset the connection after so many bytes of the body, by default half of it; of a stream one event."""
    return Fault("reset within the body", lambda answer: _beginning(answer, after_bytes, End.RESET))


def cut(after_bytes: int | None = None) -> Fault:
    """Close the connection after so many bytes of the body, by default half of it; of a stream one event."""
    return Fault("cut within the body", lambda answer: _beginning(answer, after_bytes, End.CUT))


def cut_mid_event(after_events: int = 1) -> Fault:
    """Close the connection of a stream in the middle of the event that follows so many whole ones."""

    def spoil(answer: Answer) -> Iterator[Step]:
        yield head_of(answer)
        left = after_events
        for part in _parts(answer):
            if isinstance(part, Pause):
                yield part
            elif left > 0:
                yield framed(part)
                left -= 1
            else:
                yield framed(part[: len(part) // 2])
                break
        yield End.CUT

    return Fault("cut within an event", spoil)


def cut_before_done(*, in_good_order: bool = False) -> Fault:
    """Close the connection of a stream before its last event.

    `in_good_order` ends the body as if it were complete, as some proxies do.
    """

    def spoil(answer: Answer) -> Iterator[Step]:
        yield head_of(answer)
        last = b""
        for part in _parts(answer):
            if isinstance(part, Pause):
                yield part
            else:
                if last:
                    yield framed(last)
                last = part
        if in_good_order:
            yield framed(b"")
        yield End.CUT

    return Fault("cut before the end event", spoil)


# --- time


def trickle(*, piece_bytes: int = 64, pause_seconds: float = 0.01) -> Fault:
    """Send the whole answer, but in small pieces with pauses."""

    def spoil(answer: Answer) -> Iterator[Step]:
        for step in steps_of(answer):
            if not isinstance(step, bytes):
                yield step
                continue
            for start in range(0, len(step), piece_bytes):
                yield step[start : start + piece_bytes]
                yield Pause(pause_seconds)

    return Fault("a slow trickle", spoil)


def silence(after_bytes: int | None = None) -> Fault:
    """Keep the connection open and say nothing: at all, or after so many bytes of the body."""

    def spoil(answer: Answer) -> Iterable[Step]:
        return [End.SILENCE] if after_bytes is None else _beginning(answer, after_bytes, End.SILENCE)

    return Fault("a connection on which nothing comes", spoil)


# --- answers in the daemon's stead


def status(
    code: int,
    *,
    retry_after: float | str | None = None,
    error_code: str | None = None,
    message: str = "injected fault",
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """Answer with a status and nothing else, or, with an `error_code`, as a daemon reports an error.

    `retry_after` is the value of the header `Retry-After`: seconds, or an HTTP date.
    """
    answer = error_answer(code, error_code, message) if error_code else Answer(code)
    asked = {} if retry_after is None else {"Retry-After": f"{retry_after}"}
    answer = replace(answer, headers={**answer.headers, **asked, **(headers or {})})
    return Fault(f"status {code}", lambda _answer: steps_of(answer), executes=False)


def bad_gateway(code: int = 502) -> Fault:
    """Answer with an HTML page, as a proxy does that has lost its daemon."""
    page = f"<html><head><title>{code} Bad Gateway</title></head><body>Bad Gateway</body></html>".encode()
    answer = Answer(code, {"Content-Type": "text/html"}, page)
    return Fault(f"an HTML page with status {code}", lambda _answer: steps_of(answer), executes=False)


# --- answers that make no sense


def garbage_json() -> Fault:
    """Answer with JSON that breaks off; in a stream, in each event."""
    return Fault("garbage for JSON", lambda answer: steps_of(_edited(answer, lambda text: text[:-2] or "{")))


def missing_fields(*names: str) -> Fault:
    """Leave fields out of the answer's JSON, without names all of them; in a stream, of each event."""

    def edit(text: str) -> str:
        content = json.loads(text)
        if not isinstance(content, dict):
            return text
        fields = cast("dict[str, Any]", content)
        kept = {name: value for name, value in fields.items() if names and name not in names}
        return json.dumps(kept)

    return Fault("missing fields", lambda answer: steps_of(_edited(answer, edit)))


def wrong_content_type(content_type: str = "text/plain") -> Fault:
    """Declare the answer to be of another type."""

    def spoil(answer: Answer) -> Iterator[Step]:
        others = {name: value for name, value in answer.headers.items() if name.lower() != "content-type"}
        return steps_of(replace(answer, headers={**others, "Content-Type": content_type}))

    return Fault("a wrong content type", spoil)


# --- parts of answers


def _beginning(answer: Answer, after_bytes: int | None, end: End) -> Iterator[Step]:
    """The headers, the first bytes of the body, and then the end."""
    yield Pause(answer.pause_seconds)
    yield head_of(answer)
    parts = list(_parts(answer)) if answer.events is None else _parts(answer)
    left = after_bytes
    for part in parts:
        if isinstance(part, Pause):
            yield part
            continue
        size = _default_bytes(answer, part) if left is None else left
        piece = part[:size]
        yield piece if answer.events is None else framed(piece)
        left = size - len(piece)
        if left <= 0:
            break
    yield end


def _default_bytes(answer: Answer, first: bytes) -> int:
    return len(first) // 2 if answer.events is None else len(first)


def _parts(answer: Answer) -> Iterable[bytes | Pause]:
    return [answer.body] if answer.events is None else answer.events


def _edited(answer: Answer, edit: Callable[[str], str]) -> Answer:
    """Change the JSON of an answer, or of each event of a stream."""
    if answer.events is None:
        return replace(answer, body=edit(answer.body.decode()).encode())
    return replace(answer, events=(_edited_event(part, edit) for part in answer.events))


def _edited_event(part: bytes | Pause, edit: Callable[[str], str]) -> bytes | Pause:
    if isinstance(part, Pause):
        return part
    head, mark, data = part.decode().partition("data: ")
    if not mark:  # a comment, which keeps the connection alive
        return part
    return f"{head}{mark}{edit(data.rstrip())}\n\n".encode()
