"""From an answer's bytes to models and errors; pure, and the only place that knows cattrs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx

from sandkasten import _codes as codes
from sandkasten._errorclasses import BY_ERROR_CODE
from sandkasten._protocol import Code
from sandkasten._sentences import meant_code
from sandkasten.errors import (
    LocalDaemonError,
    SandkastenAPIError,
    SandkastenConnectionError,
    SandkastenError,
    SandkastenResponseError,
    SandkastenTimeoutError,
)

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


class RefusedError(Exception):
    """A refusal in the clothes of a success: by its status the answer is one, by its content it is not."""

    def __init__(
        self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        """Remember the status, the error code and the sentence that the daemon should have answered."""
        super().__init__(message)
        self.body = {"status": status, "error_code": code, "details": details or {}}


def json_of(response: httpx.Response) -> Any:
    """Decode a successful answer's body.

    Raises:
        SandkastenResponseError: it is not JSON.
    """
    try:
        return response.json()
    except (ValueError, RecursionError):
        raise SandkastenResponseError(
            f"{response.request.url} answered {response.status_code} with {_kind(response)} where JSON was "
            "expected.",
            "Check that base_url points at a Sandkasten daemon, not at a proxy or a web page.",
            code=codes.NOT_SANDKASTEN,
        ) from None


def structure(answer: Any, model: type[T]) -> T:
    """Make a model of decoded JSON; unknown fields are ignored.

    Raises:
        SandkastenResponseError: a field is missing or of the wrong kind; the text names it.
    """
    try:
        return _converter().structure(answer, model)
    except Exception as error:
        raise SandkastenResponseError(
            f"The daemon's answer cannot be read: {_what_is_wrong(error)}.",
            "Check that the daemon's version fits this library's.",
        ) from error


def field_of(answer: Mapping[str, Any], name: str) -> Any:
    """Take a field of a JSON object.

    Raises:
        SandkastenResponseError: it is missing.
    """
    if name not in answer:
        raise SandkastenResponseError(f"The daemon's answer lacks the field {name!r}.")
    return answer[name]


def request_id_of(response: httpx.Response) -> str | None:
    """The call's `X-Request-ID`, which the daemon's log has too."""
    headers: Mapping[str, str] = response.headers
    return headers.get("x-request-id") or response.request.headers.get("x-request-id")


def error_from(response: httpx.Response) -> SandkastenAPIError:
    """Make the right error of an answer that is not a success, whoever gave it."""
    body = _error_body(response)
    message = body.get("message") or body.get("error")
    if not isinstance(message, str):
        message = f"{response.request.url} answered {response.status_code} with {_kind(response)}"
        if not body:
            message += ", which no Sandkasten daemon does: something between here and there answered"
    return api_error(message, body, response)


def check_success(response: httpx.Response) -> None:
    """Let an answer pass that is a success; the body of any other was read.

    Raises:
        SandkastenAPIError: it is not, by its class.
    """
    if not response.is_success:
        raise error_from(response)


def is_stream(response: httpx.Response) -> bool:
    """Return whether the body is a stream of events."""
    content_type: str = response.headers.get("content-type", "")
    return content_type.startswith("text/event-stream")


def check_stream(response: httpx.Response) -> None:
    """Let a stream of events pass; the body of what is not a success was read.

    Raises:
        SandkastenAPIError: the daemon answered with an error, by its class.
        SandkastenResponseError: a success of another kind.
    """
    check_success(response)
    if not is_stream(response):
        raise SandkastenResponseError(
            f"{response.request.url} answered {response.status_code} with {_kind(response)} where a stream "
            "of events was expected.",
            "Check that base_url points at a Sandkasten daemon.",
            code=codes.NOT_SANDKASTEN,
            request_id=request_id_of(response),
        )


def no_answer(
    error: httpx.RequestError, daemon: str, *, is_embedded: bool, in_line: bool = False
) -> SandkastenError:
    """Make the right error of a request that got no answer from the named daemon.

    Args:
        error: what happened.
        daemon: the daemon's name.
        is_embedded: whether this client started it.
        in_line: whether it was a command that may have waited behind others all the time.
    """
    reason = str(error) or type(error).__name__
    found = _no_answer(error, reason, daemon, is_embedded=is_embedded)
    if in_line and type(error) is httpx.ReadTimeout:
        found = SandkastenTimeoutError(
            f"{daemon} stayed silent for longer than this call allows ({reason}).",
            "The command may have run, or may run later: on this daemon its time in the queue counts. "
            "Look before you repeat it, or give the client a longer timeout.",
        )
    found.request_id = error.request.headers.get("x-request-id")
    return found


def _no_answer(error: httpx.RequestError, reason: str, daemon: str, *, is_embedded: bool) -> SandkastenError:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return _not_connected(error, reason, daemon, is_embedded=is_embedded)
    if isinstance(error, httpx.TimeoutException):
        return SandkastenTimeoutError(
            f"{daemon} stayed silent for longer than this call allows ({reason}).",
            "Check that it is well, or give the client a longer timeout.",
        )
    if isinstance(error, httpx.DecodingError):
        return SandkastenResponseError(f"The body that {daemon} sent cannot be decoded ({reason}).")
    return SandkastenConnectionError(
        f"The connection to {daemon} was lost before the answer ({reason}).",
        "Whether the call took effect is not known: look before you repeat it.",
    )


def _what_certificates_need(reason: str) -> str:
    """Return what to do about a certificate that was refused for a reason."""
    if "mismatch" in reason:
        return "Use a name or an address that the certificate is for."
    if "expired" in reason:
        return "Renew it."
    return "Give the client the certificate of its authority, as verify='ca.pem' or by SSL_CERT_FILE."


def _not_connected(
    error: httpx.RequestError, reason: str, daemon: str, *, is_embedded: bool
) -> SandkastenConnectionError:
    if "Too many open files" in reason:
        return SandkastenConnectionError(
            f"This process has no descriptor left for a connection to {daemon}.",
            "Raise its limit (ulimit -n), or do less at once.",
            never_sent=True,
        )
    if isinstance(error, httpx.PoolTimeout):
        return SandkastenTimeoutError(f"No connection to {daemon} became free in time.", "Use fewer at once.")
    if isinstance(error, httpx.ConnectError) and is_embedded:
        return LocalDaemonError(
            f"The embedded daemon ended ({reason}), and its sessions with it.",
            "Make a new SandboxClient.",
            code=codes.ENDED,
        )
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return SandkastenConnectionError(
            f"The certificate of {daemon} is not one that this client trusts ({reason}).",
            _what_certificates_need(reason),
            code=codes.UNREACHABLE,
            never_sent=True,
        )
    kind = SandkastenConnectionError if isinstance(error, httpx.ConnectError) else SandkastenTimeoutError
    return kind(
        f"Nothing answers at {daemon} ({reason}).",
        "Start a daemon there and check the address, or leave base_url out to use the embedded one.",
        code=codes.UNREACHABLE,
        never_sent=True,
    )


def api_error(message: str, body: Mapping[str, Any], response: httpx.Response) -> SandkastenAPIError:
    """Return an error of the class that the code, the Go daemon's sentence or the status stands for."""
    given = body.get("error_code")
    request = response.request.url.raw_path.decode(errors="replace")
    code = meant_code(given if isinstance(given, str) and given else None, message, request)
    if code is None and response.status_code == httpx.codes.UNAUTHORIZED:
        code = Code.UNAUTHORIZED
    error_class = BY_ERROR_CODE.get(code or "", SandkastenAPIError)
    return error_class(
        message,
        response=response,
        status_code=body.get("status"),
        error_code=code,
        details=as_object(body.get("details")),
    )


