"""The rules of the Go daemon, without I/O; each was seen on a real one.

`GoDaemon` in `tests/go_daemon.py` applies them to requests and answers.
"""

from __future__ import annotations

import codecs
import json
import posixpath
import re
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandkasten.testing._multipart import Part, parts_of
from sandkasten.testing._steps import Answer, error_answer, event, json_answer

MAX_JSON_BYTES = 2 * 1024 * 1024
MAX_UPLOAD_BYTES = 10 * 1024 * 1024
MAX_UPLOAD_FILES = 100
MAX_OUTPUT_BYTES = 5 * 1024 * 1024
# Requests to the runner and answers from it are lines of JSON, and a line is read into a buffer.
MAX_LINE_BYTES = MAX_OUTPUT_BYTES + 4096
MAX_COMMAND_BYTES = 1024 * 1024
INLINE_COMMAND_BYTES = 16 * 1024  # longer ones go through a file in /workspace
MAX_TIMEOUT_MS = 600_000
DEFAULT_READ_BYTES = 10 * 1024 * 1024
MAX_READ_BYTES = 100 * 1024 * 1024

DATA_DIR = "/var/lib/sandkasten"
WORKSPACE = "/workspace"

EMPTY_WRITE = "either 'text' or 'content_base64' must be provided"
NOT_BELOW = "path must be under /workspace"
NOT_A_FILE = "path must point to a file under /workspace"
NOT_A_FILE_EITHER = "runner error: invalid path: must be a file under /workspace"
TOO_LARGE = "http: request body too large"
TOO_LONG = "read response: bufio.Scanner: token too long"
BROKEN_PIPE = "write: write request: write unix @->/run/sandkasten/runner.sock: write: broken pipe"
NOT_ENABLED = "workspaces not enabled"

# By what the embedded daemon calls an error, the end of the Go daemon's sentence about it.
CAUSES = {
    "FILE_NOT_FOUND": "no such file or directory",
    "IS_DIRECTORY": "is a directory",
    "NOT_A_DIRECTORY": "not a directory",
    "PERMISSION_DENIED": "permission denied",
}
SESSION_FIELDS = (
    "id", "image", "status", "cwd", "workspace_id", "created_at", "expires_at", "acquire_source",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The daemon's settings; the values are its defaults, except for the workspaces.

    Attributes:
        readonly_rootfs: whether sessions without a workspace_id may only read /workspace.
        workspaces: whether `workspace.enabled` is true.
        pool_size: how many sessions are made before somebody asks for them.
        max_exec_timeout_ms: what a command's time limit is cut to.
        poll_seconds: how often it looks for a command's end.
    """

    readonly_rootfs: bool = True
    workspaces: bool = True
    pool_size: int = 0
    max_exec_timeout_ms: int = 120_000
    poll_seconds: float = 0.05


def body_limit(headers: Mapping[str, str]) -> int:
    """Return how large a request's body may be."""
    is_upload = headers.get("content-type", "").startswith("multipart/")
    return MAX_UPLOAD_BYTES if is_upload else MAX_JSON_BYTES


def invalid(message: str, details: Mapping[str, Any] | None = None) -> Answer:
    """Return what it answers to a request that it does not even try."""
    return error_answer(400, "INVALID_REQUEST", message, details)


def internal(message: str) -> Answer:
    """Return what it answers to nearly everything that goes wrong."""
    return error_answer(500, "INTERNAL_ERROR", message)


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, answer: Answer) -> None:
        """Remember the answer."""
        super().__init__(answer.body)
        self.answer = answer


# --- sessions


def not_running(session_id: str, status: str) -> Answer:
    """Return the error of a session that has ended."""
    return internal(f"session not running: {session_id} (status={status})")


def unknown_session(session_id: str) -> Answer:
    """Return the error of a session that never was."""
    return error_answer(404, "SESSION_NOT_FOUND", f"session not found: {session_id}")


def created_error(image: str, status: int, body: Mapping[str, Any]) -> Answer:
    """Return the error of a session that could not be made, from the embedded daemon's."""
    if status == 400 and body.get("error_code") == "INVALID_IMAGE":
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}", image):
            return error_answer(400, "INVALID_IMAGE", f"image not allowed: {image}")
        return internal(f"create sandbox: image {image} not found at {DATA_DIR}/images/{image}/rootfs")
    if status == 400:
        return invalid(str(body.get("message")))
    return internal(f"create sandbox: {body.get('message')}")


