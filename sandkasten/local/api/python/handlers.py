"""The handlers of Python that remembers; see `Attended` for who may wait for code, and for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from sandkasten._protocol import MAX_KEEP_ALIVE_MS
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import KEEP_ALIVE, EventStream, answer, event, late_answer, when_client_leaves
from sandkasten.local.api.execs import SOON_SECONDS, last_event_id
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.keys import Keys, key_of
from sandkasten.local.api.python.answers import info_of, last_event, piece_events, result_of
from sandkasten.local.api.python.requests import PythonBody, context_of, python_body
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.observe.observer import Observer
from sandkasten.local.sessions.execution import Attended
from sandkasten.local.sessions.interpreters.run import Collected, PythonRun, PythonTape
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.processes.output import TapeReader
from sandkasten.local.sessions.session import Session

_EVENTS = "text/event-stream"


class AttendedRun(Attended):
    """A run that somebody waits for."""

    def __init__(self, run: PythonRun, *, has_key: bool) -> None:
        """Nobody waits yet."""
        super().__init__(run, has_key=has_key)
        self.run = run

    @property
    def size_bytes(self) -> int:
        """See `Attended`."""
        sink = self.run.sink
        return sink.size_bytes if isinstance(sink, Collected | PythonTape) else 0


class Python:
    """The handlers."""

    def __init__(self, manager: Manager, observer: Observer, keys: Keys[Attended]) -> None:
        """Run code in a manager's sessions; the keys are those of commands, too."""
        self._manager = manager
        self._observer = observer
        self._keys = keys

    async def run(self, request: Request) -> Response:
        """Run code, and answer with its result, or with a stream of what it prints and shows."""
        session, body = self._session(request), await python_body(request)
        self._manager.python_was_used = True
        if _EVENTS in request.headers.get("accept", ""):
            return self._stream(session, request, body)
        pause_seconds = bodies.keep_alive_seconds(request)
        attended = self._attended(session, request, body, is_stream=False)
        listener = attended.listen()
        is_kept_alive = False
        try:
            if await attended.outlasts(listener, SOON_SECONDS):
                with when_client_leaves(request.receive, listener.leave):
                    is_kept_alive = await attended.outlasts(listener, pause_seconds)
            if is_kept_alive:
                waits = partial(attended.outlasts, listener, pause_seconds)
                events = late_answer(waits, partial(_answered, attended.run))
                return EventStream(events, request.receive, on_leave=listener.leave)
        finally:
            if not is_kept_alive:
                listener.leave()
        if not attended.run.is_finished:
            return Response(status=499)
        return answer(result_of(attended.run))

    def _stream(self, session: Session, request: Request, body: PythonBody) -> Response:
        position = last_event_id(request)
        attended = self._attended(session, request, body, is_stream=True, is_resumed=position > 0)
        tape = attended.run.sink
        assert isinstance(tape, PythonTape)
        if position > tape.end:
            raise invalid_request("Last-Event-ID is behind the end of the output.")
        pause_seconds = bodies.keep_alive_seconds(request) or MAX_KEEP_ALIVE_MS / 1000
        listener, reader = attended.listen(), tape.read_from(position)

        def leave() -> None:
            if not reader.has_left:
                reader.leave()
                listener.leave()

        return EventStream(
            _events(attended.run, tape, reader, pause_seconds), request.receive, on_leave=leave
        )

    def _attended(
        self,
        session: Session,
        request: Request,
        body: PythonBody,
        *,
        is_stream: bool,
        is_resumed: bool = False,
    ) -> AttendedRun:
        """Find the run that a key stands for, or begin a new one."""
        key = key_of(request.headers.get("idempotency-key"))
        asked = b"python %d" % is_stream + request.digest
        found = self._keys.find(session.id, key, asked)
        if isinstance(found, AttendedRun) and not found.left_line:
            return found
        if is_resumed:
            raise invalid_request("Last-Event-ID names a stream that this daemon does not know.")
        most_bytes = session.limits.output_bytes
        keep_bytes = most_bytes if body.keep_bytes is None else min(body.keep_bytes, most_bytes)

        def make_sink(run: PythonRun) -> Collected | PythonTape:
            return PythonTape(run.output_taken) if is_stream else Collected(keep_bytes)

        run = session.run_python(body.context, body.code, body.timeout_ms, make_sink)
        attended = AttendedRun(run, has_key=key is not None)
        self._keys.add(session.id, key, asked, attended)
        run.when_finished(partial(self._on_finished, session, key, attended))
        return attended

    def _on_finished(self, session: Session, key: str | None, attended: AttendedRun) -> None:
        if isinstance(attended.run.error, ApiError):  # it never began
            self._keys.forget(session.id, key)
            return
        self._keys.end(session.id, key, attended.size_bytes)
        self._observer.python_ended(attended.run.end)

    # --- contexts

    async def list(self, request: Request) -> Response:
        """List the contexts."""
        contexts = self._session(request).interpreters.list()
        return answer({"contexts": [info_of(context) for context in contexts]})

    async def variables(self, request: Request) -> Response:
        """List a context's variables."""
        session = self._session(request)
        run = session.interpreters.ask_variables(context_of(request))
        if run is None:
            return answer({"variables": []})
        with session.lifetime.used():
            while await run.next_output() is not None:
                pass
        if run.variables is None:
            sentence = "The variables could not be listed in time, or the interpreter ended over it."
            raise ApiError(409, "CONFLICT", f"{sentence} Restart the context if that goes on.")
        return answer({"variables": run.variables})

    async def interrupt(self, request: Request) -> Response:
        """Interrupt the code that runs in a context; the variables stay."""
        context = self._session(request).interpreters.get(context_of(request))
        return answer({"interrupted": context is not None and context.interrupt()})

    async def restart(self, request: Request) -> Response:
        """End a context's interpreter; the next code begins in a new one."""
        session = self._session(request)
        context = session.interpreters.get(context_of(request))
        if context is not None:
            with session.lifetime.used():
                await context.restart()
        return answer({"ok": True})

    async def close(self, request: Request) -> Response:
        """End a context."""
        session = self._session(request)
        with session.lifetime.used():
            await session.interpreters.close_context(context_of(request))
        return answer({"ok": True})

    def _session(self, request: Request) -> Session:
        return self._manager.get(request.path_params["session_id"])


def _answered(run: PythonRun) -> dict[str, Any] | None:
    if not run.is_finished:
        return None
    try:
        return {"status": 200, "body": result_of(run)}
    except ApiError as error:
        return {"status": error.status, "body": error.body}


async def _events(
    run: PythonRun, tape: PythonTape, reader: TapeReader, pause_seconds: float
) -> AsyncIterator[bytes]:
    """Yield the events for a reader, from its position on."""
    while not reader.has_left:
        is_over = run.is_finished  # before the last look: nothing comes after that
        if missed_bytes := tape.missed_bytes(reader.position):
            reader.came_to(reader.position + missed_bytes)
            yield event("gap", {"missed_bytes": missed_bytes}, reader.position)
        for piece in tape.after(reader.position):
            for data in piece_events(piece):
                yield data
            reader.came_to(piece.end)
            if reader.has_left:
                return
        if reader.position < tape.end:
            continue
        if is_over:
            yield last_event(run, tape)
            return
        if not run.is_finished and not await tape.changes(pause_seconds):
            yield KEEP_ALIVE
