"""A daemon with the limits and habits of the Go daemon, for tests of what the client makes of them.

`GoDaemon` is a proxy on a TCP port of the loopback interface before a real embedded daemon: sessions,
files and commands are real, and every rule of "What the Go daemon really does" in the description of the
wire holds. The fixture `go_daemon` of `tests/conftest.py` gives one for the whole run::

    async def test_a_large_file_survives(go_daemon: GoDaemon) -> None:
        async with SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client: ...

Requests and answers are at most some MiB large, so it takes no more memory than a few of those, however
much passes through it. The rules are functions without I/O, in the first part of this file.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

from sandkasten.local.launch import LocalDaemon
from sandkasten.testing._multipart import parts_of
from sandkasten.testing._server import Peer, Request, Server
from sandkasten.testing._steps import (
    Answer,
    Step,
    error_answer,
    event,
    json_answer,
    steps_of,
    stream_answer,
)

MAX_JSON_BYTES = 2 * 1024 * 1024
MAX_UPLOAD_BYTES = 10 * 1024 * 1024
MAX_UPLOAD_FILES = 100
MAX_LINE_BYTES = 5 * 1024 * 1024
MAX_OUTPUT_BYTES = 1024 * 1024
MAX_TIMEOUT_MS = 600_000
DEFAULT_READ_BYTES = 10 * 1024 * 1024

# What the runner's line holds beside the base64: its JSON keys, and the path.
LINE_OVERHEAD_BYTES = 1024
MAX_READABLE_BYTES = (MAX_LINE_BYTES - LINE_OVERHEAD_BYTES) // 4 * 3

EMPTY_WRITE = "either text or content_base64 must be provided"
TOO_LARGE = "http: request body too large"
TOO_LONG = "runner error: bufio.Scanner: token too long"
# The sentences by which it tells what went wrong with a file; it has no codes for it.
FILE_SENTENCES = {
    "FILE_NOT_FOUND": "runner error: open: open {path}: no such file or directory",
    "IS_DIRECTORY": "runner error: read: read {path}: is a directory",
    "PERMISSION_DENIED": "runner error: open: open {path}: permission denied",
}
ERROR_CODES = {
    "COMMAND_TIMEOUT",
    "INVALID_IMAGE",
    "INVALID_REQUEST",
    "INVALID_WORKSPACE",
    "SESSION_EXPIRED",
    "SESSION_NOT_FOUND",
    "UNAUTHORIZED",
    "WORKSPACE_NOT_FOUND",
}
SESSION_FIELDS = {
    "id",
    "image",
    "status",
    "cwd",
    "created_at",
    "expires_at",
    "workspace_id",
    "acquire_source",
    "acquire_detail",
    "last_activity",
}


# --- the rules


def body_limit(headers: Mapping[str, str]) -> int:
    """How large a request's body may be."""
    is_upload = headers.get("content-type", "").startswith("multipart/")
    return MAX_UPLOAD_BYTES if is_upload else MAX_JSON_BYTES


def refusal_of_write(body: bytes) -> Answer | None:
    """Refuse a write without content, which it takes for one that lacks a field."""
    try:
        fields = json.loads(body)
        has_content = bool(fields.get("text") or fields.get("content_base64"))
    except (ValueError, AttributeError):
        return error_answer(400, "INVALID_REQUEST", "invalid JSON body")
    return None if has_content else error_answer(400, "INVALID_REQUEST", EMPTY_WRITE)


def refusal_of_upload(request: Request) -> Answer | None:
    """Refuse too many files at once."""
    files = [part for part in parts_of(request.headers["content-type"], request.body) if part.filename]
    if len(files) > MAX_UPLOAD_FILES:
        return error_answer(400, "INVALID_REQUEST", f"too many files (max {MAX_UPLOAD_FILES})")
    return None


def read_query(query: Mapping[str, str]) -> dict[str, str]:
    """Ask for one byte more than fits into the runner's line, lest more than that is held in memory."""
    asked = query.get("max_bytes", "") or str(DEFAULT_READ_BYTES)
    fits = asked.isascii() and asked.isdigit() and int(asked) <= 100 * 1024 * 1024
    return {**query, "max_bytes": str(min(int(asked), MAX_READABLE_BYTES + 1)) if fits else asked}


def read_answer(content: Mapping[str, Any]) -> Answer:
    """Deliver what was read, unless its line is too long for the runner's buffer."""
    if len(content["content_base64"]) > MAX_LINE_BYTES - LINE_OVERHEAD_BYTES:
        return error_answer(500, "INTERNAL_ERROR", TOO_LONG)
    return json_answer(content)


def in_child_shell(cmd: str) -> str:
    """Pipe a command into a bash of its own: what it changes there is lost with it.

    That bash reads its script from standard input, and so does what it runs.
    """
    mark = f"__go_{secrets.token_hex(8)}"
    return f"bash <<'{mark}'\n{cmd}\n{mark}"


