"""The handlers that run commands; see `execution` for who may listen to one, and for how long."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

from sandkasten._cut import CappedText
from sandkasten._protocol import MAX_KEEP_ALIVE_MS
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import KEEP_ALIVE, EventStream, answer, event, late_answer, when_client_leaves
from sandkasten.local.api.bodies import ExecBody
from sandkasten.local.api.bodystream import body_of
from sandkasten.local.api.http.messages import ClientLeftError, Request, Response
from sandkasten.local.api.keys import Keys, key_of
from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError, CalledOffError, SandboxLostError, invalid_request
from sandkasten.local.files.newfile import explained
from sandkasten.local.files.pipes import Pipes
from sandkasten.local.observe.observer import Observer
from sandkasten.local.sessions.command import Loan, ShellCommand
from sandkasten.local.sessions.execution import GRACE_SECONDS, Attended, Execution, Listener, Piece, Replay
from sandkasten.local.sessions.job import Job, Outcome
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.session import Session

# Most commands are over by then; before that nobody looks whether the client is still there.
SOON_SECONDS = 0.005
_REPLAY_BYTES = 1024 * 1024


class Execs:
    """The handlers."""

    def __init__(self, manager: Manager, observer: Observer) -> None:
        """Run commands in a manager's sessions."""
        self._manager = manager
        self._observer = observer
        self.keys = Keys[Attended]()
        self._arrivals: dict[tuple[str, str], asyncio.Event] = {}

    async def exec(self, request: Request) -> Response:
        """Run a command to its end."""
        session, body = self._session(request), await bodies.exec_body(request)
        pause_seconds = bodies.keep_alive_seconds(request)
        execution = self._execution(session, request, body, CappedText(session.limits.output_bytes))
        listener = execution.listen()
        is_kept_alive = False
        try:
            if await execution.outlasts(listener, SOON_SECONDS):
                with when_client_leaves(request.receive, listener.leave):
                    is_kept_alive = await execution.outlasts(listener, pause_seconds)
            if is_kept_alive:
                waits = partial(execution.outlasts, listener, pause_seconds)
                events = late_answer(waits, partial(_answered, execution))
                return EventStream(events, request.receive, on_leave=listener.leave)
        finally:
            if not is_kept_alive:
                listener.leave()
        return _result(execution) if execution.job.is_finished else Response(status=499)

    async def exec_stream(self, request: Request) -> Response:
        """Run a command and send its output while it runs, or from where a client saw the last of it."""
        session, body = self._session(request), await bodies.exec_body(request)
        position = last_event_id(request)
        execution = self._execution(session, request, body, Replay(_REPLAY_BYTES), is_resumed=position > 0)
        listener = execution.listen()
        pause_seconds = bodies.keep_alive_seconds(request) or MAX_KEEP_ALIVE_MS / 1000
        events = _events(execution, listener, position, pause_seconds)
        return EventStream(events, request.receive, on_leave=listener.leave)

    async def cancel(self, request: Request) -> Response:
        """Stop a command that nobody waits for any more; a command that ended is left as it is."""
        execution = self.keys.look(self._session(request).id, request.path_params["key"])
        return answer({"cancelled": execution is not None and execution.cancel()})

    async def feed(self, request: Request) -> Response:
        """Give a command its standard input, while it runs; it may be asked for a moment later than this."""
        session, key = self._session(request), request.path_params["key"]
        execution = await self._arrival(session.id, key)
        if not isinstance(execution, Execution) or not execution.pipes or execution.pipes.input is None:
            raise invalid_request("There is no command with this key whose standard input is a pipe.")
        try:
            await execution.pipes.input.fill(body_of(request))
        except ClientLeftError:
            execution.cancel()  # a part of its input must not pass for the whole
            raise
        return answer({"ok": True})

    async def _arrival(self, session_id: str, key: str) -> Attended | None:
        """Return what a key stands for, waiting for it for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                while self.keys.look(session_id, key) is None:
                    await self._arrivals.setdefault((session_id, key), asyncio.Event()).wait()
        self._arrivals.pop((session_id, key), None)
        return self.keys.look(session_id, key)

    def _execution(
        self,
        session: Session,
        request: Request,
        body: ExecBody,
        kept: CappedText | Replay,
        *,
        is_resumed: bool = False,
    ) -> Execution:
        """Find the command that a key stands for, or run a new one."""
        key = key_of(request.headers.get("idempotency-key"))
        asked = type(kept).__name__.encode() + request.digest
        execution = self.keys.find(session.id, key, asked)
        if not isinstance(execution, Execution) or execution.left_line:
            if is_resumed:
                raise invalid_request("Last-Event-ID names a stream that this daemon does not know.")
            pipes = self._pipes(session, body) if isinstance(kept, Replay) else None
            try:
                cmd = body.cmd if pipes is None else pipes.redirected(body.cmd)
                command = session.submit(cmd, body.timeout_ms, Loan(body.env, body.cwd))
            except BaseException:
                if pipes is not None:
                    pipes.close()
                raise
            execution = Execution(command, kept, raw=body.raw_output, has_key=key is not None, pipes=pipes)
            self.keys.add(session.id, key, asked, execution)
            if (arrival := self._arrivals.pop((session.id, key or ""), None)) is not None:
                arrival.set()
            command.when_finished(partial(self._on_finished, session, key, execution))
        return execution

    def _pipes(self, session: Session, body: ExecBody) -> Pipes | None:
        if not body.pipe_input and not body.pipe_output:
            return None
        with explained("A pipe in the workspace", is_path=False):
            return session.make_pipes(has_input=body.pipe_input, has_output=body.pipe_output)

    def _on_finished(self, session: Session, key: str | None, execution: Execution) -> None:
        execution.complete()
        self.keys.end(session.id, key, execution.size_bytes)
        self._observer.exec_ended(execution.job.end, execution.job.duration_seconds)

    def _session(self, request: Request) -> Session:
        return self._manager.get(request.path_params["session_id"])


def _answered(execution: Execution) -> dict[str, Any] | None:
    if not execution.job.is_finished:
        return None
    try:
        response = _result(execution)
    except ApiError as error:
        return {"status": error.status, "body": error.body}
    return {"status": response.status, "body": json.loads(response.body)}


async def _events(
    execution: Execution, listener: Listener, position: int, pause_seconds: float
) -> AsyncIterator[bytes]:
    """Yield the events for a stream's listener, from a position in the output on."""
    kept = execution.kept
    assert isinstance(kept, Replay)
    lost: SandboxLostError | None = None
    has_more = True
    while has_more and not listener.has_left:
        waits_from = time.monotonic()
        try:
            has_more = position < kept.end or await execution.advance(pause_seconds)
        except SandboxLostError as error:
            lost, has_more = error, False
        if missed_bytes := kept.missed_bytes(position):
            position += missed_bytes
            yield event("gap", {"missed_bytes": missed_bytes}, position)
        for piece in kept.after(position):
            position = piece.end
            yield _piece_event(piece)
        if time.monotonic() - waits_from >= pause_seconds:
            yield KEEP_ALIVE
    if not listener.has_left:
        yield _last_event(execution.job, lost, position)


