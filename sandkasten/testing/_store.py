"""Files of a fake daemon: what is written, uploaded and read of a mapping from paths to contents."""

from __future__ import annotations

import base64
import fnmatch
import io
import json
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sandkasten.testing._multipart import parts_of
from sandkasten.testing._server import Request
from sandkasten.testing._steps import Answer, error_answer, json_answer

_DEFAULT_READ_BYTES = 10 * 1024 * 1024

Files = dict[str, bytes]
"""Contents by paths relative to /workspace."""


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keep the answer for a call."""
        super().__init__(message)
        self.answer = error_answer(status, code, message)


def json_body(request: Request) -> Mapping[str, Any]:
    """The fields of a request's body; an empty one has none."""
    try:
        body: Any = json.loads(request.body or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RefusedError(400, "INVALID_REQUEST", "The body is not a JSON object.")
    return cast("dict[str, Any]", body)


def inside_path(path: object) -> str:
    """A path relative to /workspace; those that lead out of it are refused."""
    if not isinstance(path, str) or not path:
        raise RefusedError(400, "INVALID_REQUEST", "A path is missing.")
    whole = posixpath.normpath(posixpath.join("/workspace", path))
    if not f"{whole}/".startswith("/workspace/"):
        raise RefusedError(400, "INVALID_REQUEST", f"The path {path!r} leads outside /workspace.")
    return whole.removeprefix("/workspace").removeprefix("/")


def below(files: Files, directory: object) -> Sequence[str]:
    """The paths of the files in a directory and below it, relative to it."""
    path = inside_path(directory)
    prefix = f"{path}/" if path else ""
    return [name.removeprefix(prefix) for name in files if name.startswith(prefix)]


# --- the common calls


def write(files: Files, request: Request) -> Answer:
    """`POST .../fs/write`."""
    body = json_body(request)
    encoded = body.get("content_base64")
    content = str(body.get("text") or "").encode() if encoded is None else base64.b64decode(encoded)
    files[inside_path(body.get("path"))] = content
    return json_answer({"ok": True})


def upload(files: Files, request: Request) -> Answer:
    """`POST .../fs/upload`."""
    parts = list(parts_of(request.headers.get("content-type", ""), request.body))
    plain = {part.name: part.content.decode() for part in parts if part.filename is None}
    uploaded = {part.filename: part.content for part in parts if part.filename}
    if not uploaded:
        raise RefusedError(400, "INVALID_REQUEST", "An upload needs 'file' parts.")
    directory = plain.get("path") or "/workspace"
    stored = {inside_path(posixpath.join(directory, name)): content for name, content in uploaded.items()}
    files.update(stored)
    return json_answer({"ok": True, "paths": [f"/workspace/{path}" for path in stored]})


def read(files: Files, request: Request) -> Answer:
    """`GET .../fs/read`."""
    content = _content(files, request)
    max_bytes = int(request.query.get("max_bytes") or _DEFAULT_READ_BYTES)
    encoded = base64.b64encode(content[:max_bytes]).decode()
    is_cut = len(content) > max_bytes
    return json_answer({"path": request.query["path"], "content_base64": encoded, "truncated": is_cut})


def list_directory(files: Files, request: Request) -> Answer:
    """`GET .../fs`; directories are what files are in, and the top one is always there."""
    path = request.query.get("path") or "/workspace"
    inside = inside_path(path)
    names = below(files, path)
    if inside and not names:
        raise RefusedError(404, "FILE_NOT_FOUND", f"There is no directory {path!r}.")
    entries: dict[str, dict[str, Any]] = {}
    for name in filter(None, sorted(names)):
        first, slash, _ = name.partition("/")
        entry: dict[str, Any] = {"name": first, "is_dir": bool(slash), "kind": "directory"}
        if not slash:
            entry |= {"kind": "file", "size_bytes": len(files[posixpath.join(inside, name)])}
        entries[first] = entry
    return json_answer({"entries": list(entries.values())})


# --- the extension `files`


def make_directory(files: Files, request: Request) -> Answer:
    """`POST .../fs/mkdir`; what is empty stands among the files with a slash at its end."""
    asked = request.query.get("path")
    path = inside_path(asked)
    is_directory = not path or bool(below(files, asked))
    if path in files or (is_directory and request.query.get("exist_ok") != "true"):
        raise RefusedError(409, "FILE_EXISTS", f"{asked!r} exists.")
    parent = posixpath.dirname(path)
    if request.query.get("parents") == "false" and parent and not below(files, parent):
        raise RefusedError(404, "FILE_NOT_FOUND", f"{parent!r} does not exist.")
    if not is_directory:
        files[f"{path}/"] = b""
    return json_answer({"ok": True})


def remove(files: Files, request: Request) -> Answer:
    """`POST .../fs/remove`."""
    asked = request.query.get("path")
    path = inside_path(asked)
    if not path:
        raise RefusedError(400, "INVALID_REQUEST", "/workspace itself cannot be removed.")
    names = _all_of(files, path, missing_ok=request.query.get("missing_ok") == "true")
    if set(names) - {path, f"{path}/"} and request.query.get("recursive") != "true":
        raise RefusedError(409, "DIRECTORY_NOT_EMPTY", f"{asked!r} has something in it.")
    for name in names:
        del files[name]
    return json_answer({"ok": True})


def move(files: Files, request: Request) -> Answer:
    """`POST .../fs/move`."""
    copy(files, request)
    for name in _all_of(files, inside_path(request.query.get("path"))):
        del files[name]
    return json_answer({"ok": True})


def copy(files: Files, request: Request) -> Answer:
    """`POST .../fs/copy`."""
    path, to = (inside_path(request.query.get(name)) for name in ("path", "to"))
    if not path or not to or f"{to}/".startswith(f"{path}/"):
        raise RefusedError(400, "INVALID_REQUEST", "A directory cannot go into itself.")
    names = _all_of(files, path)
    if request.query.get("overwrite") != "true" and _all_of(files, to, missing_ok=True):
        raise RefusedError(409, "FILE_EXISTS", f"{to!r} exists.")
    files.update({to + name.removeprefix(path): files[name] for name in names})
    return json_answer({"ok": True})


def change_mode(files: Files, request: Request) -> Answer:
    """`POST .../fs/chmod`; there are no permissions."""
    _all_of(files, inside_path(request.query.get("path")))
    return json_answer({"ok": True})


def _all_of(files: Files, path: str, *, missing_ok: bool = False) -> Sequence[str]:
    names = [name for name in files if name == path or not path or name.startswith(f"{path}/")]
    if path and not names and not missing_ok:
        raise RefusedError(404, "FILE_NOT_FOUND", f"{path!r} does not exist.")
    return names


def find(files: Files, request: Request) -> Answer:
    """`GET .../fs/find`; `*` and `?` of a pattern match any characters, slashes too."""
    path = request.query.get("path") or "/workspace"
    names = below(files, path)
    if inside_path(path) and not names:
        raise RefusedError(404, "FILE_NOT_FOUND", f"There is no directory {path!r}.")
    entries: dict[str, dict[str, Any]] = {}
    for name in filter(None, names):
        parts = name.rstrip("/").split("/")
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            entries[above] = {"name": above, "is_dir": True, "kind": "directory"}
        if not name.endswith("/"):
            content = files[posixpath.join(inside_path(path), name)]
            entries[name] = {"name": name, "kind": "file", "size_bytes": len(content)}
    depth, pattern = int(request.query.get("depth") or 100), request.query.get("glob") or "**"
    kept = [
        entries[name]
        for name in sorted(entries)
        if name.count("/") < depth and fnmatch.fnmatchcase(f"/{name}", "*/" + pattern.replace("**/", "*"))
    ]
    return json_answer({"entries": kept})


def search(files: Files, request: Request) -> Answer:
    """`GET .../fs/search`, in all files below the path."""
    path = request.query.get("path") or "/workspace"
    try:
        pattern = re.compile(request.query.get("pattern") or "")
    except re.error as error:
        raise RefusedError(
            400, "INVALID_PATTERN", f"The pattern is no regular expression: {error}."
        ) from None
    matches = [
        {"path": name, "line_number": number, "line": line}
        for name in sorted(filter(None, below(files, path)))
        for number, line in enumerate(_text_of(files, path, name).split("\n"), start=1)
        if pattern.search(line)
    ]
    most = int(request.query.get("max_results") or 1000)
    return json_answer({"matches": matches[:most], "truncated": len(matches) > most})


def _text_of(files: Files, path: str, name: str) -> str:
    return files[posixpath.join(inside_path(path), name)].decode("utf-8", "replace")


def stat(files: Files, request: Request) -> Answer:
    """`GET .../fs/stat`; there are no symlinks."""
    asked = request.query.get("path")
    path = inside_path(asked)
    if path in files:
        found = {"kind": "file", "size_bytes": len(files[path]), "mode": 0o644}
    elif not path or below(files, asked):
        found = {"kind": "directory", "size_bytes": 0, "mode": 0o755}
    else:
        raise RefusedError(404, "FILE_NOT_FOUND", f"{asked!r} does not exist.")
    return json_answer({"path": asked, **found})


def get_raw(files: Files, request: Request) -> Answer:
    """`GET .../fs/raw`, with `Range` and `If-Range`."""
    content = _content(files, request)
    etag = f'"{zlib.crc32(content):x}-{len(content):x}"'
    headers = {"Content-Type": "application/octet-stream", "ETag": etag, "X-File-Mode": "644"}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    is_same = request.headers.get("if-range", etag) == etag
    if asked is None or not is_same or int(asked[1]) >= len(content):
        return Answer(200, headers, content)
    start, stop = int(asked[1]), min(int(asked[2] or len(content) - 1) + 1, len(content))
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return Answer(206, headers, content[start:stop])


def put_raw(files: Files, request: Request) -> Answer:
    """`PUT .../fs/raw`."""
    path = inside_path(request.query.get("path"))
    files[path] = request.body
    return json_answer({"ok": True, "path": f"/workspace/{path}", "size_bytes": len(request.body)})


def append(files: Files, request: Request) -> Answer:
    """`POST .../fs/append`."""
    path = inside_path(request.query.get("path"))
    files[path] = files.get(path, b"") + request.body
    return json_answer({"ok": True, "path": f"/workspace/{path}"})


def get_tar(files: Files, request: Request) -> Answer:
    """`GET .../fs/tar`."""
    path = request.query.get("path")
    names = below(files, path)
    if not names:
        raise RefusedError(404, "FILE_NOT_FOUND", f"{path!r} does not exist.")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            if not name or name.endswith("/"):
                continue
            content = files[posixpath.join(inside_path(path), name)]
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return Answer(200, {"Content-Type": "application/x-tar"}, buffer.getvalue())


def put_tar(files: Files, request: Request) -> Answer:
    """`PUT .../fs/tar`."""
    path = inside_path(request.query.get("path"))
    with tarfile.open(fileobj=io.BytesIO(request.body), mode="r:") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                files[inside_path(posixpath.join(path, member.name))] = content.read()
    return json_answer({"ok": True, "path": f"/workspace/{path}"})


def _content(files: Files, request: Request) -> bytes:
    asked = request.query.get("path")
    path = inside_path(asked)
    if path in files:
        return files[path]
    if not path or below(files, asked):
        raise RefusedError(400, "IS_DIRECTORY", f"{asked!r} is a directory.")
    raise RefusedError(404, "FILE_NOT_FOUND", f"{asked!r} does not exist.")


# --- which there are


@dataclass(frozen=True)
class FileCall:
    """A call about the files of a session or of a workspace.

    Attributes:
        method: the HTTP verb.
        path: the end of its path, from `/fs` on.
        answer: makes the answer.
        creates: whether it makes a workspace that is not there yet.
        extension: the extension that it belongs to.
    """

    method: str
    path: str
    answer: Callable[[Files, Request], Answer]
    creates: bool = False
    extension: str | None = None


# By the client's names for them.
FILE_CALLS: Mapping[str, FileCall] = {
    "write": FileCall("POST", "/fs/write", write, creates=True),
    "upload": FileCall("POST", "/fs/upload", upload, creates=True),
    "read": FileCall("GET", "/fs/read", read),
    "list_directory": FileCall("GET", "/fs", list_directory),
    "stat": FileCall("GET", "/fs/stat", stat, extension="files"),
    "find": FileCall("GET", "/fs/find", find, extension="files"),
    "search": FileCall("GET", "/fs/search", search, extension="files"),
    "mkdir": FileCall("POST", "/fs/mkdir", make_directory, creates=True, extension="files"),
    "remove": FileCall("POST", "/fs/remove", remove, extension="files"),
    "move": FileCall("POST", "/fs/move", move, extension="files"),
    "copy": FileCall("POST", "/fs/copy", copy, extension="files"),
    "chmod": FileCall("POST", "/fs/chmod", change_mode, extension="files"),
    "get_raw": FileCall("GET", "/fs/raw", get_raw, extension="files"),
    "put_raw": FileCall("PUT", "/fs/raw", put_raw, creates=True, extension="files"),
    "append": FileCall("POST", "/fs/append", append, creates=True, extension="files"),
    "get_tar": FileCall("GET", "/fs/tar", get_tar, extension="files"),
    "put_tar": FileCall("PUT", "/fs/tar", put_tar, creates=True, extension="files"),
}
