"""The reports of an interpreter, made of its frames; pure. All that comes of it can be sent on as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sandkasten.local.records import dataclass
from sandkasten.local.sessions.interpreters.frames import MAX_FRAME_BYTES, FrameError

# More of an event is cut off or left out.
MAX_TYPES = 32
MAX_TYPE_CHARS = 128
MAX_METADATA_CHARS = 64 * 1024
MAX_NAME_CHARS = 256
MAX_MESSAGE_CHARS = 64 * 1024
MAX_TRACEBACK_CHARS = 256 * 1024
MAX_VARIABLES = 2000
MAX_VARIABLE_CHARS = 1000
_MAX_VERSION_CHARS = 64


@dataclass(frozen=True)
class Event:
    """One report of an interpreter.

    Attributes:
        name: `ready`, `data` (a piece of the next result), `display`, `result`, `error`, `done`
            or `variables`.
        id: of the run that it belongs to; 0 of `ready`.
        content: its fields, as the wire has them.
        size_bytes: how long it was.
    """

    name: str
    id: int
    content: dict[str, Any]
    size_bytes: int = 0


def event_of(fields: Mapping[str, Any], size_bytes: int = 0) -> Event | None:
    """Return what an object reports; None if that is nothing that is known here.

    Raises:
        FrameError: its fields are not what they must be.
    """
    name, number = fields.get("event"), fields.get("id", 0)
    if not isinstance(name, str):
        raise FrameError("a frame names no event")
    if name not in _CONTENTS:
        return None
    if isinstance(number, bool) or not isinstance(number, int):
        raise FrameError("an event has no number")
    return Event(name, number, _CONTENTS[name](fields), size_bytes)


def _ready(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": _text(fields, "version", _MAX_VERSION_CHARS)}


def _rich(fields: Mapping[str, Any]) -> dict[str, Any]:
    data = fields.get("data")
    if not isinstance(data, dict):
        raise FrameError("a result has no data")
    found: dict[str, str] = {}
    for kind, value in data.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(kind, str) or not isinstance(value, str):
            raise FrameError("a result's data is not text")
        if len(kind) <= MAX_TYPE_CHARS and len(found) < MAX_TYPES:
            found[clean(kind)] = clean(value)
    return {"data": found, "metadata": _metadata(fields.get("metadata"))}


def _piece(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"mime": _text(fields, "mime", MAX_TYPE_CHARS), "piece": _text(fields, "piece", MAX_FRAME_BYTES)}


def _metadata(value: Any) -> dict[str, Any]:
    """Return what can be sent on; else nothing, since nobody needs it."""
    if not isinstance(value, dict):
        return {}
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        return {}
    return value if len(text) <= MAX_METADATA_CHARS else {}  # pyright: ignore[reportUnknownVariableType]


def _error(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": _text(fields, "name", MAX_NAME_CHARS),
        "message": _text(fields, "message", MAX_MESSAGE_CHARS),
        "traceback": _text(fields, "traceback", MAX_TRACEBACK_CHARS),
    }


def _done(_fields: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _variables(fields: Mapping[str, Any]) -> dict[str, Any]:
    rows = fields.get("variables")
    if not isinstance(rows, list):
        raise FrameError("the variables are not a list")
    found: list[dict[str, Any]] = []
    for row in rows[:MAX_VARIABLES]:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(row, dict):
            raise FrameError("a variable is not an object")
        found.append(_variable(row))  # pyright: ignore[reportUnknownArgumentType]
    return {"variables": found}


def _variable(row: Mapping[str, Any]) -> dict[str, Any]:
    size = row.get("size")
    is_number = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63
    texts = {name: _text(row, name, MAX_VARIABLE_CHARS) for name in ("name", "type", "repr")}
    is_text = isinstance(size, str)
    return {
        **texts,
        "size": str(size) if is_number else _text(row, "size", MAX_VARIABLE_CHARS) if is_text else "",
    }


_CONTENTS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "ready": _ready,
    "data": _piece,
    "display": _rich,
    "result": _rich,
    "error": _error,
    "done": _done,
    "variables": _variables,
}


def _text(fields: Mapping[str, Any], name: str, most_chars: int) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise FrameError(f"the {name} is not text")
    return clean(value[:most_chars])


def clean(text: str) -> str:
    """Return a text without halves of characters, which nobody could be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