def _piece_event(piece: Piece) -> bytes:
    if isinstance(piece.content, str):
        return event("chunk", {"chunk": piece.content, "timestamp": _now_ms()}, piece.end)
    encoded = base64.b64encode(piece.content).decode()
    return event("data", {"base64": encoded, "timestamp": _now_ms()}, piece.end)


# --- outcomes, as the wire has them


def _result(execution: Execution) -> Response:
    job, output = execution.job, execution.kept
    assert isinstance(output, CappedText)
    if job.error is not None:
        raise lost_error(job.error)
    assert job.outcome is not None
    if isinstance(job, ShellCommand) and job.is_refused:
        raise _refused_error(job)
    if job.outcome.was_stopped:
        raise _stopped_error(job, job.outcome, output)
    return answer(_ending(job.outcome) | {"output": output.text(), "truncated": output.truncated})


def _last_event(job: Job[Any], lost: SandboxLostError | None, position: int) -> bytes:
    if lost is not None:
        return _error_event(lost_error(lost), position)
    assert job.outcome is not None
    if isinstance(job, ShellCommand) and job.is_refused:
        return _error_event(_refused_error(job), position)
    if job.outcome.was_stopped:
        return _error_event(_stopped_error(job, job.outcome), position)
    return event("done", _ending(job.outcome) | {"timestamp": _now_ms()}, position)


def _error_event(error: ApiError, position: int) -> bytes:
    told = {"error": error.message, "error_code": error.code, "status": error.status}
    return event("error", told | {"details": error.details or {}}, position)


def _refused_error(command: ShellCommand) -> ApiError:
    return invalid_request(
        f"The command did not run: its shell cannot go to {command.loan.cwd!r}. Name a directory that exists."
    )


def _ending(outcome: Outcome) -> dict[str, Any]:
    return {"exit_code": outcome.exit_code} | outcome.details


def _stopped_error(job: Job[Any], outcome: Outcome, output: CappedText | None = None) -> ApiError:
    details = outcome.details
    if output is not None:
        details |= {"output": output.text(), "truncated": output.truncated}
    if outcome.end is JobEnd.OVER_QUOTA:
        sentence = "The command was stopped: it filled the workspace. Delete files in it."
        return ApiError(507, "INSUFFICIENT_STORAGE", sentence, details=details)
    return ApiError(
        504, "COMMAND_TIMEOUT", f"The command was stopped after {job.timeout_ms} ms.", details=details
    )


def lost_error(error: SandboxLostError | ApiError) -> ApiError:
    """Return the error for a client whose command has no outcome."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, CalledOffError):
        return ApiError(409, "CANCELLED", "The command was called off before it began. The session goes on.")
    return ApiError(404, "SESSION_NOT_FOUND", f"The session is gone: {error}.")


def last_event_id(request: Request) -> int:
    """Return the position that a client saw last.

    Raises:
        ApiError: INVALID_REQUEST, it is not one.
    """
    text = request.headers.get("last-event-id", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise invalid_request("Last-Event-ID is not one that this daemon gave.")
    return int(text)


def _now_ms() -> int:
    return round(time.time() * 1000)
