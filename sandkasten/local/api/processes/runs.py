"""The handler that runs a process to its end; see `Attended` for who may wait for one, and for how long."""

from __future__ import annotations

from functools import partial
from typing import Any

from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import EventStream, answer, late_answer, when_client_leaves
from sandkasten.local.api.execs import SOON_SECONDS
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.keys import Keys, key_of
from sandkasten.local.api.processes.answers import run_answer
from sandkasten.local.api.processes.feeding import Feeding
from sandkasten.local.api.processes.requests import RunBody, run_body
from sandkasten.local.errors import ApiError
from sandkasten.local.observe.observer import Observer
from sandkasten.local.sessions.execution import Attended
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.processes.output import Captured
from sandkasten.local.sessions.processes.process import ProcessJob
from sandkasten.local.sessions.session import Session


class Run(Attended):
    """A process that somebody waits for, and its output."""

    def __init__(self, job: ProcessJob, sink: Captured, *, has_key: bool) -> None:
        """Nobody waits yet."""
        super().__init__(job, has_key=has_key)
        self.process = job
        self.sink = sink

    @property
    def size_bytes(self) -> int:
        """See `Attended`."""
        return self.sink.size_bytes


class Runs:
    """The handler."""

    def __init__(self, manager: Manager, observer: Observer, keys: Keys[Attended]) -> None:
        """Run processes in a manager's sessions; the keys are those of commands, too."""
        self._manager = manager
        self._observer = observer
        self._keys = keys

    async def run(self, request: Request) -> Response:
        """Run a process to its end."""
        session = self._manager.get(request.path_params["session_id"])
        pause_seconds = bodies.keep_alive_seconds(request)
        body, pieces = await run_body(request)
        run = await self._run(session, request, body, has_input=bool(pieces or body.input))
        listener = run.listen()
        streams = run.process.streams
        feeding = Feeding(None if streams is None else streams.input, body.input, pieces)

        def leave() -> None:
            listener.leave()
            feeding.stop()

        is_kept_alive = False
        try:
            if await run.outlasts(listener, SOON_SECONDS):
                with when_client_leaves(partial(feeding.then, request.receive), listener.leave):
                    is_kept_alive = await run.outlasts(listener, pause_seconds)
            if is_kept_alive:
                waits = partial(run.outlasts, listener, pause_seconds)
                events = late_answer(waits, partial(_answered, run))
                return EventStream(events, partial(feeding.then, request.receive), on_leave=leave)
        finally:
            if not is_kept_alive:
                leave()
        if not run.job.is_finished:
            return Response(status=499)
        return answer(run_answer(run.process, run.sink))

    async def _run(self, session: Session, request: Request, body: RunBody, *, has_input: bool) -> Run:
        """Find the process that a key stands for, or begin a new one."""
        key = key_of(request.headers.get("idempotency-key"))
        asked = b"run %d" % has_input + request.digest
        found = self._keys.find(session.id, key, asked)
        if isinstance(found, Run):
            await found.process.begun.wait()
            return found
        most_bytes = session.limits.output_bytes
        keep_bytes = most_bytes if body.keep_bytes is None else min(body.keep_bytes, most_bytes)
        job, sink = session.processes.prepare(body.spec), Captured(keep_bytes)
        run = Run(job, sink, has_key=key is not None)
        self._keys.add(session.id, key, asked, run)
        job.when_finished(partial(self._on_finished, session, key, run))
        try:
            await session.processes.run(job, sink, has_input=has_input)
        except BaseException:
            self._keys.forget(session.id, key)
            raise
        return run

    def _on_finished(self, session: Session, key: str | None, run: Run) -> None:
        if not isinstance(run.job.error, ApiError):  # else it never began
            self._keys.end(session.id, key, run.size_bytes)
            self._observer.process_ended(run.job.end)


def _answered(run: Run) -> dict[str, Any] | None:
    if not run.job.is_finished:
        return None
    try:
        return {"status": 200, "body": run_answer(run.process, run.sink)}
    except ApiError as error:
        return {"status": error.status, "body": error.body}
