"""The fake daemon: a server in this process that answers by script."""

from __future__ import annotations

import json
import re
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from sandkasten.testing._processes import PROCESS_CALLS
from sandkasten.testing._python import CONTEXT_CALLS, PythonReply, PythonRule
from sandkasten.testing._script import CommandMatch, Reply, Rule, ScriptedOutput
from sandkasten.testing._server import Peer, Request, Server
from sandkasten.testing._steps import Answer, Step, error_answer, json_answer, steps_of
from sandkasten.testing._store import FILE_CALLS, Files, RefusedError, inside_path
from sandkasten.testing._world import FakeSession, World
from sandkasten.testing.faults import Fault

if TYPE_CHECKING:
    from sandkasten import FileChange

_MAX_BODY_BYTES = 160 * 1024 * 1024

_SESSION, _WORKSPACE = r"/v1/sessions/[^/]+", r"/v1/workspaces/[^/]+"
_EITHER = r"/v1/(?:sessions|workspaces)/[^/]+"

# The calls by the client's names for them.
_CALLS: Mapping[str, tuple[str, str, Callable[[World, Request], Answer]]] = {
    "health": ("GET", "/healthz", World.health),
    "create_session": ("POST", "/v1/sessions", World.create_session),
    "list_sessions": ("GET", "/v1/sessions", World.list_sessions),
    "get_session": ("GET", _SESSION, World.get_session),
    "destroy": ("DELETE", _SESSION, World.destroy),
    "renew": ("POST", f"{_SESSION}/renew", World.renew),
    "watch": ("GET", f"{_EITHER}/fs/watch", World.watch),
    "install": ("POST", f"{_SESSION}/packages", World.install),
    "packages": ("GET", f"{_SESSION}/packages", World.packages),
    "stats": ("GET", f"{_SESSION}/stats", World.stats),
    "exec": ("POST", f"{_SESSION}/exec", World.exec),
    "exec_stream": ("POST", f"{_SESSION}/exec/stream", World.exec_stream),
    "interrupt": ("POST", f"{_SESSION}/interrupt", World.interrupt),
    "cancel": ("DELETE", f"{_SESSION}/executions/[^/]+", World.cancel),
    "list_workspaces": ("GET", "/v1/workspaces", World.list_workspaces),
    "delete_workspace": ("DELETE", _WORKSPACE, World.delete_workspace),
    **{
        name: (call.method, f"{_EITHER}{call.path}", partial(World.call_files, call=call))
        for name, call in FILE_CALLS.items()
    },
    **{
        name: (call.method, f"{_SESSION}{call.path}", partial(World.call_processes, call=call))
        for name, call in PROCESS_CALLS.items()
    },
    "python": ("POST", f"{_SESSION}/python", World.python),
    **{
        name: (call.method, f"{_SESSION}{call.path}", partial(World.call_contexts, call=call))
        for name, call in CONTEXT_CALLS.items()
    },
}
# A verb of the client's, and the calls by which it may travel.
_VERBS: Mapping[str, frozenset[str]] = {
    "read": frozenset({"read", "get_raw"}),
    "write": frozenset({"write", "put_raw"}),
    "upload": frozenset({"upload", "put_raw", "put_tar"}),
    "download": frozenset({"read", "get_raw", "get_tar"}),
    "list": frozenset({"list_directory"}),
}
# Which extension some calls belong to.
_NEEDED = {
    "interrupt": "interrupt",
    "renew": "session-options",
    "watch": "watch",
    "cancel": "idempotency",
    **{name: call.extension for name, call in FILE_CALLS.items() if call.extension is not None},
    **dict.fromkeys(PROCESS_CALLS, "processes"),
    **dict.fromkeys(("python", *CONTEXT_CALLS), "python"),
    **dict.fromkeys(("install", "packages"), "packages"),
}


@dataclass(frozen=True)
class RecordedRequest:
    """A request that a fake daemon got; the key that it came with is not kept.

    Attributes:
        call: the client's name for it, such as `exec` or `create_session`; `other` for what has none.
        method: the HTTP verb.
        path: the path, without the query.
        query: the query's values by name.
        json: the body, if it was JSON.
        headers: by their names in lower case.
    """

    call: str
    method: str
    path: str
    query: Mapping[str, str] = field(repr=False)
    json: Any = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


Where = str | Callable[[RecordedRequest], bool] | None
"""The requests meant: those of a call, by its name; those that a function picks; or all except `health`."""


@dataclass
class _Injected:
    fault: Fault
    times: int
    where: Where


