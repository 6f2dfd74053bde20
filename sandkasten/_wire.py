"""The wire protocol without any I/O: verbs become `Call`s, answers become models or errors.

A `Call` says what to send and how to understand the answer. `_http` sends it, in both worlds, and
knows nothing else; so everything that can be decided without waiting is decided here, once.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import IO, Any, Generic, TypeVar

import httpx
from attrs import frozen

from sandkasten import _checks as check
from sandkasten._answers import as_object, error_from, field_of, json_of, structure
from sandkasten.errors import SandkastenResponseError
from sandkasten.models import (
    DirEntry,
    ExecResult,
    Health,
    ReadResult,
    SessionInfo,
    SessionStats,
    WorkspaceInfo,
)

T = TypeVar("T")

# What a daemon may take for a command when `timeout_ms` is 0.
MAX_TIMEOUT_MS = 600_000


@frozen
class Call(Generic[T]):
    """One request, and how to read its answer.

    Attributes:
        method: the HTTP verb.
        path: the path, already quoted.
        parse: makes the result from the answer's JSON.
        json: the body, if it is JSON.
        params: the query.
        data: the plain fields of a multipart body.
        file: the file part of a multipart body: its name and its open file or bytes.
        wait_ms: how long the daemon may rightly be busy with it, beyond the client's own timeout.
    """

    method: str
    path: str
    parse: Callable[[Any], T]
    json: Mapping[str, Any] | None = None
    params: Mapping[str, str | int] | None = None
    data: Mapping[str, str] | None = None
    file: tuple[str, IO[bytes] | bytes] | None = None
    wait_ms: int = 0


def receive(call: Call[T], response: httpx.Response) -> T:
    """Read the answer to a call.

    Raises:
        SandkastenAPIError: the daemon answered with an error, by its class.
        SandkastenResponseError: the answer is not what the daemon answers to this call.
    """
    if not response.is_success:
        raise error_from(response)
    return call.parse(json_of(response))


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
    return Call("POST", "/v1/sessions", _one(SessionInfo), json=body)


def get_session(session_id: str) -> Call[SessionInfo]:
    """`GET /v1/sessions/{id}`."""
    return Call("GET", session_path(session_id), _one(SessionInfo))


def list_sessions() -> Call[list[SessionInfo]]:
    """`GET /v1/sessions`: a bare array, or `{"sessions": [...]}` from some servers."""
    return Call("GET", "/v1/sessions", _many(SessionInfo, "sessions"))


def destroy_session(session_id: str) -> Call[None]:
    """`DELETE /v1/sessions/{id}`."""
    return Call("DELETE", session_path(session_id), _nothing)


def session_stats(session_id: str) -> Call[SessionStats]:
    """`GET /v1/sessions/{id}/stats`."""
    return Call("GET", f"{session_path(session_id)}/stats", _one(SessionStats))


def interrupt(session_id: str) -> Call[bool]:
    """`POST /v1/sessions/{id}/interrupt`, the extension `interrupt`."""
    return Call("POST", f"{session_path(session_id)}/interrupt", _interrupted)


def session_path(session_id: str) -> str:
    """Where a session lives."""
    return f"/v1/sessions/{check.session_id(session_id)}"


# --- exec


def exec_command(session_id: str, cmd: str, timeout_ms: int, *, raw_output: bool) -> Call[ExecResult]:
    """`POST /v1/sessions/{id}/exec`."""
    return _exec(session_id, cmd, timeout_ms, raw_output, suffix="exec", parse=_one(ExecResult))


def exec_stream(session_id: str, cmd: str, timeout_ms: int, *, raw_output: bool) -> Call[None]:
    """`POST /v1/sessions/{id}/exec/stream`; its events are read by `_events.StreamReader`."""
    return _exec(session_id, cmd, timeout_ms, raw_output, suffix="exec/stream", parse=_nothing)


def _exec(
    session_id: str, cmd: str, timeout_ms: int, raw_output: bool, *, suffix: str, parse: Callable[[Any], T]
) -> Call[T]:
    timeout_ms = check.timeout_ms(timeout_ms, MAX_TIMEOUT_MS)
    body = {"cmd": check.command(cmd), "timeout_ms": timeout_ms, "raw_output": bool(raw_output)}
    path = f"{session_path(session_id)}/{suffix}"
    return Call("POST", path, parse, json=body, wait_ms=timeout_ms or MAX_TIMEOUT_MS)


# --- files, of a session or of a workspace (`owner` is the path of either)


def write_file(owner: str, path: str | PurePosixPath, content: str | bytes) -> Call[None]:
    """`POST {owner}/fs/write`.

    An empty file goes as an upload, since the Go daemon takes an empty `text` for a missing one.
    """
    path = check.sandbox_path(path)
    content = check.content(content)
    if not content:
        directory, name = posixpath.split(path)
        return Call(
            "POST", f"{owner}/fs/upload", _nothing, data={"path": directory or "/workspace"}, file=(name, b"")
        )
    body = {"path": path}
    if isinstance(content, str):
        body["text"] = content
    else:
        body["content_base64"] = base64.b64encode(content).decode()
    return Call("POST", f"{owner}/fs/write", _nothing, json=body)


def read_file(owner: str, path: str | PurePosixPath, max_bytes: int | None) -> Call[ReadResult]:
    """`GET {owner}/fs/read`."""
    params: dict[str, str | int] = {"path": check.sandbox_path(path)}
    if max_bytes is not None:
        params["max_bytes"] = check.max_bytes(max_bytes)
    return Call("GET", f"{owner}/fs/read", _read_result, params=params)


def upload_file(owner: str, name: str, file: IO[bytes], dest_path: str | PurePosixPath) -> Call[list[str]]:
    """`POST {owner}/fs/upload`, one file."""
    data = {"path": check.sandbox_path(dest_path, name="dest_path")}
    return Call("POST", f"{owner}/fs/upload", _paths, data=data, file=(name, file))


# --- workspaces


def list_workspaces() -> Call[list[WorkspaceInfo]]:
    """`GET /v1/workspaces`."""
    return Call("GET", "/v1/workspaces", _many(WorkspaceInfo, "workspaces"))


def delete_workspace(workspace_id: str) -> Call[None]:
    """`DELETE /v1/workspaces/{id}`."""
    return Call("DELETE", workspace_path(workspace_id), _nothing)


def list_directory(workspace_id: str, path: str | PurePosixPath) -> Call[list[DirEntry]]:
    """`GET /v1/workspaces/{id}/fs`."""
    params = {"path": check.sandbox_path(path)}
    return Call("GET", f"{workspace_path(workspace_id)}/fs", _many(DirEntry, "entries"), params=params)


def workspace_path(workspace_id: str) -> str:
    """Where a workspace lives."""
    return f"/v1/workspaces/{check.workspace_id(workspace_id)}"


def health() -> Call[Health]:
    """`GET /healthz`."""
    return Call("GET", "/healthz", _one(Health))


# --- answers


def _nothing(_answer: Any) -> None:
    return None


def _one(model: type[T]) -> Callable[[Any], T]:
    return lambda answer: structure(answer, model)


def _many(model: type[T], key: str) -> Callable[[Any], list[T]]:
    def parse(answer: Any) -> list[T]:
        rows = field_of(as_object(answer), key) if isinstance(answer, dict) else answer
        # A Go server writes an empty list as null.
        return structure([] if rows is None else rows, list[model])  # type: ignore[valid-type]

    return parse


def _read_result(answer: Any) -> ReadResult:
    raw = structure(answer, _ReadAnswer)
    try:
        content = base64.b64decode(raw.content_base64, validate=True)
    except ValueError as error:
        raise SandkastenResponseError(
            "The daemon's answer has a content_base64 that is not base64."
        ) from error
    return ReadResult(content=content, path=raw.path, truncated=raw.truncated)


def _interrupted(answer: Any) -> bool:
    return structure(answer, _InterruptAnswer).interrupted


def _paths(answer: Any) -> list[str]:
    return list(structure(answer, _UploadAnswer).paths)


@frozen
class _ReadAnswer:
    path: str
    content_base64: str
    truncated: bool = False


@frozen
class _InterruptAnswer:
    interrupted: bool


@frozen
class _UploadAnswer:
    paths: Sequence[str]
