"""The wire protocol without any I/O: verbs become `Call`s, answers become models or errors.

A `Call` says what to send and how to understand the answer. `_http` sends it, in both worlds, and
knows nothing else; so everything that can be decided without waiting is decided here, once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import httpx
from attrs import evolve, frozen

from sandkasten import _checks as check
from sandkasten._answers import (
    RefusedError,
    api_error,
    as_object,
    error_from,
    field_of,
    json_of,
    request_id_of,
    structure,
)
from sandkasten._names import query_of
from sandkasten._prompts import without_prompts
from sandkasten._protocol import (
    ALREADY_DESTROYED,
    KEEP_ALIVE_HEADER,
    MAX_KEEP_ALIVE_MS,
    MAX_TIMEOUT_MS,
    MIN_KEEP_ALIVE_MS,
    Code,
    Extension,
)
from sandkasten.errors import (
    SandkastenError,
    SandkastenResponseError,
    SessionNotFoundError,
    WorkspaceNotFoundError,
)
from sandkasten.models import (
    ExecResult,
    Health,
    Rows,
    SessionInfo,
    SessionStats,
    WorkspaceInfo,
)

T = TypeVar("T")

# The Go daemon pulls an image when a session needs it for the first time; after 5 minutes it gives up itself.
_PULL_MS = 300_000

# How long a command may leave its input unread: commands before it may take the maximum, too.
_INPUT_SECONDS = 24 * 3600.0

_ID = re.compile(
    r"(?:(?<=/sessions/)|(?<=/workspaces/)|(?<=/executions/)|(?<=/creations/)|(?<=/processes/)(?!run$))[^/]+"
)


# What nobody compares or prints is made without the methods for that: it halves the time a class takes to
# be made, which is most of the time in which the client is imported. (And a call holds contents and keys.)
@frozen(eq=False, repr=False)
class Call(Generic[T]):
    """One request, and how to read its answer.

    Attributes:
        method: the HTTP verb.
        path: the path, already quoted.
        parse: makes the result from the answer's JSON.
        json: the body, if it is JSON.
        content: the body as bytes, made anew for each attempt.
        headers: beyond those of every call.
        params: the query.
        data: the plain fields of a multipart body.
        files: the file parts of a multipart body: their names and contents.
        wait_ms: how long the daemon may rightly be busy with it, beyond the client's own timeout.
        timeout_seconds: how long it may stay silent, where that is not the client's own timeout.
        is_transfer: whether it may take as long as it will, as long as something moves.
        idempotent: whether doing it twice does what once does.
        already_done: the answer to a repetition if the attempt whose answer was lost took effect.
        in_line: whether it may take long, such as behind others of its session.
        is_kept_alive: whether the daemon is never silent meanwhile; see `kept_alive`.
        key: by which a daemon with the extension `idempotency` knows a repetition.
        cancel_path: the path that reports to such a daemon that nobody waits for the call any more.
        unnamed: the fields that have other values for a daemon whose `/healthz` names no server.
    """

    method: str
    path: str
    parse: Callable[[Any], T]
    json: Mapping[str, Any] | None = None
    content: Callable[[], Iterator[bytes]] | None = None
    headers: Mapping[str, str] | None = None
    params: Mapping[str, str | int] | None = None
    data: Mapping[str, str] | None = None
    files: Sequence[tuple[str, bytes]] = ()
    wait_ms: int = 0
    timeout_seconds: float | None = None
    is_transfer: bool = False
    idempotent: bool = False
    already_done: type[SandkastenError] | None = None
    in_line: bool = False
    is_kept_alive: bool = False
    key: str | None = None
    cancel_path: str | None = None
    unnamed: Mapping[str, Any] | None = None

    @property
    def is_repeatable(self) -> bool:
        """True if it may be sent again though the first attempt may have taken effect."""
        return self.idempotent or self.key is not None

    @property
    def query(self) -> str:
        """The query with its question mark, if there is one."""
        return f"?{query_of(self.params)}" if self.params else ""

    @property
    def route(self) -> str:
        """The name for logs and traces: the path without ids."""
        return f"{self.method} {_ID.sub('{id}', self.path)}"


def understood(call: Call[T], health: Health, silence_seconds: float) -> Call[T]:
    """Return the call as a daemon understands it that says this of itself, for a client of this patience."""
    if call.key is not None and Extension.IDEMPOTENCY not in health.extensions:
        call = evolve(call, key=None)
    if call.in_line and Extension.KEEP_ALIVE in health.extensions:
        call = kept_alive(call, silence_seconds)
    return call if health.server else evolve(call, **(call.unnamed or {}))


def receive(call: Call[T], response: httpx.Response) -> T:
    """Read the answer to a call.

    Raises:
        SandkastenAPIError: the daemon answered with an error, by its class.
        SandkastenResponseError: the answer is not what the daemon answers to this call.
    """
    if not response.is_success:
        raise error_from(response)
    try:
        return call.parse(json_of(response))
    except RefusedError as refusal:
        raise api_error(str(refusal), refusal.body, response) from None
    except SandkastenResponseError as error:
        error.request_id = request_id_of(response)
        raise


# --- sessions


def create_session(
    image: str, ttl_seconds: int | None, workspace_id: str | None, network: str | None
) -> Call[SessionInfo]:
    """`POST /v1/sessions`; `network` is the extension of that name."""
    body: dict[str, Any] = {"image": check.image(image)}
    if ttl_seconds is not None:
        body["ttl_seconds"] = check.ttl_seconds(ttl_seconds)
    if workspace_id is not None:
        body["workspace_id"] = check.workspace_id(workspace_id)
    if network is not None:
        body["network"] = check.network(network)
    key = _new_key()
    return Call(
        "POST",
        "/v1/sessions",
        _one(SessionInfo),
        json=body,
        key=key,
        cancel_path=f"/v1/creations/{key}",
        unnamed={"wait_ms": _PULL_MS},
    )


def get_session(session_id: str) -> Call[SessionInfo]:
    """`GET /v1/sessions/{id}`; the Go daemon answers with a session that is no longer one, too."""
    return _get(session_path(session_id), _running)


def list_sessions() -> Call[list[SessionInfo]]:
    """`GET /v1/sessions`: a bare array, or `{"sessions": [...]}` from some servers.

    The Go daemon lists those too that have ended, and those of its pool that are nobody's yet.
    """
    rows = _many(SessionInfo, "sessions")
    return _get("/v1/sessions", lambda answer: Rows(info for info in rows(answer) if info.status == _RUNNING))


def destroy_session(session_id: str) -> Call[None]:
    """`DELETE /v1/sessions/{id}`."""
    return _delete(session_path(session_id), _destroyed, SessionNotFoundError)


def session_stats(session_id: str) -> Call[SessionStats]:
    """`GET /v1/sessions/{id}/stats`."""
    return _get(f"{session_path(session_id)}/stats", _one(SessionStats))


def interrupt(session_id: str) -> Call[bool]:
    """`POST /v1/sessions/{id}/interrupt`, the extension `interrupt`."""
    return Call("POST", f"{session_path(session_id)}/interrupt", _interrupted)


def session_path(session_id: str) -> str:
    """The path of a session."""
    return f"/v1/sessions/{check.session_id(session_id)}"


# --- exec


def exec_command(session_id: str, cmd: str, timeout_ms: int, *, raw_output: bool) -> Call[ExecResult]:
    """`POST /v1/sessions/{id}/exec`."""
    call = _exec(session_id, cmd, timeout_ms, raw_output, suffix="exec", parse=_one(ExecResult))
    return evolve(call, unnamed={"parse": _result_without_prompts})


def exec_stream(
    session_id: str,
    cmd: str,
    timeout_ms: int,
    *,
    raw_output: bool,
    pipe_input: bool = False,
    pipe_output: bool = False,
) -> Call[None]:
    """`POST /v1/sessions/{id}/exec/stream`; its events are read by `_events.StreamReader`.

    The pipes are the extension `pipes`.
    """
    call = _exec(session_id, cmd, timeout_ms, raw_output, suffix="exec/stream", parse=_nothing)
    pipes = {"pipe_input": True} if pipe_input else {}
    pipes |= {"pipe_output": True} if pipe_output else {}
    return evolve(call, json={**(call.json or {}), **pipes}) if pipes else call


def exec_input(call: Call[None], pieces: Iterable[bytes]) -> Call[None]:
    """`PUT /v1/sessions/{id}/executions/{key}/input`: the standard input of a stream's command.

    The command may read slowly, or come to its turn late; the body ends when the command does.
    """
    assert call.cancel_path is not None
    return Call(
        "PUT",
        f"{call.cancel_path}/input",
        _nothing,
        content=lambda: filter(None, pieces),  # an empty one would be the end
        headers={"Content-Type": "application/octet-stream"},
        timeout_seconds=_INPUT_SECONDS,
        is_transfer=True,
    )


def _exec(
    session_id: str, cmd: str, timeout_ms: int, raw_output: bool, *, suffix: str, parse: Callable[[Any], T]
) -> Call[T]:
    timeout_ms = check.timeout_ms(timeout_ms)
    body = {"cmd": check.command(cmd), "timeout_ms": timeout_ms, "raw_output": bool(raw_output)}
    key = _new_key()
    return Call(
        "POST",
        f"{session_path(session_id)}/{suffix}",
        parse,
        json=body,
        wait_ms=timeout_ms or MAX_TIMEOUT_MS,
        in_line=True,
        key=key,
        cancel_path=f"{session_path(session_id)}/executions/{key}",
    )


def kept_alive(call: Call[T], silence_seconds: float) -> Call[T]:
    """Return a command's call for a daemon with the extension `keep-alive`.

    With the header `X-Keep-Alive-Ms` it sends something at least that often, while the command waits in line
    or runs: comments on a stream of events. The answer of an exec that takes longer than that is such a
    stream, too; its only event is `answer`, with `{"status", "body"}`.
    """
    pause_ms = min(max(round(silence_seconds * 1000 / 3), MIN_KEEP_ALIVE_MS), MAX_KEEP_ALIVE_MS)
    headers = {**(call.headers or {}), KEEP_ALIVE_HEADER: str(pause_ms)}
    return evolve(call, headers=headers, wait_ms=0, is_kept_alive=True)


def resumed(call: Call[T], last_event_id: str | None) -> Call[T]:
    """A stream's call to a daemon with the extension `resume`, to go on after an event if one is given."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    # Such a daemon is never silent for long, whatever the command does.
    return evolve(call, headers=headers, wait_ms=min(call.wait_ms, 3 * MAX_KEEP_ALIVE_MS))


