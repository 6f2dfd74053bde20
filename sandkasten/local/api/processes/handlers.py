"""The handlers of processes that a client comes back to: start, read, feed, signal, end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from sandkasten._protocol import MAX_KEEP_ALIVE_MS
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import KEEP_ALIVE, EventStream, answer, event, late_answer, when_client_leaves
from sandkasten.local.api.bodystream import body_of
from sandkasten.local.api.execs import last_event_id, lost_error
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.processes.answers import info_of, last_event, piece_event
from sandkasten.local.api.processes.feeding import MAX_WHOLE_BYTES, Taking, one, whole_body
from sandkasten.local.api.processes.requests import (
    MAX_POSITION,
    resize_body,
    signal_body,
    start_body,
)
from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.observe.observer import Observer
from sandkasten.local.sessions.execution import Attended
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.processes.channels import input_closed
from sandkasten.local.sessions.processes.output import TapeReader
from sandkasten.local.sessions.processes.process import PATIENCE_SECONDS, ProcessJob
from sandkasten.local.sessions.processes.table import Handle
from sandkasten.local.sessions.session import Session


class Processes:
    """The handlers."""

    def __init__(self, manager: Manager, observer: Observer) -> None:
        """Start processes in a manager's sessions."""
        self._manager = manager
        self._observer = observer

    async def start(self, request: Request) -> Response:
        """Start a process; the same one if it was started before."""
        session, body = self._session(request), await start_body(request)
        handle = await session.processes.start(body.id, body.spec, self._on_ended, has_input=body.has_input)
        return answer(info_of(handle))

    async def list(self, request: Request) -> Response:
        """List those that run, and the last that ended."""
        return answer({"processes": [info_of(handle) for handle in self._session(request).processes.list()]})

    async def get(self, request: Request) -> Response:
        """Return the facts about one."""
        _session, handle = self._handle(request)
        return answer(info_of(handle))

    async def output(self, request: Request) -> Response:
        """Send the output from a position on, as it comes, and then the result.

        With `wait_ms` and `max_bytes` it is only what comes until then, and about so much.
        """
        session, handle = self._handle(request)
        position = last_event_id(request)
        wait_ms = bodies.number_query(request, "wait_ms", None, MAX_POSITION, least=0)
        until = None if wait_ms is None else time.monotonic() + wait_ms / 1000
        enough = position + bodies.number_query(request, "max_bytes", MAX_POSITION, MAX_POSITION)
        if position > handle.tape.end:
            raise invalid_request(
                f"Position {position} is behind the end of the output, which has {handle.tape.end} bytes. "
                "Begin at the position of a reader, or at 0."
            )
        pause_seconds = bodies.keep_alive_seconds(request) or MAX_KEEP_ALIVE_MS / 1000
        reader = handle.tape.read_from(position)
        session.lifetime.begin_use()

        def leave() -> None:
            if not reader.has_left:
                reader.leave()
                session.lifetime.end_use()

        events = _events(handle, reader, pause_seconds, until, enough)
        return EventStream(events, request.receive, on_leave=leave)

    async def result(self, request: Request) -> Response:
        """Wait for the end, and return the facts."""
        session, handle = self._handle(request)
        wait_ms = bodies.number_query(request, "timeout_ms", None, MAX_POSITION, least=0)
        pause_seconds = bodies.keep_alive_seconds(request)
        waiting = _Waiting(session, handle, None if wait_ms is None else wait_ms / 1000)
        is_kept_alive = False
        try:
            if not handle.job.is_finished and wait_ms != 0:
                with when_client_leaves(request.receive, waiting.leave):
                    is_kept_alive = await waiting.goes_on(pause_seconds)
            if is_kept_alive:
                events = late_answer(partial(waiting.goes_on, pause_seconds), waiting.answered)
                return EventStream(events, request.receive, on_leave=waiting.leave)
        finally:
            if not is_kept_alive:
                waiting.leave()
        return answer(_ended_info(handle))

    async def feed(self, request: Request) -> Response:
        """Write a body into its standard input, as it comes."""
        session, handle = self._handle(request)
        offset = bodies.number_query(request, "offset", None, MAX_POSITION, least=0)
        close = bodies.flag_query(request, "close", default=False)
        if offset is None:
            raise invalid_request("The query needs an 'offset': where in the whole input the body begins.")
        stdin = handle.job.streams.input if handle.job.streams is not None else None
        if stdin is None:
            raise input_closed()
        pause_seconds = bodies.keep_alive_seconds(request)
        if pause_seconds is None:
            with session.lifetime.used():
                return answer({"position": await stdin.feed(body_of(request), offset, close=close)})
        # The stream of the answer takes over the connection, so the whole body must have come.
        pieces = await whole_body(request, MAX_WHOLE_BYTES)
        taking = Taking(session, stdin.feed(one(pieces), offset, close=close))
        if not await taking.goes_on(pause_seconds):
            return answer(taking.position())
        events = late_answer(partial(taking.goes_on, pause_seconds), taking.answered)
        return EventStream(events, request.receive, on_leave=taking.leave)

    async def signal(self, request: Request) -> Response:
        """Signal its process group."""
        _session, handle = self._handle(request)
        number = await signal_body(request)
        return answer({"delivered": handle.job.signal(number)})

    async def resize(self, request: Request) -> Response:
        """Set the size of its terminal."""
        _session, handle = self._handle(request)
        size = await resize_body(request)
        if not handle.resize(size):
            raise invalid_request("This process has no terminal. Start one with terminal=(columns, rows).")
        return answer({"ok": True})

    async def end(self, request: Request) -> Response:
        """Stop it and all that it started."""
        session, handle = self._handle(request)
        patience_seconds = 0.0 if bodies.flag_query(request, "force", default=False) else PATIENCE_SECONDS
        with session.lifetime.used():
            if handle.job.is_finished:
                await handle.job.stop_rest(patience_seconds)
            else:
                handle.job.stop(JobEnd.INTERRUPTED, patience_seconds)
                await handle.job.ended()
        return answer(_ended_info(handle))

    def _session(self, request: Request) -> Session:
        return self._manager.get(request.path_params["session_id"])

    def _handle(self, request: Request) -> tuple[Session, Handle]:
        session = self._session(request)
        return session, session.processes.get(request.path_params["process_id"])

    def _on_ended(self, job: ProcessJob) -> None:
        if not isinstance(job.error, ApiError):  # else it never began
            self._observer.process_ended(job.end)


