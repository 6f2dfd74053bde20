"""The parts of the HTTP side that are not about sandboxes: keys, request ids, streams, clients that go."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandkasten.local.errors import ApiError

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_OPEN_PATHS = {"/healthz"}


class ApiMiddleware:
    """Checks the key, and gives every answer its request id."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        """Wrap an application."""
        self._app = app
        self._expected = f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        app = self._app if self._is_allowed(scope, headers) else _refuse
        await app(scope, receive, send_with_id)

    def _is_allowed(self, scope: Scope, headers: Headers) -> bool:
        if scope["path"] in _OPEN_PATHS:
            return True
        given = headers.get("authorization", "").encode("utf-8", "replace")
        return hmac.compare_digest(given, self._expected)


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

    Not a StreamingResponse, which cancels the iterator in the middle of its waiting; here the
    iterator is told through `on_leave` and comes to its own end.
    """

    def __init__(self, events: AsyncIterator[bytes], request: Request, on_leave: Callable[[], None]) -> None:
        """Prepare a stream of events that `event` or `KEEP_ALIVE` made."""
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        del self.headers["content-length"]
        self._events = events
        self._request = request
        self._on_leave = on_leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with when_client_leaves(self._request.receive, self._on_leave):
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for data in self._events:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                self._on_leave()


KEEP_ALIVE = b": keep-alive\n\n"


def event(name: str, data: Any) -> bytes:
    """One server-sent event; JSON in ASCII has no line ends of any alphabet."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