def cancel(call: Call[Any], timeout_seconds: float) -> Call[None]:
    """Make the call that reports that nobody waits for a call any more.

    `DELETE /v1/sessions/{id}/executions/{key}` stops a command, `DELETE /v1/creations/{key}` ends a session
    that is being made or was: the extension `idempotency`.
    """
    assert call.cancel_path is not None
    return Call("DELETE", call.cancel_path, _nothing, timeout_seconds=timeout_seconds)


def _new_key() -> str:
    return os.urandom(16).hex()


# --- workspaces


def list_workspaces() -> Call[list[WorkspaceInfo]]:
    """`GET /v1/workspaces`."""
    return _get("/v1/workspaces", _many(WorkspaceInfo, "workspaces"))


def delete_workspace(workspace_id: str) -> Call[None]:
    """`DELETE /v1/workspaces/{id}`."""
    return _delete(workspace_path(workspace_id), _nothing, WorkspaceNotFoundError)


def workspace_path(workspace_id: str) -> str:
    """The path of a workspace."""
    return f"/v1/workspaces/{check.workspace_id(workspace_id)}"


def health() -> Call[Health]:
    """`GET /healthz`."""
    return _get("/healthz", _one(Health))


# --- what many calls are


def _get(path: str, parse: Callable[[Any], T], params: Mapping[str, str | int] | None = None) -> Call[T]:
    return Call("GET", path, parse, params=params, idempotent=True)


