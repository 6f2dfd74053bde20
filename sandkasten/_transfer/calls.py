"""The calls that carry files, of a session or of a workspace.

Those to `fs/raw` and `fs/tar` are the extension `files`: bodies are the bytes as they are. So is the listing
of a session's directories, and the fields of a listing beyond names.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

import httpx
from attrs import evolve, frozen

from sandkasten import _checks as check
from sandkasten import _wire
from sandkasten._answers import RefusedError, api_error, as_object, structure
from sandkasten._names import from_json
from sandkasten._protocol import Code
from sandkasten._tar import ERROR_NOTE, TarError, TarReader
from sandkasten._transfer.pieces import SMALL_BYTES
from sandkasten._transfer.places import in_workspace
from sandkasten._transfer.sources import Source
from sandkasten._wire import Call
from sandkasten.errors import SandkastenAPIError, SandkastenResponseError
from sandkasten.models import DirEntry, ExecResult, FileStat, ReadResult, SearchResult

# Nothing between here and there may change the bytes, or count others.
_AS_IT_IS = {"Accept-Encoding": "identity"}
# Writing what was received to the disk takes a while after the last byte.
_WAIT_MS = 120_000
# A directory may hold a million files.
_CHANGE_MS = 600_000

S = TypeVar("S")
T = TypeVar("T")
Body = Callable[[], Iterator[bytes]]


@frozen(eq=False, repr=False)
class FilesOf:
    """The session or the workspace whose files a call is about.

    Attributes:
        path: the beginning of the paths of its calls.
        session_id: the id of a session, in which commands can be run; None: a workspace.
    """

    path: str
    session_id: str | None = None

    def sent(self, path: str | PurePosixPath) -> str:
        """Return a path as the calls of the common protocol take it."""
        return in_workspace(path) if self.session_id is None else check.sandbox_path(path)


# --- the common calls


def write_json(of: FilesOf, path: str | PurePosixPath, content: str | bytes) -> Call[None]:
    """`POST {owner}/fs/write`; the content must not be empty, which the Go daemon takes for missing."""
    body = {"path": of.sent(path)}
    if isinstance(content, str):
        body["text"] = content
    else:
        body["content_base64"] = base64.b64encode(content).decode()
    call = Call("POST", f"{of.path}/fs/write", _nothing, idempotent=True)
    if len(content) <= SMALL_BYTES:
        return evolve(call, json=body)
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(data))}
    return evolve(call, content=partial(_pieces, data), headers=headers, is_transfer=True)


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[start : start + SMALL_BYTES] for start in range(0, len(data), SMALL_BYTES))


def read_json(of: FilesOf, path: str | PurePosixPath, max_bytes: int) -> Call[ReadResult]:
    """`GET {owner}/fs/read`."""
    params: dict[str, str | int] = {"path": of.sent(path), "max_bytes": max_bytes}
    return Call(
        "GET", f"{of.path}/fs/read", partial(_read_result, path=str(path)), params=params, idempotent=True
    )


def no_directory(of: FilesOf, path: str) -> Call[ReadResult]:
    """`GET {owner}/fs/read`, whose success is the error that the path is not a directory."""

    def refuse(_answer: Any) -> ReadResult:
        raise RefusedError(400, Code.NOT_A_DIRECTORY, f"{path[:200]!r} is not a directory.")

    return evolve(read_json(of, path, 1), parse=refuse)


def upload(of: FilesOf, directory: str, files: Sequence[tuple[str, bytes]]) -> Call[list[str]]:
    """`POST {owner}/fs/upload`: files, each a plain name and its content, into one directory."""
    return Call(
        "POST",
        f"{of.path}/fs/upload",
        _paths,
        data={"path": of.sent(directory)},
        files=files,
        is_transfer=True,
        idempotent=True,
    )


def list_directory(of: FilesOf, path: str | PurePosixPath) -> Call[list[DirEntry]]:
    """`GET {owner}/fs`, which workspaces have; for a session it is the extension `files`."""
    params = {"path": of.sent(path)}
    return Call("GET", f"{of.path}/fs", _entries, params=params, idempotent=True)


def find(of: FilesOf, path: str, depth: int | None, pattern: str | None) -> Call[list[DirEntry]]:
    """`GET {owner}/fs/find`, of the extension `files`."""
    params: dict[str, str | int] = {"path": path}
    params |= {} if depth is None else {"depth": depth}
    params |= {} if pattern is None else {"glob": pattern}
    return Call("GET", f"{of.path}/fs/find", _entries, params=params, wait_ms=_WAIT_MS, idempotent=True)


def search(of: FilesOf, params: Mapping[str, str | int], timeout_ms: int) -> Call[SearchResult]:
    """`GET {owner}/fs/search`, of the extension `files`."""
    params = {**params, "timeout_ms": timeout_ms}
    # Others may be searching already.
    wait_ms = timeout_ms + _WAIT_MS
    return Call(
        "GET", f"{of.path}/fs/search", _search_result, params=params, wait_ms=wait_ms, idempotent=True
    )


def stat(of: FilesOf, path: str, *, follow_symlinks: bool) -> Call[FileStat]:
    """`GET {owner}/fs/stat`, of the extension `files`."""
    params = {"path": path, "follow_symlinks": "true" if follow_symlinks else "false"}
    return Call("GET", f"{of.path}/fs/stat", partial(_stat, path=path), params=params, idempotent=True)


def make_directory(of: FilesOf, path: str, *, parents: bool, exist_ok: bool) -> Call[None]:
    """`POST {owner}/fs/mkdir`, of the extension `files`."""
    return _change(of, "mkdir", path, parents=parents, exist_ok=exist_ok, idempotent=exist_ok)


def remove(of: FilesOf, path: str, *, recursive: bool, missing_ok: bool) -> Call[None]:
    """`POST {owner}/fs/remove`, of the extension `files`."""
    return _change(of, "remove", path, recursive=recursive, missing_ok=missing_ok, idempotent=missing_ok)


def move(of: FilesOf, path: str, to: str, *, overwrite: bool) -> Call[None]:
    """`POST {owner}/fs/move`, of the extension `files`."""
    return _change(of, "move", path, to=to, overwrite=overwrite)


def copy(of: FilesOf, path: str, to: str, *, overwrite: bool) -> Call[None]:
    """`POST {owner}/fs/copy`, of the extension `files`."""
    return _change(of, "copy", path, to=to, overwrite=overwrite, idempotent=overwrite)


def change_mode(of: FilesOf, path: str, mode: int) -> Call[None]:
    """`POST {owner}/fs/chmod`, of the extension `files`."""
    return _change(of, "chmod", path, mode=f"{mode:o}", idempotent=True)


def _change(of: FilesOf, verb: str, path: str, *, idempotent: bool = False, **more: str | bool) -> Call[None]:
    # What would find its own work done is not idempotent: it is not tried again once it may have been sent.
    said = {name: value if isinstance(value, str) else str(value).lower() for name, value in more.items()}
    return Call(
        "POST",
        f"{of.path}/fs/{verb}",
        _nothing,
        params={"path": path, **said},
        wait_ms=_CHANGE_MS,
        idempotent=idempotent,
    )


def command(session_id: str, cmd: str, *, idempotent: bool = False, timeout_ms: int = 0) -> Call[ExecResult]:
    """A command in the session's shell."""
    call = _wire.exec_command(session_id, cmd, timeout_ms, raw_output=False)
    return evolve(call, idempotent=idempotent)