def translated_error(status: int, body: Mapping[str, Any], path: str) -> Answer:
    """Say an error of the embedded daemon's as the Go daemon does: no codes beyond its own, no details."""
    code, message = body.get("error_code", ""), body.get("message", "")
    if code in ERROR_CODES:
        return error_answer(status, code, message)
    absolute = path if path.startswith("/") else f"/workspace/{path}"
    sentence = FILE_SENTENCES.get(code, "runner error: {message}")
    return error_answer(500, "INTERNAL_ERROR", sentence.format(path=absolute, message=message))


def is_passed_on(words: Sequence[str]) -> bool:
    """Whether a request, given as its method and the words of its path, means the same to both daemons."""
    match words:
        case ["GET", "v1", "sessions"] | ["GET", "v1", "sessions", _] | ["GET", "v1", "sessions", _, "stats"]:
            return True
        case ["GET", "v1", "workspaces"] | ["DELETE", "v1", "workspaces", _]:
            return True
        case ["GET", "v1", "workspaces", _, "fs"]:
            return True
        case _:
            return False


def known_fields(content: Any) -> Any:
    """Leave out what only the embedded daemon says about a session."""
    if isinstance(content, list):
        return [known_fields(row) for row in content]
    if "expires_at" not in content:
        return content
    return {name: value for name, value in content.items() if name in SESSION_FIELDS}


def capped(output: str) -> tuple[str, bool]:
    """Cut an output to its limit, and say whether anything was cut."""
    data = output.encode()
    if len(data) <= MAX_OUTPUT_BYTES:
        return output, False
    return data[:MAX_OUTPUT_BYTES].decode(errors="ignore"), True


def events_of(result: Mapping[str, Any]) -> Iterable[bytes]:
    """A stream that held everything back: one chunk, and the end."""
    if result["output"]:
        yield event("chunk", {"chunk": result["output"], "timestamp": round(time.time() * 1000)})
    yield event("done", {name: result[name] for name in ("exit_code", "cwd", "duration_ms")})


# --- the server

NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)


def in_background(function: Callable[[], Answer]) -> Future[Answer]:
    """Call a function in a thread that nothing waits for, not even the end of the program."""
    future: Future[Answer] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


@dataclass
class Line:
    """The line of commands before a session's shell.

    Attributes:
        turn: held by the command whose result is waited for.
        late: commands that outran their time; they go on, and nobody waits for them any more.
    """

    turn: threading.Lock = field(default_factory=threading.Lock)
    late: list[Future[Answer]] = field(default_factory=list)