def _delete(path: str, parse: Callable[[Any], None], already_done: type[SandkastenError]) -> Call[None]:
    return Call("DELETE", path, parse, idempotent=True, already_done=already_done)


# --- answers


def _nothing(_answer: Any) -> None:
    return None


_RUNNING = "running"
_EXPIRED = "expired"


def _running(answer: Any) -> SessionInfo:
    info = structure(answer, SessionInfo)
    if info.status == _RUNNING:
        return info
    status, code = (410, Code.SESSION_EXPIRED) if info.status == _EXPIRED else (404, Code.SESSION_NOT_FOUND)
    raise RefusedError(
        status, code, f"The session {info.id} has ended or is not ready (its status is {info.status})"
    )


def _destroyed(answer: Any) -> None:
    if as_object(answer).get(ALREADY_DESTROYED):
        raise RefusedError(404, Code.SESSION_NOT_FOUND, "The session was destroyed before")


def _result_without_prompts(answer: Any) -> ExecResult:
    result = structure(answer, ExecResult)
    return evolve(result, output=without_prompts(result.output))


def _one(model: type[T]) -> Callable[[Any], T]:
    return lambda answer: structure(answer, model)


def _many(model: type[T], key: str) -> Callable[[Any], list[T]]:
    def parse(answer: Any) -> list[T]:
        rows = field_of(as_object(answer), key) if isinstance(answer, dict) else answer
        # A Go server writes an empty list as null.
        return Rows(structure([] if rows is None else rows, list[model]))  # type: ignore[valid-type]

    return parse


def _interrupted(answer: Any) -> bool:
    return structure(answer, _InterruptAnswer).interrupted


@frozen(eq=False, repr=False)
class _InterruptAnswer:
    interrupted: bool
