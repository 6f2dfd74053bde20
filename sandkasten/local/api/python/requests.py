"""Requests about Python, read and checked, so that the handlers hold valid values."""

from __future__ import annotations

from sandkasten._protocol import DEFAULT_CONTEXT, MAX_COMMAND_BYTES, MAX_TIMEOUT_MS, PYTHON_CONTEXT
from sandkasten.local.api.http.messages import Request
from sandkasten.local.api.jsonbodies import COMMAND_BYTES, Fields, number_of, read_json, text_of
from sandkasten.local.errors import invalid_request
from sandkasten.local.records import dataclass

_MAX_KEEP_BYTES = 2**62


@dataclass(frozen=True)
class PythonBody:
    """`POST .../python`; `keep_bytes` of None is the daemon's own."""

    code: str
    context: str
    timeout_ms: int
    keep_bytes: int | None


async def python_body(request: Request) -> PythonBody:
    """Read what is to run."""
    return await read_json(request, COMMAND_BYTES, _python)


def _python(body: Fields) -> PythonBody:
    code = text_of(body, "code")
    if len(code.encode()) > MAX_COMMAND_BYTES:
        raise invalid_request(
            f"'code' has more than {MAX_COMMAND_BYTES} bytes. Write it to a file and import that."
        )
    return PythonBody(
        code,
        checked(text_of(body, "context", default=DEFAULT_CONTEXT)),
        number_of(body, "timeout_ms", MAX_TIMEOUT_MS) or MAX_TIMEOUT_MS,
        number_of(body, "keep_bytes", _MAX_KEEP_BYTES),
    )


def context_of(request: Request) -> str:
    """Return the context that a path names.

    Raises:
        ApiError: INVALID_REQUEST, it cannot be one.
    """
    return checked(request.path_params["context"])


def checked(name: str) -> str:
    """Return a context's name.

    Raises:
        ApiError: INVALID_REQUEST, it cannot be one.
    """
    if not PYTHON_CONTEXT.fullmatch(name):
        raise invalid_request("A context's name has 1 to 64 characters of a-z, A-Z, 0-9, '.', '_' and '-'.")
    return name
