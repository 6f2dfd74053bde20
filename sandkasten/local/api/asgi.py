"""The parts of the HTTP side that are not about sandboxes: keys, request ids, streams, clients that go."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandkasten.local.api.connections import LIVE
from sandkasten.local.errors import ApiError, SandboxLostError
from sandkasten.local.observe.observer import Observer

log = logging.getLogger("sandkasten.local")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_OPEN_PATHS = {"/healthz"}
_HOST_OF_THIS_MACHINE = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?")

Guard = Callable[[Headers], bool]
"""A function that decides whether a request with these headers may be answered."""


def key_guard(api_key: str) -> Guard:
    """Return a guard that lets those in who have the key."""
    expected = _digest(f"Bearer {api_key}")
    # Digests are of one length, and nobody can choose them bit by bit: the time tells nothing of the key.
    return lambda headers: hmac.compare_digest(_digest(headers.get("authorization", "")), expected)


def open_guard(_headers: Headers) -> bool:
    """Everybody who gets that far."""
    return True


def browser_guard(headers: Headers) -> bool:
    """Everybody except web pages, whose requests a browser of this machine would send in the user's name.

    A browser marks the requests of pages: with the page's origin, its address, or how far the page is from
    this server (`none`: the user typed the address). Where a page's own host name was made to lead here, the
    page is its own origin, and its requests name that host; a second host would leave open which one counts.
    """
    if "origin" in headers or "referer" in headers or headers.get("sec-fetch-site", "none") != "none":
        return False
    hosts = headers.getlist("host")
    return len(hosts) == 1 and bool(_HOST_OF_THIS_MACHINE.fullmatch(hosts[0]))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


class ApiMiddleware:
    """Checks the key, gives every answer its request id, and reports to the observer."""

    def __init__(
        self, app: ASGIApp, guard: Guard, observer: Observer, routes: Mapping[Callable[..., Any], str]
    ) -> None:
        """Wrap an application; `routes` gives a handler's path, as a template."""
        self._app = app
        self._guard = guard
        self._observer = observer
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        started = time.monotonic()
        status = 0  # until it is answered

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
                status = message["status"]
            await send(message)

        app = self._app if scope["path"] in _OPEN_PATHS or self._guard(headers) else _refuse
        try:
            await app(scope, receive, send_with_id)
        except Exception:
            log.exception("A request failed unexpectedly (request %s).", request_id)
            if status:
                raise  # the connection breaks off, lest half an answer is taken for a whole one
            error = ApiError(500, "INTERNAL_ERROR", "The daemon failed; its log says more.")
            await answer_error(error)(scope, receive, send_with_id)
        finally:
            self._tell(scope, status, time.monotonic() - started, request_id)

    def _tell(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = self._routes.get(scope.get("endpoint", _refuse), "none")
        session_id = scope.get("path_params", {}).get("session_id", "")[:64]
        self._observer.request_ended(
            scope["method"], route, status, seconds, request_id=request_id, session_id=session_id
        )


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = ApiError(401, "UNAUTHORIZED", "The API key is missing or wrong.")
    await answer_error(error)(scope, receive, send)


def answer(content: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return JSONResponse(content, status)


def answer_error(error: ApiError) -> Response:
    """An error's answer."""
    headers = {"Retry-After": "1"} if error.status == 429 else None
    return JSONResponse(error.body, error.status, headers)


@contextmanager
def when_client_leaves(receive: Receive, action: Callable[[], None]) -> Generator[None, None, None]:
    """Call `action` if the client closes its connection during the block."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        action()

    task = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        task.cancel()


class EventStream(Response):
    """Server-sent events, each sent at once.

    A StreamingResponse would cancel the iterator in the middle of its waiting; here `on_leave` notifies the
    iterator, which comes to its own end.
    """

    def __init__(self, events: AsyncIterator[bytes], receive: Receive, on_leave: Callable[[], None]) -> None:
        """Prepare a stream of events that `event` or `KEEP_ALIVE` made; `receive` is the request's."""
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        del self.headers["content-length"]
        self._events = events
        self._receive = receive
        self._on_leave = on_leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[LIVE] = True
        with when_client_leaves(self._receive, self._on_leave):
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for data in self._events:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                self._on_leave()


KEEP_ALIVE = b": keep-alive\n\n"


def event(name: str, data: Any, number: int) -> bytes:
    """One server-sent event; JSON in ASCII has no line ends of any alphabet."""
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def late_answer(
    waits: Callable[[], Awaitable[bool]], answered: Callable[[], Mapping[str, Any] | None]
) -> AsyncIterator[bytes]:
    """Yield comments while a client waits, then its answer as one event.

    Args:
        waits: waits for a while; returns whether there is more to wait for.
        answered: returns status and body, or None if nobody waits for them any more.
    """
    while True:
        yield KEEP_ALIVE
        try:
            if not await waits():
                break
        except (SandboxLostError, ApiError):
            break
    if (found := answered()) is not None:
        yield event("answer", found, 0)