class FakeDaemon:
    r"""A daemon that runs nothing: commands have the results that a test gave them, files are in memory.

    It serves in threads of this process, on a free port of the loopback interface, from `start` to `stop` or
    for a `with` block, and speaks to both twins of the client.

    Example::

        with FakeDaemon() as daemon:
            daemon.on_exec("pytest -q", output="1 failed\n", exit_code=1)
            with SandboxClient(base_url=daemon.url) as client, client.create_session() as session:
                assert session.exec("pytest -q").exit_code == 1
            assert daemon.commands == ["pytest -q"]

    Attributes:
        requests: what it was asked, in order.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        extensions: Sequence[str] = ("files",),
        images: Sequence[str] = ("base", "python", "node"),
        replay_bytes: int = 1024 * 1024,
    ) -> None:
        """Prepare a daemon.

        Args:
            api_key: the key that clients need; None lets everybody in.
            extensions: what it lists as its extensions. It has `idempotency` (the same key gets the same
                result, and nothing is run twice), `resume` (a cut stream goes on), `files` (files and
                directories as they are, in one request; without it they travel by commands, which nothing
                runs here), `processes`, `python`, `packages`, `session-options`, `watch` and `interrupt`;
                what others need, `on_request` can answer.
            images: the images that sessions may have.
            replay_bytes: how much of a stream's output is kept for those who come back to it.
        """
        self.requests: list[RecordedRequest] = []
        self._api_key = api_key
        self._world = World(extensions, images, replay_bytes)
        self._answers: list[tuple[str, re.Pattern[str], Answer]] = []
        self._faults: list[_Injected] = []
        self._lock = threading.Lock()
        self._server = Server(self._handle, lambda _headers: _MAX_BODY_BYTES)

    def __repr__(self) -> str:
        return f"<FakeDaemon at {self.url}>"

    # --- its life

    @property
    def url(self) -> str:
        """The address for `base_url`."""
        return f"http://127.0.0.1:{self._server.port}"

    def start(self) -> None:
        """Serve; the address stays the same from one start to the next."""
        self._server.start()

    def stop(self) -> None:
        """Break off all connections, and serve no more."""
        self._server.stop()

    @contextmanager
    def refusing(self) -> Generator[None, None, None]:
        """Break off all connections and refuse new ones, for as long as a block lasts."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def __enter__(self) -> FakeDaemon:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    # --- what it does

    def on_exec(
        self,
        match: CommandMatch,
        *,
        output: ScriptedOutput = "",
        stderr: str = "",
        exit_code: int = 0,
        cwd: str | None = None,
        writes: Mapping[str, str | bytes] | None = None,
        pause_seconds: float = 0.0,
        timed_out: bool = False,
        times: int | None = None,
    ) -> None:
        """Say how some commands go; the rule that was made last goes first.

        Args:
            match: the command's text, a pattern for its beginning, or a function that decides. The text of
                a program and its arguments is as `shlex.join` writes it.
            output: what it prints. A stream delivers a text line by line, a list piece by piece; a function
                makes the text of the command.
            stderr: what a program of `run` or `start` prints to its standard error; a command of the shell
                prints it after its output.
            exit_code: its status.
            cwd: the directory that the session's shell is in afterwards.
            writes: files that it makes, by their paths below /workspace.
            pause_seconds: how long it takes before each piece of output.
            timed_out: whether it outruns its `timeout_ms`, instead of ending.
            times: for how many commands the rule holds; None is for ever.
        """
        reply = Reply((), exit_code, cwd, dict(writes or {}), pause_seconds, timed_out, stderr)
        with self._lock:
            self._world.rules.append(Rule(match, output, reply, times))

    def on_python(
        self,
        match: CommandMatch,
        *,
        output: ScriptedOutput = "",
        stderr: str = "",
        value: str | Mapping[str, str] | None = None,
        displays: Sequence[Mapping[str, str]] = (),
        error: tuple[str, str] | None = None,
        pause_seconds: float = 0.0,
        timed_out: bool = False,
        times: int | None = None,
    ) -> None:
        """Say how some code of `session.python` goes; the rule that was made last goes first.

        Args:
            match: the code, a pattern for its beginning, or a function that decides.
            output: what it prints, as in `on_exec`.
            stderr: what it prints to its standard error.
            value: its last expression's value, as text or by MIME type.
            displays: what it shows, each by MIME type; what is binary is base64.
            error: the exception that it raises: its name and its message.
            pause_seconds: how long it takes before each piece of output.
            timed_out: whether it outruns its `timeout_ms`, instead of ending.
            times: for how much code the rule holds; None is for ever.
        """
        shown = {"text/plain": value} if isinstance(value, str) else value
        reply = PythonReply((), stderr, tuple(displays), shown, error, pause_seconds, timed_out)
        with self._lock:
            self._world.python_rules.append(PythonRule(match, output, reply, times))

    def on_watch(self, *changes: FileChange, path: str = "/workspace") -> None:
        """Say what those see who watch a directory, in a session or a workspace; after it their watch ends.

        Args:
            changes: the changes, in order.
            path: the directory.
        """
        with self._lock:
            self._world.changes[inside_path(path)] = [attrs.asdict(change) for change in changes]

    def on_request(
        self,
        method: str,
        path: str | re.Pattern[str],
        *,
        status: int = 200,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer requests of a path, or of those that a whole pattern fits, with some JSON."""
        pattern = path if isinstance(path, re.Pattern) else re.compile(re.escape(path))
        answer = json_answer(json, status)
        answer = replace(answer, headers={**answer.headers, **(headers or {})})
        with self._lock:
            self._answers.append((method, pattern, answer))

    def fail_next(self, fault: Fault, *, times: int = 1, where: Where = None) -> None:
        """Spoil the answers to the next requests; faults for the same requests come one after another.

        Args:
            fault: one of `sandkasten.testing.faults`.
            times: to how many requests.
            where: only to these: the name of a call or verb (`exec`, `create_session`, `read`, ...), or a
                function of the `RecordedRequest`. None is all but `health`, which a client asks on its own
                account.
        """
        if not isinstance(fault, Fault):
            raise TypeError(f"{fault!r} is no fault. Make one by sandkasten.testing.faults.")
        if isinstance(where, str) and where not in {*_CALLS, *_VERBS}:
            raise ValueError(f"There is no call {where!r}. There are: {', '.join({**_CALLS, **_VERBS})}.")
        with self._lock:
            self._faults.append(_Injected(fault, times, where))

    # --- what it saw

    @property
    def commands(self) -> list[str]:
        """The commands that were run, in order; one that was only asked for again is there once."""
        return self._world.commands

    @property
    def codes(self) -> list[str]:
        """The code of `session.python` that was run, in order, in whichever context."""
        return self._world.codes

    @property
    def cancelled(self) -> list[str]:
        """The commands of which a client said that it does not want their results any more."""
        return self._world.cancelled

    @property
    def sessions(self) -> dict[str, FakeSession]:
        """The sessions there are, by their ids."""
        return self._world.sessions

    @property
    def workspaces(self) -> dict[str, Files]:
        """The files of each workspace, by their paths below /workspace."""
        return self._world.workspaces

    # --- requests

    def _handle(self, request: Request, _peer: Peer) -> Iterable[Step]:
        with self._lock:
            recorded = _recorded(request)
            self.requests.append(recorded)
            fault = self._next_fault(recorded)
            answer = self._answer(request, recorded.call) if fault is None or fault.executes else Answer()
        answer = replace(answer, headers={**answer.headers, **_request_id(request)})
        return steps_of(answer) if fault is None else fault.spoil(answer)

    def _next_fault(self, request: RecordedRequest) -> Fault | None:
        for injected in self._faults:
            if injected.times > 0 and _is_meant(injected.where, request):
                injected.times -= 1
                return injected.fault
        return None

    def _answer(self, request: Request, call: str) -> Answer:
        expected = f"Bearer {self._api_key}"
        if call != "health" and self._api_key and request.headers.get("authorization") != expected:
            return error_answer(401, "UNAUTHORIZED", "The API key is missing or wrong.")
        for method, pattern, answer in reversed(self._answers):
            if method == request.method and pattern.fullmatch(request.path):
                return answer
        needed = _NEEDED.get(call)
        if call == "other" or (needed is not None and needed not in self._world.extensions):
            return error_answer(404, "NOT_FOUND", f"A fake daemon does not know {request.path}.")
        try:
            return _CALLS[call][2](self._world, request)
        except RefusedError as error:
            return error.answer
        except Exception:  # most likely a function of the test's; its author wants to know
            return error_answer(500, "INTERNAL_ERROR", traceback.format_exc())


def _is_meant(where: Where, request: RecordedRequest) -> bool:
    if where is None:
        return request.call != "health"
    return request.call in _VERBS.get(where, {where}) if isinstance(where, str) else where(request)


def _recorded(request: Request) -> RecordedRequest:
    headers = {name: value for name, value in request.headers.items() if name != "authorization"}
    try:
        content = json.loads(request.body)
    except ValueError:
        content = None
    return RecordedRequest(_call_of(request), request.method, request.path, request.query, content, headers)


def _call_of(request: Request) -> str:
    for name, (method, pattern, _action) in _CALLS.items():
        if method == request.method and re.fullmatch(pattern, request.path):
            return name
    return "other"


def _request_id(request: Request) -> dict[str, str]:
    request_id = request.headers.get("x-request-id")
    return {"X-Request-ID": request_id} if request_id else {}
