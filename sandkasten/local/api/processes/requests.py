"""Requests about processes, read and checked, so that the handlers hold valid values."""

from __future__ import annotations

import binascii
import re
import signal
from collections.abc import AsyncIterator
from typing import Any

from sandkasten._protocol import (
    MAX_JSON_INPUT_BYTES,
    MAX_PROCESS_MS,
    MAX_PROGRAM_BYTES,
    MAX_TERMINAL_SIZE,
    MAX_TIMEOUT_MS,
    PROCESS_ID,
)
from sandkasten.local.api.bodystream import body_of
from sandkasten.local.api.http.forms import Form
from sandkasten.local.api.http.messages import Request
from sandkasten.local.api.jsonbodies import (
    Fields,
    decode_base64,
    digest_of,
    flag_of,
    number_of,
    object_of,
    parse_json,
    read_json,
    text_of,
)
from sandkasten.local.errors import invalid_request
from sandkasten.local.isolation.policy import BASH
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.processes.request import ProcessSpec, Size

# Each byte of a program may be escaped with six, as \u0001 is; of the input three are four in base64.
_PROGRAM_BYTES = 6 * MAX_PROGRAM_BYTES + 64 * 1024
_RUN_BYTES = _PROGRAM_BYTES + 2 * MAX_JSON_INPUT_BYTES
_SMALL_BYTES = 64 * 1024
# A command line has many arguments where a pattern stood for files.
_MOST_VALUES = 20_000
MAX_POSITION = 2**62


@dataclass(frozen=True)
class RunBody:
    """`POST .../processes/run`; `keep_bytes` of None is the daemon's own."""

    spec: ProcessSpec
    input: bytes
    keep_bytes: int | None


@dataclass(frozen=True)
class StartBody:
    """`POST .../processes`."""

    id: str
    spec: ProcessSpec
    has_input: bool


async def run_body(request: Request) -> tuple[RunBody, AsyncIterator[bytes] | None]:
    """Read what is to run; and where it comes as a form, an iterator over its input as it arrives."""
    media_type = request.headers.get("content-type", "")
    if not media_type.lower().startswith("multipart/form-data"):
        return await read_json(request, _RUN_BYTES, _run, most_values=_MOST_VALUES), None
    form = Form(media_type, body_of(request))
    await _begin_part(form, "request")
    data = await form.field("request", _PROGRAM_BYTES)
    request.digest = digest_of(data)
    body = await parse_json(data, _run, most_values=_MOST_VALUES)
    if body.input:
        raise invalid_request("The input comes twice, in 'request' and as a part. Send one of them.")
    await _begin_part(form, "input")
    return body, _last_part(form)


async def _begin_part(form: Form, name: str) -> None:
    part = await form.next_part()
    if part is None or part.name != name:
        raise invalid_request(
            f"The form needs the parts 'request' and 'input', in this order: {name!r} is missing."
        )


async def _last_part(form: Form) -> AsyncIterator[bytes]:
    async for piece in form.content():
        yield piece
    await form.drop_rest()


def _run(body: Fields) -> RunBody:
    timeout_ms = number_of(body, "timeout_ms", MAX_PROCESS_MS) or MAX_TIMEOUT_MS
    encoded = text_of(body, "input", default="")
    if len(encoded) > 2 * MAX_JSON_INPUT_BYTES:
        raise invalid_request(
            f"'input' has more than {MAX_JSON_INPUT_BYTES} bytes. Send it as a part of a form."
        )
    try:
        stdin = decode_base64(encoded.replace("\n", "")).getvalue()
    except (binascii.Error, ValueError):
        raise invalid_request("'input' is not base64.") from None
    keep_bytes = number_of(body, "keep_bytes", MAX_POSITION)
    return RunBody(_spec(body, timeout_ms, None), stdin, keep_bytes)


async def start_body(request: Request) -> StartBody:
    """Read what is to be started."""
    return await read_json(request, _PROGRAM_BYTES, _start, most_values=_MOST_VALUES)


def _start(body: Fields) -> StartBody:
    process_id = text_of(body, "id")
    if not PROCESS_ID.fullmatch(process_id):
        raise invalid_request("'id' must be 32 digits of 0-9 and a-f, chosen at random.")
    timeout_ms = number_of(body, "timeout_ms", MAX_PROCESS_MS) or None
    terminal = object_of(body, "terminal")
    size = None if terminal is None else _size(terminal)
    return StartBody(process_id, _spec(body, timeout_ms, size), flag_of(body, "stdin") or size is not None)


def _spec(body: Fields, timeout_ms: int | None, terminal: Size | None) -> ProcessSpec:
    return ProcessSpec(
        args=_args(body),
        cwd=text_of(body, "cwd", default="", any_name=True),
        env=_env(body),
        timeout_ms=timeout_ms,
        terminal=terminal,
    )


def _args(body: Fields) -> tuple[str, ...]:
    args, cmd = body.get("args"), body.get("cmd")
    if (args is None) == (cmd is None):
        raise invalid_request("Either 'args' or 'cmd' must be given: a list of strings, or a line for bash.")
    if cmd is not None:
        if not isinstance(cmd, str) or not cmd:
            raise invalid_request("'cmd' must be a string that is not empty.")
        return (BASH, "-c", cmd)
    words: tuple[Any, ...] = ()
    if isinstance(args, list):
        words = tuple(args)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(args, list) or not all(isinstance(word, str) for word in words):
        raise invalid_request("'args' must be a list of strings.")
    return words


def _env(body: Fields) -> tuple[tuple[str, str | None], ...]:
    found = tuple((object_of(body, "env") or {}).items())
    if not all(isinstance(value, str | None) for _name, value in found):
        raise invalid_request("'env' must be an object of strings; null takes a variable away.")
    return found


async def resize_body(request: Request) -> Size:
    """Read the size of a terminal."""
    return await read_json(request, _SMALL_BYTES, _size)


def _size(body: Fields) -> Size:
    columns, rows = (body.get(name) for name in ("columns", "rows"))
    for value in (columns, rows):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_TERMINAL_SIZE:
            raise invalid_request(
                f"'columns' and 'rows' must be whole numbers from 1 to {MAX_TERMINAL_SIZE}."
            )
    assert isinstance(columns, int)
    assert isinstance(rows, int)
    return Size(columns, rows)


async def signal_body(request: Request) -> int:
    """Read the number of a signal."""
    return await read_json(request, _SMALL_BYTES, _signal)


def _signal(body: Fields) -> int:
    value = body.get("signal")
    if isinstance(value, str):
        number = _signal_named(value.upper().removeprefix("SIG"))
        if number is not None:
            return number
    elif isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= signal.SIGRTMAX:
        return value
    sentence = (
        f"'signal' must be the name of a signal, such as TERM, or a number from 1 to {signal.SIGRTMAX:d}."
    )
    raise invalid_request(sentence)


def _signal_named(name: str) -> int | None:
    if name.isascii() and name.isalnum() and f"SIG{name}" in signal.Signals.__members__:
        return signal.Signals[f"SIG{name}"]
    found = re.fullmatch(r"RTM(IN\+|AX-)(\d{1,2})", name, re.ASCII)
    if found is None:
        return None
    number = signal.SIGRTMIN + int(found[2]) if found[1] == "IN+" else signal.SIGRTMAX - int(found[2])
    return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None