class GoDaemon:
    """A Go daemon in all that matters to a client, from `start` to `stop` or for a `with` block.

    Attributes:
        url: where it listens.
        api_key: the key that its clients need.
    """

    def __init__(self, daemon: LocalDaemon, *, poll_seconds: float = 0.05) -> None:
        """Stand before an embedded daemon; `poll_seconds` is how often it looks for a command's end."""
        self.api_key = secrets.token_urlsafe(16)
        self._poll_seconds = poll_seconds
        self._server = Server(self._handle, body_limit)
        self._lines: dict[str, Line] = {}
        target = daemon.target
        self._behind = httpx.Client(
            base_url=target.base_url,
            headers={"Authorization": f"Bearer {target.api_key}"},
            transport=httpx.HTTPTransport(uds=target.socket_path, limits=NO_LIMITS),
            timeout=MAX_TIMEOUT_MS / 1000 + 30,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def start(self) -> None:
        """Listen; the port stays the same from one start to the next."""
        self._server.start()

    def stop(self) -> None:
        """End everything, the sessions excepted."""
        self._server.stop()
        self._behind.close()

    def restart(self) -> None:
        """Break off all connections and come back; sessions stay, and only their lines are forgotten."""
        self._server.stop()
        self._lines.clear()
        self._server.start()

    def __enter__(self) -> GoDaemon:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # --- requests

    def _handle(self, request: Request, peer: Peer) -> Iterable[Step]:
        answer = self._answer(request, peer)
        request_id = request.headers.get("x-request-id") or secrets.token_hex(8)
        headers = {**answer.headers, "X-Request-ID": request_id}
        return steps_of(Answer(answer.status, headers, answer.body, answer.events))

    def _answer(self, request: Request, peer: Peer) -> Answer:
        if request.path == "/healthz":
            return json_answer({"status": "ok"})
        if request.headers.get("authorization") != f"Bearer {self.api_key}":
            return error_answer(401, "UNAUTHORIZED", "missing or invalid API key")
        if request.too_large:
            return error_answer(400, "INVALID_REQUEST", TOO_LARGE)
        return self._route(request, peer)

    def _route(self, request: Request, peer: Peer) -> Answer:
        match [request.method, *request.path.strip("/").split("/")]:
            case ["POST", "v1", "sessions"]:
                return self._create(request)
            case ["DELETE", "v1", "sessions", session_id]:
                return self._destroy(request, session_id)
            case ["POST", "v1", "sessions", session_id, "exec"]:
                return self._exec(request, session_id, peer)
            case ["POST", "v1", "sessions", session_id, "exec", "stream"]:
                return self._exec_stream(request, session_id, peer)
            case ["GET", "v1", "sessions" | "workspaces", _, "fs", "read"]:
                return self._read(request)
            case ["POST", "v1", "sessions" | "workspaces", _, "fs", "write"]:
                return refusal_of_write(request.body) or self._forward(request)
            case ["POST", "v1", "sessions" | "workspaces", _, "fs", "upload"]:
                return refusal_of_upload(request) or self._forward(request)
            case words if is_passed_on(words):
                return self._forward(request)
            case _:
                return Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n")

    def _create(self, request: Request) -> Answer:
        try:
            body = json.loads(request.body or b"{}")
            known = {name: body[name] for name in ("image", "ttl_seconds", "workspace_id") if name in body}
        except (ValueError, TypeError):
            return error_answer(400, "INVALID_REQUEST", "invalid JSON body")
        return self._translated(self._behind.post(request.path, json=known), request)

    def _destroy(self, request: Request, session_id: str) -> Answer:
        response = self._ask(request)
        if response.status_code in {404, 410}:
            return error_answer(500, "INTERNAL_ERROR", f"session not found: {session_id}")
        self._lines.pop(session_id, None)
        return self._translated(response, request)

    def _read(self, request: Request) -> Answer:
        response = self._behind.get(request.path, params=read_query(request.query))
        if response.is_success:
            return read_answer(response.json())
        return self._translated(response, request)

    def _forward(self, request: Request) -> Answer:
        return self._translated(self._ask(request), request)

    def _ask(self, request: Request) -> httpx.Response:
        headers = {
            "Content-Type": request.headers.get("content-type", "application/json"),
            "Content-Length": str(len(request.body)),
        }
        # As an iterator: an httpx response holds its request, in a cycle, and so would hold the body.
        content = iter([request.body])
        return self._behind.request(
            request.method, request.path, params=request.query, content=content, headers=headers
        )

    def _translated(self, response: httpx.Response, request: Request) -> Answer:
        content = response.json()
        if response.is_success:
            return json_answer(known_fields(content), response.status_code)
        return translated_error(response.status_code, content, request.query.get("path", ""))

    # --- commands

    def _exec_stream(self, request: Request, session_id: str, peer: Peer) -> Answer:
        answer = self._exec(request, session_id, peer)
        if answer.status == 200:
            return stream_answer(events_of(json.loads(answer.body)))
        if answer.status == 504:
            return stream_answer([event("error", {"error": json.loads(answer.body)["message"]})])
        return answer

    def _exec(self, request: Request, session_id: str, peer: Peer) -> Answer:
        try:
            body = json.loads(request.body)
            limit_ms = body.get("timeout_ms") or MAX_TIMEOUT_MS
            child = {"cmd": in_child_shell(body["cmd"]), "raw_output": body.get("raw_output", False)}
        except (ValueError, KeyError, AttributeError):
            return error_answer(400, "INVALID_REQUEST", "invalid JSON body")
        if not body["cmd"]:
            return error_answer(400, "INVALID_REQUEST", "cmd is required")
        line = self._lines.setdefault(session_id, Line())
        with line.turn:
            return self._run(line, f"/v1/sessions/{session_id}/exec", child, limit_ms, peer)

    def _run(self, line: Line, path: str, body: Mapping[str, Any], limit_ms: int, peer: Peer) -> Answer:
        """Run a command and look for its end from time to time; one that takes too long is left alone."""
        until = time.monotonic() + limit_ms / 1000
        running = in_background(lambda: self._run_to_its_end(path, body))
        while True:
            time.sleep(self._poll_seconds)
            if running.done():
                return _with_late_output(line, running.result())
            if time.monotonic() > until or peer.is_gone():
                line.late.append(running)
                return error_answer(504, "COMMAND_TIMEOUT", f"command timed out after {limit_ms}ms")

    def _run_to_its_end(self, path: str, body: Mapping[str, Any]) -> Answer:
        response = self._behind.post(path, json=body)
        content = response.json()
        if not response.is_success:
            return translated_error(response.status_code, content, "")
        names = ("exit_code", "cwd", "output", "truncated", "duration_ms")
        return json_answer({name: content[name] for name in names})


def _with_late_output(line: Line, answer: Answer) -> Answer:
    """Put what commands printed that nobody waited for before the output of the one that came after them."""
    late, line.late = [future.result() for future in line.late], []
    if answer.status != 200:
        return answer
    result = json.loads(answer.body)
    before = "".join(json.loads(each.body)["output"] for each in late if each.status == 200)
    output, is_cut = capped(before + result["output"])
    return json_answer(result | {"output": output, "truncated": result["truncated"] or is_cut})
