"""The parts of the HTTP side that are not about sandboxes: keys, answers, streams, clients that go."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from sandkasten.local.api.connections import LIVE
from sandkasten.local.api.http.messages import Headers, Receive, Response, Scope, Send, StreamedResponse
from sandkasten.local.errors import ApiError, SandboxLostError

JSON = "application/json"
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
    page is its own origin, and its requests name that host; the join of two hosts is the name of none.
    """
    if "origin" in headers or "referer" in headers or headers.get("sec-fetch-site", "none") != "none":
        return False
    return bool(_HOST_OF_THIS_MACHINE.fullmatch(headers.get("host", "")))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def answer(content: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(_json(content).encode(), status, media_type=JSON)


def answer_error(error: ApiError) -> Response:
    """An error's answer."""
    headers = {"Retry-After": "1"} if error.status == 429 else None
    return Response(_json(error.body).encode(), error.status, headers, JSON)


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


class EventStream(StreamedResponse):
    """Server-sent events, each sent at once.

    A StreamingResponse would cancel the iterator in the middle of its waiting; here `on_leave` notifies the
    iterator, which comes to its own end.
    """

    def __init__(self, events: AsyncIterator[bytes], receive: Receive, on_leave: Callable[[], None]) -> None:
        """Prepare a stream of events that `event` or `KEEP_ALIVE` made; `receive` is the request's."""
        super().__init__(200, {"Cache-Control": "no-cache"}, "text/event-stream; charset=utf-8")
        self._events = events
        self._receive = receive
        self._on_leave = on_leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[LIVE] = True
        with when_client_leaves(self._receive, self._on_leave):
            try:
                await send(self.start)
                await send(_NOTHING_YET)  # the head does not wait for an event
                async for data in self._events:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                self._on_leave()


KEEP_ALIVE = b": keep-alive\n\n"
_NOTHING_YET = {"type": "http.response.body", "body": b"", "more_body": True}


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