def read_by(call: Call[S], read: Callable[[S], T]) -> Call[T]:
    """Return a call whose result another function makes something of."""

    def then(parse: Callable[[Any], S]) -> Callable[[Any], T]:
        return lambda answer: read(parse(answer))

    unnamed = dict(call.unnamed or {})
    if "parse" in unnamed:
        unnamed["parse"] = then(unnamed["parse"])
    return cast("Call[T]", evolve(cast("Any", call), parse=then(call.parse), unnamed=unnamed or None))


# --- the extension


def put_raw(of: FilesOf, path: str, body: Body, source: Source) -> Call[str]:
    """`PUT {owner}/fs/raw`; the answer is the file's path."""
    params = {"path": path} | ({} if source.mode is None else {"mode": f"{source.mode:o}"})
    params |= {} if source.follow_symlinks else {"follow_symlinks": "false"}
    return _put(f"{of.path}/fs/raw", params, body, source.size_bytes)


def append(of: FilesOf, path: str, body: Body, size_bytes: int | None) -> Call[str]:
    """`POST {owner}/fs/append`; nobody knows whether one whose answer was lost was added."""
    call = _put(f"{of.path}/fs/append", {"path": path}, body, size_bytes)
    return evolve(call, method="POST", idempotent=False)


def put_tar(of: FilesOf, path: str, body: Body) -> Call[str]:
    """`PUT {owner}/fs/tar`: unpack an archive into a directory; the answer is its path."""
    return _put(f"{of.path}/fs/tar", {"path": path}, body, None)