# --- commands


def go_duration(milliseconds: int) -> str:
    """Return a duration as Go prints it."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"


def timed_out(limit_ms: int) -> Answer:
    """Return the error of a command that outran its time; the command goes on."""
    sentence = f"command timeout: timeout: command exceeded {go_duration(limit_ms)}"
    return error_answer(504, "COMMAND_TIMEOUT", sentence)


def in_child_shell(cmd: str) -> str:
    """Return a command that gives another one to a bash of its own: what it changes there is lost with that.

    That bash reads its script from standard input, and so does what it runs; a long one comes in a file.
    """
    encoded = b64encode(cmd.encode()).decode()
    if len(cmd.encode()) <= INLINE_COMMAND_BYTES:
        return f"echo {encoded} | base64 -d | bash"
    mark = f"__go_{secrets.token_hex(8)}"
    return f"bash <<'{mark}'\n{cmd}\n{mark}"


def command_of(body: bytes) -> Mapping[str, Any]:
    """Read a request to run a command.

    Raises:
        RefusedError: the body is not such a request.
    """
    fields = json_object(body)
    cmd, limit_ms = str(fields.get("cmd") or ""), int(fields.get("timeout_ms") or 0)
    if not cmd:
        raise RefusedError(invalid("cmd is required"))
    if (size := len(cmd.encode())) > MAX_COMMAND_BYTES:
        raise RefusedError(invalid(f"cmd is too large ({size} bytes), max is {MAX_COMMAND_BYTES} bytes"))
    if limit_ms > MAX_TIMEOUT_MS:
        raise RefusedError(invalid(f"timeout_ms must not exceed {MAX_TIMEOUT_MS} (10 minutes)"))
    return {"cmd": cmd, "timeout_ms": limit_ms, "raw_output": bool(fields.get("raw_output"))}


def with_prompts(session_id: str, text: str, *, raw: bool) -> str:
    """Return an output as it comes from the terminal: between two prompts."""
    prompt = f"I have no name!@sk-{session_id[:8]}:/workspace$ "
    if not raw:
        return f"{prompt}\n{text.replace(chr(13), '')}{prompt}\n"
    line = f"\x1b[?2004h{prompt}\x1b[?2004l\r\r\n"
    return line + re.sub(r"(?<!\r)\n", "\r\n", text) + line + "\r"


def exec_answer(result: Mapping[str, Any]) -> Answer:
    """Deliver a command's result, cut to its limit, unless its line is too long for the buffer."""
    data = result["output"].encode()
    output = data[:MAX_OUTPUT_BYTES].decode(errors="ignore")
    content = {**result, "output": output, "truncated": len(data) > MAX_OUTPUT_BYTES}
    if len(json.dumps(content, ensure_ascii=False).encode()) > MAX_LINE_BYTES:
        return internal(f"exec: {TOO_LONG}")
    return json_answer(content)


def events_of(answer: Answer) -> Iterable[bytes]:
    """Make a stream of an answer: all of the output as one chunk, or an error without a code."""
    content = json.loads(answer.body)
    if answer.status != 200:
        yield event("error", {"error": content["message"]})
        return
    if content["output"]:
        yield event("chunk", {"chunk": content["output"], "timestamp": round(time.time() * 1000)})
    yield event("done", {name: content[name] for name in ("exit_code", "cwd", "duration_ms")})


# --- files


