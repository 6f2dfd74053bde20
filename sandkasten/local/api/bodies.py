"""Requests' bodies and queries, read and checked, so that the handlers hold valid values."""

from __future__ import annotations

import binascii
import io
import posixpath
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import field
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, Any, TypeVar

from sandkasten._names import param_of
from sandkasten._options.packages import problem_with_packages
from sandkasten._options.rules import (
    problem_with_directory,
    problem_with_environment,
    problem_with_labels,
    problem_with_name,
)
from sandkasten._protocol import (
    DEFAULT_JSON_READ_BYTES,
    KEEP_ALIVE_HEADER,
    MAX_COMMAND_BYTES,
    MAX_JSON_READ_BYTES,
    MAX_KEEP_ALIVE_MS,
    MAX_TIMEOUT_MS,
    MAX_TTL_SECONDS,
    MIN_KEEP_ALIVE_MS,
    NETWORKS,
    WORKSPACE,
)
from sandkasten.local.api.bodystream import pieces_of
from sandkasten.local.api.http.forms import Form
from sandkasten.local.api.http.messages import Headers, Request
from sandkasten.local.api.jsonbodies import (
    COMMAND_BYTES,
    CONTENT_BYTES,
    CREATION_BYTES,
    Fields,
    decode_base64,
    flag_of,
    number_of,
    object_of,
    read_json,
    text_of,
)
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.resolving import whole_path
from sandkasten.local.files.tarballs import PIECE_BYTES
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.session import SessionSpec
from sandkasten.local.threads import in_thread

D = TypeVar("D")
Admit = Callable[[int], Awaitable[None]]
"""Raises an error if there is no room for so many bytes of a body."""

# Files, and a few fields; one of these, `path`, is known here.
MAX_UPLOAD_PARTS = 1016
_FIELD_BYTES = 1024 * 1024
# Of each file of a form so much is in memory, and the rest in a temporary file.
_SPOOLED_BYTES = 64 * 1024
_NO_UPLOAD = "An upload needs 'file' parts, and 'path' as a plain field."


@dataclass(frozen=True)
class ExecBody:
    """`POST .../exec`."""

    cmd: str
    timeout_ms: int
    raw_output: bool
    pipe_input: bool
    pipe_output: bool
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None


@dataclass(frozen=True)
class WriteBody:
    """`POST .../fs/write`."""

    path: str
    source: io.BytesIO
    size_bytes: int


async def create_body(request: Request) -> SessionSpec:
    """Read a request for a session; an empty body asks for all defaults."""
    return await read_json(request, CREATION_BYTES, _creation, may_be_empty=True)


def _creation(body: Fields) -> SessionSpec:
    return SessionSpec(
        image=text_of(body, "image", default="python") or "python",
        ttl_seconds=number_of(body, "ttl_seconds", MAX_TTL_SECONDS) or 0,
        workspace_id=text_of(body, "workspace_id", default="") or None,
        host_network=_host_network(body),
        environment=_checked(body, "env", problem_with_environment) or {},
        cwd=_checked(body, "cwd", problem_with_directory),
        labels=_checked(body, "labels", problem_with_labels) or {},
        name=_checked(body, "name", problem_with_name),
        limits=object_of(body, "limits") or {},
        python_environment=text_of(body, "python_environment", default="") or None,
        packages=tuple(_checked(body, "packages", problem_with_packages) or ()),
    )


async def packages_body(request: Request) -> tuple[str, ...]:
    """Read the packages that a session is to have, too."""

    def read(body: Fields) -> tuple[str, ...]:
        packages = tuple(_checked(body, "packages", problem_with_packages) or ())
        if not packages:
            raise invalid_request("'packages' must be given as a list of requirements that is not empty.")
        return packages

    return await read_json(request, CREATION_BYTES, read)


async def renew_body(request: Request) -> int:
    """Read a new lifetime in seconds; 0 leaves it as it is."""

    def read(body: Fields) -> int:
        return number_of(body, "ttl_seconds", MAX_TTL_SECONDS) or 0

    return await read_json(request, CREATION_BYTES, read, may_be_empty=True)


async def exec_body(request: Request) -> ExecBody:
    """Read a command."""
    return await read_json(request, COMMAND_BYTES, _command)


