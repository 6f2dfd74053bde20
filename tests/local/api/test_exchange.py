"""Answers and bodies between uvicorn and the application, by real connections without a peer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from sandkasten.local.api.asgi import EventStream
from sandkasten.local.api.connections import Bounds, Connection, Connections
from sandkasten.local.api.http.exchange import whole_body
from sandkasten.local.api.http.messages import Receive, Response, Scope, Send
from sandkasten.local.observe.observer import Observer


class Wire(asyncio.Transport):
    """A transport that keeps each write by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""

    def get_write_buffer_size(self) -> int:
        return 0


async def talk(app: Any, *pieces: bytes) -> list[bytes]:
    """Return what an application's connection writes when these pieces come, one after another."""
    config, state = uvicorn.Config(app, lifespan="off", log_config=None, proxy_headers=False), ServerState()
    config.load()
    connection, wire = Connection(config, state, Connections(config, state, Observer(), Bounds())), Wire()
    connection.connection_made(wire)
    for piece in pieces:
        connection.data_received(piece)
        for _ in range(20):  # all that can go on does
            await asyncio.sleep(0)
    connection.connection_lost(None)
    return wire.writes


@pytest.mark.parametrize(("method", "size", "writes"), [("GET", 10, 1), ("GET", 100_000, 2), ("HEAD", 10, 1)])
def test_a_small_answer_is_one_write(method: str, size: int, writes: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(b"x" * size)(scope, receive, send)

    found = asyncio.run(talk(app, f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode()))
    assert len(found) == writes
    head, body = b"".join(found).split(b"\r\n\r\n")
    assert b"content-length: %d" % size in head
    assert len(body) == (size if method == "GET" else 0)


def test_the_head_of_a_stream_does_not_wait_for_an_event() -> None:
    async def never() -> Any:
        await asyncio.Event().wait()
        yield b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await EventStream(never(), receive, lambda: None)(scope, receive, send)

    (head,) = asyncio.run(talk(app, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert head.endswith(b"\r\n\r\n")
    assert b"text/event-stream" in head


def test_a_body_is_whole_only_when_all_of_it_is_here() -> None:
    seen: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(whole_body(receive))
        message = await receive()
        seen.append(message.get("body"))
        seen.append(whole_body(receive))
        await Response()(scope, receive, send)

    head = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n"
    asyncio.run(talk(app, head + b"abc", b"def"))
    assert seen == [None, b"abc", None]
    seen.clear()
    asyncio.run(talk(app, head + b"abcdef"))
    assert seen[0] == b"abcdef"
    assert b"abcdef" not in seen[1:], "it was given twice"
    assert whole_body(cast("Receive", lambda: None)) is None
