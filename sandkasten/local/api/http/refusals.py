"""Requests that are refused before there is a request, and how that is answered; pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from http import HTTPStatus

from sandkasten.local.errors import ApiError

# Those that decide something here. The parser itself refuses two lengths of a body.
_ONCE = (
    b"authorization",
    b"content-type",
    b"host",
    b"idempotency-key",
    b"last-event-id",
    b"origin",
    b"range",
    b"sec-fetch-site",
)


def too_large(what: str) -> ApiError:
    """Return the error for a head that is larger than what is allowed."""
    sentence = f"The request has more than {what} beside its content. Send fewer or shorter headers."
    return ApiError(431, "INVALID_REQUEST", sentence)


def ambiguity(target: bytes, names: Sequence[bytes]) -> str | None:
    """Say why a request could be read in two ways, or return None."""
    if not target.startswith(b"/"):
        return "The request's target is not a path. Send the path, and the host in the header Host."
    twice = [name.decode() for name in _ONCE if names.count(name) > 1]
    return f"The request has more than one header {twice[0]!r}. Send one." if twice else None


def last_answer(error: ApiError) -> bytes:
    """Return the bytes of an answer after which the connection closes."""
    body = json.dumps(error.body).encode()
    headers = {
        "content-type": "application/json",
        "content-length": len(body),
        "x-request-id": uuid.uuid4().hex,
        "connection": "close",
    } | ({"retry-after": 1} if error.status == 503 else {})
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