def _command(body: Fields) -> ExecBody:
    cmd = text_of(body, "cmd")
    if not cmd or "\0" in cmd:
        raise invalid_request("'cmd' is empty, or contains a NUL.")
    if len(cmd.encode()) > MAX_COMMAND_BYTES:
        raise invalid_request(f"'cmd' is longer than {MAX_COMMAND_BYTES} bytes.")
    timeout_ms = number_of(body, "timeout_ms", MAX_TIMEOUT_MS) or MAX_TIMEOUT_MS
    flags = (flag_of(body, name) for name in ("raw_output", "pipe_input", "pipe_output"))
    env: dict[str, str] = _checked(body, "env", problem_with_environment) or {}
    cwd = _checked(body, "cwd", problem_with_directory)
    raw_output, pipe_input, pipe_output = flags
    return ExecBody(cmd, timeout_ms, raw_output, pipe_input, pipe_output, env, cwd)


async def write_body(request: Request) -> WriteBody:
    """Read a file's new content."""
    return await read_json(request, CONTENT_BYTES, partial(_content, request))


def _content(request: Request, body: Fields) -> WriteBody:
    path = _meant(request, text_of(body, "path"))
    whole_path(path)
    if body.get("content_base64") is not None:
        # Clients may break it into lines, as the Go daemon lets them.
        encoded = text_of(body, "content_base64").replace("\r", "").replace("\n", "")
        try:
            source = decode_base64(encoded)
        except (binascii.Error, ValueError):
            raise invalid_request("'content_base64' is not base64.") from None
    elif body.get("text") is not None:
        source = io.BytesIO(text_of(body, "text").encode())
    else:
        raise invalid_request("Either 'text' or 'content_base64' must be given.")
    return WriteBody(path, source, source.getbuffer().nbytes)


@dataclass(frozen=True)
class UploadedFile:
    """A file of `POST .../fs/upload`: where it goes, and its content on this machine's disk."""

    path: str
    source: IO[bytes]
    size_bytes: int


@asynccontextmanager
async def uploaded(request: Request, admit: Admit) -> AsyncGenerator[list[UploadedFile], None]:
    """Read an upload, for which `admit` finds room as it comes; its files are there until the block ends."""
    media_type = request.headers.get("content-type", "")
    if media_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise invalid_request(_NO_UPLOAD)  # before it is received
    form = Form(media_type, _admitted(request, admit))
    directory, files = "", list[tuple[str, IO[bytes]]]()
    with ExitStack() as opened:
        for _ in range(MAX_UPLOAD_PARTS):
            part = await form.next_part()
            if part is None:
                break
            if part.filename is None:
                value = await form.field(part.name, _FIELD_BYTES)
                directory = value.decode("utf-8", "surrogateescape") if part.name == "path" else directory
            elif part.name in {"file", "files"}:
                file = opened.enter_context(SpooledTemporaryFile(_SPOOLED_BYTES))
                files.append((_file_name(part.filename), file))
                await _spool(form.content(), file)
            elif part.name == "path":
                raise invalid_request(_NO_UPLOAD)
            else:
                await _spool(form.content(), None)
        else:
            raise invalid_request(f"The form has more than {MAX_UPLOAD_PARTS} parts. Send fewer files.")
        await form.drop_rest()
        if not files:
            raise invalid_request(_NO_UPLOAD)
        directory = _meant(request, directory or WORKSPACE)
        yield [_uploaded(posixpath.join(directory, name), file) for name, file in files]


async def _spool(content: AsyncIterator[bytes], file: IO[bytes] | None) -> None:
    """Write a part's content to a file, or drop it."""
    size_bytes = 0
    async for piece in content:
        size_bytes += len(piece)
        if file is not None and size_bytes <= _SPOOLED_BYTES:
            file.write(piece)  # in memory
        elif file is not None:
            await in_thread(file.write, piece)


def _uploaded(path: str, file: IO[bytes]) -> UploadedFile:
    size_bytes = file.tell()
    file.seek(0)
    return UploadedFile(path, file, size_bytes)


async def _admitted(request: Request, admit: Admit) -> AsyncGenerator[bytes, None]:
    """Yield a body that comes in time, and only what there is room for: it lies on the disk for a while."""
    came_bytes = asked_bytes = 0
    async for piece, _more in pieces_of(request):
        came_bytes += len(piece)
        if came_bytes - asked_bytes >= PIECE_BYTES:
            asked_bytes = came_bytes
            await admit(came_bytes)
        yield piece