class _Waiting(Attended):
    """One who waits for the end of a process, reads none of its output, and may leave without an effect."""

    def __init__(self, session: Session, handle: Handle, seconds: float | None) -> None:
        """Wait for so long at most."""
        super().__init__(handle.job, has_key=True)
        self._handle = handle
        self._until = None if seconds is None else time.monotonic() + seconds
        self._listener = self.listen()
        self._held = ExitStack()
        self._held.enter_context(session.lifetime.used())
        self._held.enter_context(handle.tape.only_waiting())

    async def goes_on(self, seconds: float | None) -> bool:
        """Wait a while for the end; return whether there is more to wait for."""
        left_seconds = None if self._until is None else max(0, self._until - time.monotonic())
        is_last = left_seconds is not None and (seconds is None or left_seconds <= seconds)
        return await self.outlasts(self._listener, left_seconds if is_last else seconds) and not is_last

    def answered(self) -> dict[str, Any] | None:
        """Return status and body of the answer, or None if nobody waits for it."""
        if self._listener.has_left:
            return None
        try:
            return {"status": 200, "body": _ended_info(self._handle)}
        except ApiError as error:
            return {"status": error.status, "body": error.body}

    def leave(self) -> None:
        """Nobody waits any more."""
        self._listener.leave()
        self._held.close()

    def on_left(self) -> None:
        """See `Attended`: the process goes on."""
        self.job.wake()


def _ended_info(handle: Handle) -> dict[str, Any]:
    """Return the facts about a process.

    Raises:
        ApiError: it has no result, since the session is gone.
    """
    if handle.job.error is not None:
        raise lost_error(handle.job.error)
    return info_of(handle)


async def _events(
    handle: Handle, reader: TapeReader, pause_seconds: float, until: float | None, enough: int
) -> AsyncIterator[bytes]:
    """Yield the events for a reader, from its position on."""
    tape = handle.tape
    while not reader.has_left:
        is_over = handle.job.is_finished  # before the last look: nothing comes after that
        if missed_bytes := tape.missed_bytes(reader.position):
            reader.came_to(reader.position + missed_bytes)
            yield event("gap", {"missed_bytes": missed_bytes}, reader.position)
        for piece in tape.after(reader.position):
            yield piece_event(piece)
            reader.came_to(piece.end)
            if reader.has_left or piece.end >= enough:
                return
        if reader.position < tape.end:
            continue
        if is_over:
            yield last_event(handle, reader.position)
            return
        left_seconds = pause_seconds if until is None else min(pause_seconds, until - time.monotonic())
        if left_seconds <= 0:
            return
        if not handle.job.is_finished and not await tape.changes(left_seconds):
            yield KEEP_ALIVE