def get_raw(of: FilesOf, path: str, headers: Mapping[str, str]) -> Call[None]:
    """`GET {owner}/fs/raw`; the body is the file, or the part of it that `headers` ask for."""
    return _get(f"{of.path}/fs/raw", {"path": path}, headers)


def get_tar(of: FilesOf, path: str) -> Call[None]:
    """`GET {owner}/fs/tar`; the body is an archive of a directory."""
    return _get(f"{of.path}/fs/tar", {"path": path}, {})


def _put(path: str, params: Mapping[str, str], body: Body, size_bytes: int | None) -> Call[str]:
    length = {} if size_bytes is None else {"Content-Length": str(size_bytes)}
    return Call(
        "PUT",
        path,
        _path,
        params=params,
        content=body,
        headers={"Content-Type": "application/octet-stream", **length},
        wait_ms=_WAIT_MS,
        is_transfer=True,
        idempotent=True,
    )


def _get(path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Call[None]:
    return Call(
        "GET",
        path,
        _nothing,
        params=params,
        headers={**_AS_IT_IS, **headers},
        is_transfer=True,
        idempotent=True,
    )


def error_in_archive(notes: Mapping[str, str], response: httpx.Response) -> SandkastenAPIError | None:
    """The error that ended an archive, if one did."""
    if ERROR_NOTE not in notes:
        return None
    body: Mapping[str, Any] = {}
    with suppress(ValueError, RecursionError):
        body = as_object(json.loads(notes[ERROR_NOTE]))
    return api_error(str(body.get("message", "The daemon could not pack the directory")), body, response)


def fed(reader: TarReader, piece: bytes) -> None:
    """Let a reader look at the next piece of a daemon's archive.

    Raises:
        SandkastenResponseError: it is not one.
    """
    try:
        reader.feed(piece)
    except TarError as error:
        raise SandkastenResponseError(f"The daemon's answer is no archive. {error}") from error


def check_archive(reader: TarReader, response: httpx.Response) -> None:
    """Make sure that a daemon's archive is complete.

    Raises:
        SandkastenError: it is not; the daemon may have said why.
    """
    if (error := error_in_archive(reader.notes, response)) is not None:
        raise error
    try:
        reader.close()
    except TarError as error:
        raise SandkastenResponseError(f"The daemon's answer is no archive. {error}") from error


# --- answers


def _nothing(_answer: Any) -> None:
    return None


def _read_result(answer: Any, *, path: str) -> ReadResult:
    raw = structure(answer, _ReadAnswer)
    try:
        content = base64.b64decode(raw.content_base64, validate=True)
    except ValueError as error:
        raise SandkastenResponseError(
            "The daemon's answer has a content_base64 that is not base64."
        ) from error
    return ReadResult(content=content, path=path, truncated=raw.truncated)


def _paths(answer: Any) -> list[str]:
    return list(structure(answer, _UploadAnswer).paths)


def _path(answer: Any) -> str:
    return structure(_named("path", answer), _PutAnswer).path


def _named(field: str, answer: Any) -> Any:
    try:
        return from_json(field, answer)
    except ValueError as error:
        raise SandkastenResponseError(
            f"The daemon's answer has a {field}_base64 that is not base64."
        ) from error


def _entries(answer: Any) -> list[DirEntry]:
    rows: list[Any] | None = as_object(answer).get("entries")
    if isinstance(rows, list):
        named = [_named("link_target", _named("name", row)) for row in rows]
        answer = {**answer, "entries": named}
    # A Go server writes an empty list as null.
    return list(structure(answer, _ListAnswer).entries or ())


def _search_result(answer: Any) -> SearchResult:
    rows: list[Any] | None = as_object(answer).get("matches")
    if isinstance(rows, list):
        answer = {**answer, "matches": [_named("path", row) for row in rows]}
    return structure(answer, SearchResult)


def _stat(answer: Any, *, path: str) -> FileStat:
    named = as_object(_named("link_target", answer))
    return structure({**named, "path": path}, FileStat)


@frozen(eq=False, repr=False)
class _ReadAnswer:
    content_base64: str
    truncated: bool = False


@frozen(eq=False, repr=False)
class _UploadAnswer:
    paths: Sequence[str]


@frozen(eq=False, repr=False)
class _PutAnswer:
    path: str


@frozen(eq=False, repr=False)
class _ListAnswer:
    entries: Sequence[DirEntry] | None = None
