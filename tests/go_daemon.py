"""A daemon with the limits and habits of the Go daemon, for tests of what the client makes of them.

`GoDaemon` is a proxy on a TCP port of the loopback interface before a real embedded daemon: sessions,
files and commands are real, and what a real Go daemon was seen to do is done to them (`tests/go_rules.py`).
The same tests run against a real one (see `tests/project/test_go_daemon.py`), so that the two stay alike.
The fixture `go_daemon` of `tests/conftest.py` gives one for the whole run::

    async def test_a_large_file_survives(go_daemon: GoDaemon) -> None:
        async with SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client: ...

Requests and answers are at most some MiB large, so it takes no more memory than a few of those, however
much passes through it.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import httpx

from sandkasten.local.launch import LocalDaemon
from sandkasten.testing._server import Peer, Request, Server
from sandkasten.testing._steps import Answer, Step, error_answer, json_answer, steps_of, stream_answer
from tests import go_rules as rules
from tests.go_commands import Commands, Known
from tests.go_rules import Config, RefusedError, internal

NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)
NOT_FOUND = Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n")


class GoDaemon:
    """A Go daemon in all that matters to a client, from `start` to `stop` or for a `with` block.

    Attributes:
        url: where it listens.
        api_key: the key that its clients need.
    """

    def __init__(self, daemon: LocalDaemon, config: Config | None = None) -> None:
        """Stand before an embedded daemon."""
        self.api_key = secrets.token_urlsafe(16)
        self._config = config or Config()
        self._server = Server(self._handle, rules.body_limit)
        self._known: dict[str, Known] = {}
        self._pool: list[str] = []
        self._roots_files = set[tuple[str, str]]()  # written by calls to workspaces, which run as root
        target = daemon.target
        self._behind = httpx.Client(
            base_url=target.base_url,
            headers={"Authorization": f"Bearer {target.api_key}"},
            transport=httpx.HTTPTransport(uds=target.socket_path, verify=False, limits=NO_LIMITS),
            timeout=rules.MAX_TIMEOUT_MS / 1000 + 30,
        )
        self._commands = Commands(self._behind, self._config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def start(self) -> None:
        """Listen; the port stays the same from one start to the next."""
        self._server.start()
        for _ in range(self._config.pool_size):
            self._fill_pool({"image": "base"})

    def stop(self) -> None:
        """End everything, the sessions excepted."""
        self._server.stop()
        self._behind.close()

    def restart(self) -> None:
        """Break off all connections and come back; sessions stay, and only their lines are forgotten."""
        self._server.stop()
        self._known = {name: Known(known.info) for name, known in self._known.items()}
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
        try:
            answer = self._answer(request, peer)
        except RefusedError as refusal:
            answer = refusal.answer
        request_id = request.headers.get("x-request-id") or secrets.token_hex(8)
        headers = {**answer.headers, "X-Request-ID": request_id}
        if request.too_large:  # what was not read is in the way of a next request
            headers["Connection"] = "close"
        return steps_of(Answer(answer.status, headers, answer.body, answer.events))

    def _answer(self, request: Request, peer: Peer) -> Answer:
        if request.path == "/healthz":
            return json_answer({"status": "ok"})
        if request.headers.get("authorization") != f"Bearer {self.api_key}":
            return error_answer(401, "UNAUTHORIZED", "missing or invalid authorization")
        if request.too_large:
            return _too_large(request)
        match request.path.strip("/").split("/"):
            case ["v1", "sessions"]:
                return self._create(request) if request.method == "POST" else self._list()
            case ["v1", "sessions", session_id, *call]:
                return self._in_session(request, session_id, "/".join(call), peer)
            case ["v1", "workspaces", *words] if not self._config.workspaces:
                return internal(rules.NOT_ENABLED) if len(words) < 4 else NOT_FOUND
            case ["v1", "workspaces"]:
                rows = self._behind.get("/v1/workspaces").json()["workspaces"]
                return json_answer({"workspaces": [{"id": row["id"]} for row in rows]})
            case ["v1", "workspaces", workspace_id, *call]:
                return self._in_workspace(request, workspace_id, "/".join(call))
            case _:
                return NOT_FOUND

    # --- sessions

    def _create(self, request: Request) -> Answer:
        body = rules.json_object(request.body or b"{}")
        known = {name: body[name] for name in ("image", "ttl_seconds", "workspace_id") if body.get(name)}
        if self._pool and "workspace_id" not in known:
            info = self._known[self._pool.pop()].info
            info.update(status="running", acquire_source="pool")
            self._fill_pool(known)
            return json_answer(info, 201)
        response = self._behind.post("/v1/sessions", json={"image": "base", **known})
        if not response.is_success:
            image = str(known.get("image", "base"))
            return rules.created_error(image, response.status_code, response.json())
        return json_answer(self._remember(response.json()).info, 201)

    def _remember(self, info: Mapping[str, Any]) -> Known:
        known = Known({name: info[name] for name in rules.SESSION_FIELDS if name in info})
        self._known[info["id"]] = known
        return known

    def _fill_pool(self, body: Mapping[str, Any]) -> None:
        known = self._remember(self._behind.post("/v1/sessions", json=body).raise_for_status().json())
        known.info["status"] = "pool_idle"
        self._pool.append(known.info["id"])

    def _list(self) -> Answer:
        return json_answer([self._row(name) for name in reversed(self._known)])

    def _row(self, session_id: str) -> dict[str, Any]:
        info = self._known[session_id].info
        if info["status"] == "running":
            response = self._behind.get(f"/v1/sessions/{session_id}")
            # `expired` as soon as the reaper saw it, which is within 30 seconds.
            info["status"] = {404: "destroyed", 410: "expired"}.get(response.status_code, "running")
        return {name: value for name, value in info.items() if name != "acquire_source"}

    def _in_session(self, request: Request, session_id: str, call: str, peer: Peer) -> Answer:
        is_stream = call == "exec/stream"
        known = self._known.get(session_id)
        if known is None and (request.method, call) == ("DELETE", ""):
            return internal(f"session not found: {session_id}")
        if known is None:
            refusal = rules.unknown_session(session_id)
            return stream_answer(rules.events_of(refusal)) if is_stream else refusal
        match request.method, call:
            case "GET", "":
                return json_answer(self._row(session_id))
            case "DELETE", "":
                return self._destroy(session_id)
            case "GET", "stats":
                return self._stats(session_id)
            case "POST", "exec":
                return self._exec(known, rules.command_of(request.body), peer)
            case "POST", "exec/stream":
                return stream_answer(rules.events_of(self._exec(known, rules.command_of(request.body), peer)))
            case _:
                return self._file_call(request, known, call)

    def _destroy(self, session_id: str) -> Answer:
        self._behind.delete(f"/v1/sessions/{session_id}")
        self._known[session_id].info["status"] = "destroyed"
        return json_answer({"ok": True})

    def _stats(self, session_id: str) -> Answer:
        response = self._behind.get(f"/v1/sessions/{session_id}/stats")
        if response.is_success:
            return json_answer(response.json())
        path = f"{rules.DATA_DIR}/sessions/{session_id}/state.json"
        return internal(f"read state: open {path}: no such file or directory")

    def _check_running(self, known: Known) -> None:
        row = self._row(known.info["id"])
        if row["status"] != "running":
            raise RefusedError(rules.not_running(row["id"], row["status"]))

    def _is_read_only(self, known: Known) -> bool:
        return self._config.readonly_rootfs and not known.info.get("workspace_id")

    # --- files of sessions

    def _file_call(self, request: Request, known: Known, call: str) -> Answer:
        match request.method, call:
            case "POST", "fs/write":
                return self._write(known, *rules.written(request.body))
            case "POST", "fs/upload":
                return self._upload(known, request)
            case "GET", "fs/read":
                return self._read(known, request.query)
            case _:
                return NOT_FOUND

    def _write(self, known: Known, path: str, content: bytes) -> Answer:
        path = rules.path_in_session(path)
        self._check_running(known)
        sentence = f"runner error: write: open {path}: "
        if self._is_read_only(known):
            return internal(f"{sentence}read-only file system")
        if (known.info.get("workspace_id", ""), path.removeprefix("/workspace/")) in self._roots_files:
            return internal(f"{sentence}permission denied")
        body = {"path": path, "content_base64": b64encode(content).decode()}
        response = self._behind.post(f"/v1/sessions/{known.info['id']}/fs/write", json=body)
        return _answer_of(response, sentence)

    def _upload(self, known: Known, request: Request) -> Answer:
        content_type = request.headers.get("content-type", "")
        directory = rules.upload_directory(content_type, request.body) or rules.WORKSPACE
        paths = list[str]()
        for name, content in rules.uploads_of(content_type, request.body):
            path = rules.path_in_session(f"{directory}/{name}")
            answer = self._write(known, path, rules.through_runner(content))
            if answer.status != 200:
                return answer
            paths.append(path)
        return json_answer({"ok": True, "paths": paths})

    def _read(self, known: Known, query: Mapping[str, str]) -> Answer:
        if not query.get("path"):
            return rules.invalid("path query parameter is required")
        path = rules.path_in_session(query["path"])
        asked_bytes = rules.read_limit(query, most_bytes=rules.MAX_READ_BYTES)
        self._check_running(known)
        # One byte more than a line holds, lest more than that is held in memory.
        params: dict[str, str | int] = {
            "path": path,
            "max_bytes": min(asked_bytes, rules.MAX_LINE_BYTES // 4 * 3),
        }
        response = self._behind.get(f"/v1/sessions/{known.info['id']}/fs/read", params=params)
        if response.is_success and not rules.fits_into_line(response.json()["content_base64"]):
            return internal(f"read: {rules.TOO_LONG}")
        is_directory = response.status_code == 400
        return _answer_of(
            response, f"runner error: {'read: read' if is_directory else 'open: open'} {path}: "
        )

    # --- files of workspaces

    def _in_workspace(self, request: Request, workspace_id: str, call: str) -> Answer:
        match request.method, call:
            case "DELETE", "":
                self._behind.delete(request.path)
                return json_answer({"ok": True})
            case "POST", "fs/write":
                path, content = rules.written(request.body)
                return self._write_there(workspace_id, rules.file_in_workspace(path), content)
            case "POST", "fs/upload":
                return self._upload_there(request, workspace_id)
            case "GET", "fs":
                relative = rules.path_in_workspace(request.query.get("path") or ".")
            case "GET", "fs/read":
                relative = rules.file_in_workspace(request.query.get("path", ""))
            case _:
                return NOT_FOUND
        params: dict[str, str | int] = {
            "path": relative or ".",
            "max_bytes": rules.read_limit(request.query, most_bytes=None),
        }
        response = self._behind.get(request.path, params=params)
        place = f"{rules.DATA_DIR}/workspaces/{workspace_id}"
        if response.status_code == 404 and response.json()["error_code"] == "WORKSPACE_NOT_FOUND":
            missing = f"resolve path: lstat {place}: no such file or directory"
            return internal(f"workspace not found: {workspace_id}" if call == "fs" else missing)
        if not response.is_success and response.json()["error_code"] == "IS_DIRECTORY":
            return internal("path is a directory")
        if response.is_success and call == "fs":
            rows = response.json()["entries"]
            return json_answer(
                {"entries": [{name: row[name] for name in ("name", "is_dir")} for row in rows] or None}
            )
        return _answer_of(response, f"resolve path: lstat {place}/{relative}: ")

    def _write_there(self, workspace_id: str, relative: str, content: bytes) -> Answer:
        body = {"path": relative, "content_base64": b64encode(content).decode()}
        response = self._behind.post(f"/v1/workspaces/{workspace_id}/fs/write", json=body)
        if response.is_success:
            self._roots_files.add((workspace_id, relative))
        return _answer_of(response, "write file: ")

    def _upload_there(self, request: Request, workspace_id: str) -> Answer:
        content_type = request.headers.get("content-type", "")
        directory = rules.path_in_workspace(rules.upload_directory(content_type, request.body) or ".")
        paths = list[str]()
        for name, content in rules.uploads_of(content_type, request.body):
            path = f"{directory}/{name}".lstrip("/")
            answer = self._write_there(workspace_id, path, content)
            if answer.status != 200:
                return answer
            paths.append(path)
        return json_answer({"ok": True, "paths": paths})

    # --- commands

    def _exec(self, known: Known, command: Mapping[str, Any], peer: Peer) -> Answer:
        try:
            self._check_running(known)
        except RefusedError as refusal:
            return refusal.answer
        if len(command["cmd"].encode()) > rules.INLINE_COMMAND_BYTES and self._is_read_only(known):
            sentence = "runner error: mkdir: mkdir /workspace/.sandkasten: read-only file system"
            return internal(f"stage exec script: {sentence}")
        return self._commands.run(known, command, peer)


def _answer_of(response: httpx.Response, sentence: str) -> Answer:
    """Say what the embedded daemon says as the Go daemon does: a beginning of a sentence, and its cause."""
    content = response.json()
    if response.is_success:
        return json_answer({"path": content["path"], **content} if "path" in content else content)
    code = content.get("error_code", "")
    return internal(sentence + rules.CAUSES.get(code, str(content.get("message"))))


def _too_large(request: Request) -> Answer:
    if rules.body_limit(request.headers) == rules.MAX_UPLOAD_BYTES:
        return rules.invalid("request body too large", {"max_bytes": rules.MAX_UPLOAD_BYTES})
    return rules.invalid(f"invalid json: {rules.TOO_LARGE}")