def json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON body.

    Raises:
        RefusedError: it is not a JSON object.
    """
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise RefusedError(invalid(f"invalid json: {error}")) from None
    if not isinstance(fields, dict):
        raise RefusedError(invalid("invalid json: cannot unmarshal"))
    return fields


def written(body: bytes) -> tuple[str, bytes]:
    """Read a write: the path and the content; an empty content counts as missing.

    Raises:
        RefusedError: it is malformed.
    """
    fields = json_object(body)
    path, text, encoded = (str(fields.get(name) or "") for name in ("path", "text", "content_base64"))
    if not path:
        raise RefusedError(invalid("path is required"))
    if text and encoded:
        raise RefusedError(invalid("provide either 'text' or 'content_base64', not both"))
    if not text and not encoded:
        raise RefusedError(invalid(EMPTY_WRITE))
    if not encoded:
        return path, text.encode()
    try:
        return path, b64decode(encoded.replace("\r", "").replace("\n", ""), validate=True)
    except ValueError:
        raise RefusedError(internal("runner error: invalid base64: illegal base64 data")) from None


def path_in_session(path: str) -> str:
    """Return the absolute path of a file in a session.

    Raises:
        RefusedError: it is outside /workspace, or /workspace itself.
    """
    whole = posixpath.normpath(posixpath.join(WORKSPACE, path))
    if whole != WORKSPACE and not whole.startswith(f"{WORKSPACE}/"):
        raise RefusedError(invalid(NOT_BELOW))
    if whole == WORKSPACE:  # the daemon only sees that in an absolute path, else its runner does
        raise RefusedError(invalid(NOT_A_FILE) if path.startswith("/") else internal(NOT_A_FILE_EITHER))
    return whole


def path_in_workspace(path: str) -> str:
    """Return a path seen from the workspace's root; empty for the root, and for what contains two dots."""
    clean = posixpath.normpath(path).lstrip("/")
    return "" if clean == "." or ".." in clean else clean


def file_in_workspace(path: str) -> str:
    """Return the path of a file, seen from the workspace's root.

    Raises:
        RefusedError: it cannot be one.
    """
    relative = path_in_workspace(path)
    if not relative:
        raise RefusedError(internal("invalid file path"))
    return relative


def uploads_of(content_type: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    """Take an upload apart: the last part of each file's name, and the content.

    Raises:
        RefusedError: the upload has no files or too many, or a name is not valid.
    """
    parts = [part for part in parts_of(content_type, body) if part.filename is not None]
    files = [part for part in parts if part.name == "file"] or [
        part for part in parts if part.name == "files"
    ]
    if not files:
        raise RefusedError(invalid("no file provided: use form field 'file' or 'files'"))
    if len(files) > MAX_UPLOAD_FILES:
        raise RefusedError(invalid("too many files", {"max_files": MAX_UPLOAD_FILES}))
    return ((_base_name(part), part.content) for part in files)


def upload_directory(content_type: str, body: bytes) -> str:
    """Return the directory that an upload goes to; empty if it does not say."""
    fields = [part for part in parts_of(content_type, body) if part.name == "path" and part.filename is None]
    return fields[0].content.decode() if fields else ""


def _base_name(part: Part) -> str:
    # A quotation mark stays as clients write it into the header.
    name = posixpath.basename((part.filename or "").replace('"', "%22"))
    if name in {"", "."} or ".." in name:
        raise RefusedError(invalid(f"invalid filename: {part.filename}"))
    return name


def through_runner(content: bytes) -> bytes:
    """Pass an upload's content on as text in JSON, as it goes into a session: other bytes are destroyed.

    Raises:
        RefusedError: the text is too long for a line.
    """
    text = content.decode("utf-8", "go")
    if len(json.dumps(text, ensure_ascii=False).encode()) + 100 > MAX_LINE_BYTES:
        raise RefusedError(internal(BROKEN_PIPE))
    return text.encode()


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("go", _replace_each_byte)


def read_limit(query: Mapping[str, str], *, most_bytes: int | None) -> int:
    """Return how much of a file is wanted.

    Raises:
        RefusedError: that is no number, or too large a one.
    """
    text = query.get("max_bytes") or "0"
    if not re.fullmatch(r"-?\d+", text):
        raise RefusedError(invalid(f'strconv.Atoi: parsing "{text}": invalid syntax'))
    if int(text) < 0:
        raise RefusedError(invalid("max_bytes must be non-negative"))
    if most_bytes is not None and int(text) > most_bytes:
        raise RefusedError(invalid(f"max_bytes must not exceed {most_bytes} (100MB)"))
    return int(text) or DEFAULT_READ_BYTES


def fits_into_line(content_base64: str) -> bool:
    """Return whether a line of the runner holds so much of a file."""
    return len(content_base64) + 60 <= MAX_LINE_BYTES
