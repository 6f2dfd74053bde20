"""The state of a fake daemon: sessions, files, workspaces and executions, all in memory."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sandkasten.testing._packages import rows_of, with_more
from sandkasten.testing._processes import FakeProcess, ProcessCall
from sandkasten.testing._python import (
    ContextCall,
    FakeContext,
    FakeRun,
    PythonReply,
    PythonRule,
    answer_of,
    made_run,
)
from sandkasten.testing._script import Execution, Reply, Rule, matches, pieces_of
from sandkasten.testing._server import Request
from sandkasten.testing._steps import Answer, event, json_answer, stream_answer
from sandkasten.testing._store import FileCall, Files, RefusedError, inside_path, json_body

_DEFAULT_TTL_SECONDS = 1800
_MAX_TIMEOUT_MS = 600_000


@dataclass
class FakeSession:
    """A session of a fake daemon; a test may look at it and change it.

    Attributes:
        id: its id.
        image: the image that was asked for.
        workspace_id: the workspace at /workspace, if it has one.
        files: the files below /workspace, by their paths relative to it.
        cwd: the shell's directory.
        is_expired: whether its lifetime passed: set it, and its calls are answered with 410.
        ttl_seconds: its lifetime.
        created_at: when it was made.
        processes: the processes that were started in it, by their ids.
        contexts: the interpreters of it that remember, by their names.
        packages: the packages that were asked for, with versions if any were named.
        name: its name, if it has one.
        labels: its labels.
        env: the variables that were asked for.
        limits: the limits that were asked for, by their names.
    """

    id: str
    image: str
    workspace_id: str | None
    files: Files = field(repr=False)
    cwd: str = "/workspace"
    is_expired: bool = False
    ttl_seconds: int = _DEFAULT_TTL_SECONDS
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    processes: dict[str, FakeProcess] = field(default_factory=dict[str, FakeProcess], repr=False)
    contexts: dict[str, FakeContext] = field(default_factory=dict[str, FakeContext], repr=False)
    packages: tuple[str, ...] = ()
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict[str, str])
    env: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    limits: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def info(self) -> dict[str, Any]:
        """As the wire has it."""
        expires_at = self.created_at + timedelta(seconds=self.ttl_seconds)
        return {
            "id": self.id,
            "image": self.image,
            "status": "running",
            "cwd": self.cwd,
            "created_at": self.created_at.isoformat(),
            "expires_at": expires_at.isoformat(),
            "workspace_id": self.workspace_id or "",
            "name": self.name,
            "labels": self.labels,
            "limits": self.limits or None,
        }


class World:
    """The state behind the answers."""

    def __init__(self, extensions: Sequence[str], images: Sequence[str], replay_bytes: int) -> None:
        """Begin with nothing in it."""
        self.extensions = tuple(extensions)
        self.images = tuple(images)
        self.sessions: dict[str, FakeSession] = {}
        self.workspaces: dict[str, Files] = {}
        self.commands: list[str] = []
        self.cancelled: list[str] = []
        self.rules: list[Rule] = []
        self.codes: list[str] = []
        self.python_rules: list[PythonRule] = []
        self.changes: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._replay_bytes = replay_bytes
        self._made = 0
        self._creations: dict[str, FakeSession] = {}
        self._executions: dict[tuple[str, str | None], Execution] = {}
        self._runs: dict[str, Answer] = {}
        self._python_runs: dict[str, FakeRun] = {}

    # --- sessions

    def health(self, _request: Request) -> Answer:
        """Answer what this daemon can do."""
        body = {"status": "ok", "server": "sandkasten-fake"}
        return json_answer({**body, "extensions": list(self.extensions)} if self.extensions else body)

    def create_session(self, request: Request) -> Answer:
        """Make a session, or find the one that the same key made."""
        key = self._key(request)
        session = self._creations.get(key) if key else None
        if session is None:
            session = self._made_session(json_body(request))
            if key:
                self._creations[key] = session
        return json_answer(session.info, 201)

    def _made_session(self, body: Mapping[str, Any]) -> FakeSession:
        image, workspace_id = body.get("image") or "python", body.get("workspace_id") or None
        if image not in self.images:
            known = ", ".join(self.images)
            raise RefusedError(400, "INVALID_IMAGE", f"There is no image {image!r}. There are: {known}.")
        options: Mapping[str, Any] = body if "session-options" in self.extensions else {}
        name = options.get("name")
        if name and any(session.name == name for session in self.sessions.values()):
            raise RefusedError(409, "NAME_TAKEN", f"There is a session {name!r} already. Take another name.")
        files = self.workspaces.setdefault(workspace_id, {}) if workspace_id else {}
        self._made += 1
        session = FakeSession(f"{self._made:08x}-fa4", image, workspace_id, files, name=name)
        session.cwd = posixpath.join(session.cwd, options.get("cwd") or "").rstrip("/")
        for option, kept in (("labels", session.labels), ("env", session.env), ("limits", session.limits)):
            kept.update(options.get(option) or {})
        session.ttl_seconds = body.get("ttl_seconds") or _DEFAULT_TTL_SECONDS
        if "packages" in self.extensions:
            session.packages = with_more((), body.get("packages") or [])
        self.sessions[session.id] = session
        return session

    def list_sessions(self, _request: Request) -> Answer:
        """Answer with the sessions."""
        return json_answer([session.info for session in self.sessions.values()])

    def get_session(self, request: Request) -> Answer:
        """Return the description of a session."""
        return json_answer(self._session(request).info)

    def renew(self, request: Request) -> Answer:
        """Count a session's lifetime from now on."""
        session = self._session(request)
        session.ttl_seconds = json_body(request).get("ttl_seconds") or session.ttl_seconds
        session.created_at = datetime.now(UTC)
        return json_answer(session.info)

    def watch(self, request: Request) -> Answer:
        """Send the changes that a test made up for a directory, and end."""
        self._files(request)
        path = inside_path(request.query.get("path") or "/workspace")
        changes = enumerate(self.changes.get(path, ()), start=1)
        events = [event("change", change, number) for number, change in changes]
        return stream_answer([*events, event("done", {}, len(events))])

    def destroy(self, request: Request) -> Answer:
        """Forget what a path names."""
        del self.sessions[self._session(request).id]
        return json_answer({"ok": True})

    def stats(self, request: Request) -> Answer:
        """Return the resources that a session uses: nearly nothing."""
        size = sum(map(len, self._session(request).files.values()))
        return json_answer({"memory_bytes": size, "cpu_usage_usec": 0})

    # --- packages

    def install(self, request: Request) -> Answer:
        """Give a session more packages."""
        session = self._session(request)
        session.packages = with_more(session.packages, json_body(request).get("packages"))
        return self.packages(request)

    def packages(self, request: Request) -> Answer:
        """Answer with the packages of a session."""
        return json_answer({"packages": rows_of(self._session(request).packages)})

    # --- commands

    def exec(self, request: Request) -> Answer:
        """Run a command to its end."""
        return self._execution(request).answer()

    def exec_stream(self, request: Request) -> Answer:
        """Run a command, and send its output bit by bit; or go on where a stream was cut."""
        if "resume" not in self.extensions:
            return stream_answer(self._execution(request).events(None, replay_bytes=0))
        position = int(request.headers.get("last-event-id") or 0)
        if position and (_name_in(request), self._key(request)) not in self._executions:
            raise RefusedError(400, "INVALID_REQUEST", "Last-Event-ID names a stream that is not known.")
        events = self._execution(request).events(position, replay_bytes=self._replay_bytes)
        return stream_answer(events)

    def cancel(self, request: Request) -> Answer:
        """Take note that nobody wants a command's result any more."""
        words = request.path.split("/")
        execution = self._executions.get((words[3], words[5]))
        is_running = execution is not None and not execution.finished
        if execution is not None and is_running:
            execution.finished = True
            self.cancelled.append(execution.cmd)
        return json_answer({"cancelled": is_running})

    def interrupt(self, request: Request) -> Answer:
        """Stop the command that runs; none ever does, when nobody reads it."""
        self._session(request)
        return json_answer({"interrupted": False})

    def _execution(self, request: Request) -> Execution:
        session, key = self._session(request), self._key(request)
        known = self._executions.get((session.id, key)) if key else None
        if known is not None:
            return known
        body = json_body(request)
        cmd = body.get("cmd")
        if not isinstance(cmd, str) or not cmd:
            raise RefusedError(400, "INVALID_REQUEST", "'cmd' is empty.")
        reply = self._reply(cmd)
        self.commands.append(cmd)
        reply = replace(reply, pieces=(*reply.pieces, reply.stderr)) if reply.stderr else reply
        session.cwd = reply.cwd or session.cwd
        for path, content in reply.writes.items():
            session.files[inside_path(path)] = content.encode() if isinstance(content, str) else content
        execution = Execution(cmd, body.get("timeout_ms") or _MAX_TIMEOUT_MS, reply, session.cwd)
        if key:
            self._executions[session.id, key] = execution
        return execution

    def _reply(self, cmd: str) -> Reply:
        """Find the newest rule that is about a command; without any it succeeds, and prints nothing."""
        for rule in reversed(self.rules):
            if rule.times != 0 and matches(rule.match, cmd):
                rule.times = None if rule.times is None else rule.times - 1
                return replace(rule.reply, pieces=pieces_of(rule.output, cmd))
        return Reply()

    # --- processes

    def call_processes(self, request: Request, call: ProcessCall) -> Answer:
        """Answer a call about processes; a repeated one with the same key as the first."""
        key = self._key(request)
        answer = self._runs.get(key) if key else None
        if answer is None:
            answer = call.answer(self._session(request).processes, request, self._started)
            if key:
                self._runs[key] = answer
        return answer

    def _started(self, program: str) -> Reply:
        reply = self._reply(program)
        self.commands.append(program)
        return reply

    # --- Python that remembers

    def python(self, request: Request) -> Answer:
        """Run code; code with the same key as before is not run again."""
        key = self._key(request)
        run = self._python_runs.get(key) if key else None
        if run is None:
            run = made_run(self._session(request).contexts, request, self._python_reply)
            if key:
                self._python_runs[key] = run
        return answer_of(run, request)

    def _python_reply(self, code: str) -> PythonReply:
        self.codes.append(code)
        for rule in reversed(self.python_rules):
            if rule.times != 0 and matches(rule.match, code):
                rule.times = None if rule.times is None else rule.times - 1
                return replace(rule.reply, pieces=pieces_of(rule.output, code))
        return PythonReply()

    def call_contexts(self, request: Request, call: ContextCall) -> Answer:
        """Answer a call about contexts."""
        name = (request.path.split("/")[5:6] or [""])[0]
        return call.answer(self._session(request).contexts, name)

    # --- files

    def call_files(self, request: Request, call: FileCall) -> Answer:
        """Answer a call about files, which makes a workspace if it writes to one."""
        return call.answer(self._files(request, create=call.creates), request)

    # --- workspaces

    def list_workspaces(self, _request: Request) -> Answer:
        """Answer with the workspaces."""
        return json_answer({"workspaces": [{"id": name} for name in sorted(self.workspaces)]})

    def delete_workspace(self, request: Request) -> Answer:
        """Forget what a path names."""
        self._files(request)
        del self.workspaces[_name_in(request)]
        return json_answer({"ok": True})

    # --- what requests name

    def _session(self, request: Request) -> FakeSession:
        session_id = _name_in(request)
        named = (session for session in self.sessions.values() if session.name == session_id)
        session = self.sessions.get(session_id) or next(named, None)
        if session is None:
            raise RefusedError(404, "SESSION_NOT_FOUND", f"There is no session {session_id!r}.")
        if session.is_expired:
            raise RefusedError(410, "SESSION_EXPIRED", f"The session {session_id!r} has expired.")
        return session

    def _files(self, request: Request, *, create: bool = False) -> Files:
        if request.path.startswith("/v1/sessions/"):
            return self._session(request).files
        name = _name_in(request)
        if create:
            return self.workspaces.setdefault(name, {})
        if name not in self.workspaces:
            raise RefusedError(404, "WORKSPACE_NOT_FOUND", f"There is no workspace {name!r}.")
        return self.workspaces[name]

    def _key(self, request: Request) -> str | None:
        return request.headers.get("idempotency-key") if "idempotency" in self.extensions else None


def _name_in(request: Request) -> str:
    return request.path.split("/")[3]