def as_object(value: Any) -> Mapping[str, Any]:
    """Take decoded JSON for an object; whatever else it is counts as an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _error_body(response: httpx.Response) -> Mapping[str, Any]:
    try:
        return as_object(response.json())
    except (ValueError, RecursionError):
        return {}


def _kind(response: httpx.Response) -> str:
    if response.is_stream_consumed and not response.content:
        return "an empty body"
    content_type = response.headers.get("content-type", "").partition(";")[0].strip()
    return {"text/html": "an HTML page", "application/json": "unexpected JSON"}.get(
        content_type, f"a body of type {content_type}" if content_type else "a body of no stated type"
    )


# --- cattrs: it is told to take nothing for something else (its own hooks make "None" of None)


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter  # noqa: PLC0415  (a tenth of the import time, needed at the first answer)

    converter = Converter()
    for kind in (int, str, bool):
        converter.register_structure_hook(kind, _strictly)
    converter.register_structure_hook(datetime, _datetime)
    return converter


def _strictly(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def _datetime(value: Any, _kind: type[datetime]) -> datetime:
    if not isinstance(value, str):
        raise TypeError(f"expected a time, not {type(value).__name__}")
    moment = datetime.fromisoformat(value.upper())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _what_is_wrong(error: BaseException) -> str:
    """Name the first bad field. cattrs nests the errors, and notes beside each where it was."""
    path = ""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
        path += _step(next(iter(getattr(error, "__notes__", [])), None))
    if isinstance(error, KeyError):
        return f"it lacks the field {error.args[0]!r}"
    return f"field {path.lstrip('.')!r}: {error}" if path else str(error) or type(error).__name__


def _step(note: object) -> str:
    from cattrs.errors import AttributeValidationNote, IterableValidationNote  # noqa: PLC0415  (as above)

    if isinstance(note, AttributeValidationNote):
        return f".{note.name}"
    return f"[{note.index}]" if isinstance(note, IterableValidationNote) else ""