def _file_name(path: str | None) -> str:
    """Return the last part of what a client names a file: some name it by the path that it has there."""
    name = posixpath.basename(path or "")
    if name in {"", ".", ".."} or "\0" in name:
        raise invalid_request(f"{(path or '')[:80]!r} is not a file name.")
    return name


def keep_alive_seconds(request: Request) -> float | None:
    """Return how often a client wants to hear that its command still waits or runs; None: it did not ask."""
    text = request.headers.get(KEEP_ALIVE_HEADER.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= MIN_KEEP_ALIVE_MS):
        raise invalid_request(
            f"{KEEP_ALIVE_HEADER} must be a whole number of milliseconds, at least {MIN_KEEP_ALIVE_MS}."
        )
    return min(int(text), MAX_KEEP_ALIVE_MS) / 1000


def path_query(request: Request, default: str | None = None, *, name: str = "path") -> str:
    """The `path` of a query, or another path in it."""
    path = param_of(request.query, name) or default
    if not path:
        raise invalid_request(f"The query needs a {name!r}.")
    return _meant(request, path)


def _meant(request: Request, path: str) -> str:
    """Return the path that a client means: in a workspace, `/` and `/x` are seen from its root as well."""
    is_below = path == WORKSPACE or path.startswith(f"{WORKSPACE}/")
    if "workspace_id" not in request.path_params or not path.startswith("/") or is_below:
        return path
    return path.lstrip("/") or "."


def flag_query(request: Request, name: str, *, default: bool) -> bool:
    """Return a value of the query that is `true` or `false`."""
    text = param_of(request.query, name)
    if text not in {None, "true", "false"}:
        raise invalid_request(f"'{name}' must be true or false.")
    return default if text is None else text == "true"


def number_query(request: Request, name: str, default: D, most: int, *, least: int = 1) -> int | D:
    """Return a whole number of the query, within bounds."""
    text = param_of(request.query, name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and least <= int(text) <= most):
        raise invalid_request(f"{name!r} must be a whole number from {least} to {most}.")
    return int(text)


def mode_query(request: Request, *, most: int = 0o777) -> int | None:
    """The `mode` of a query, permission bits in octal; None: as it is."""
    text = param_of(request.query, "mode") or ""
    if not re.fullmatch(r"[0-7]{0,4}", text) or int(text or "0", 8) > most:
        raise invalid_request(f"'mode' must be permission bits in octal, such as 644, at most {most:o}.")
    return int(text, 8) if text else None


def asked_range(headers: Headers, size_bytes: int, etag: str) -> range | None:
    """Return the bytes that a request asks for with one `Range` from a first byte on, or None for all.

    Raises:
        ApiError: the range begins behind the end.
    """
    found = re.fullmatch(r"bytes=(\d{1,19})-(\d{0,19})", headers.get("range", ""), re.ASCII)
    if found is None or size_bytes == 0 or headers.get("if-range", etag) != etag:
        return None
    first, last = int(found[1]), int(found[2] or size_bytes)
    if first >= size_bytes:
        raise ApiError(416, "INVALID_REQUEST", f"The file has {size_bytes} bytes; the range begins behind.")
    return None if last < first else range(first, min(last + 1, size_bytes))


def content_length(headers: Headers) -> int | None:
    """The size of the body in bytes, if the client says it."""
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def max_bytes_query(request: Request) -> int:
    """The `max_bytes` of a query; 0 asks for as much as one answer may hold."""
    text = param_of(request.query, "max_bytes") or str(DEFAULT_JSON_READ_BYTES)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_JSON_READ_BYTES):
        raise invalid_request(f"'max_bytes' must be a whole number from 0 to {MAX_JSON_READ_BYTES}.")
    return int(text) or MAX_JSON_READ_BYTES


def _host_network(body: Fields) -> bool:
    network = text_of(body, "network", default="none")
    if network not in NETWORKS:
        raise invalid_request("'network' must be 'none' or 'host'.")
    return network == "host"


def _checked(body: Fields, name: str, find_problem: Callable[[Any], str | None]) -> Any:
    value = body.get(name)
    if value is not None and (problem := find_problem(value)) is not None:
        raise invalid_request(problem)
    return value
