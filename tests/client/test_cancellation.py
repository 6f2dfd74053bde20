"""Requests that are cancelled half way: their connections never carry another."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest

from sandkasten._config import Target
from sandkasten._transport.asynchronous import Transport
from tests.scripted import OK, Line, answer_all, scripted
from tests.soon import soon

MIB = 1024 * 1024


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("data", [b"", OK[:10], OK[:-2]], ids=["silence", "head", "body"])
async def test_a_cancelled_request_ends_its_connection(data: bytes) -> None:
    def begin(line: Line) -> None:
        line.request()
        line.send(data)
        begun.set()
        line.wait_for_end()
        ended.set()

    begun, ended = threading.Event(), threading.Event()
    with scripted(begin, answer_all) as peer, soon():
        transport = Transport(Target(peer.url))

        async def get(path: str) -> str:
            response = await transport.handle_async_request(httpx.Request("GET", peer.url + path))
            await response.aread()
            return response.text

        task = asyncio.create_task(get("/first"))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await get("/second") == "/second"
        assert await asyncio.to_thread(ended.wait, 10)
        await transport.aclose()


async def test_a_request_that_is_cancelled_within_its_body_ends_its_connection() -> None:
    def stall(line: Line) -> None:
        line.head()
        begun.set()
        line.wait_for_end()
        ended.set()

    async def endless() -> object:
        while True:
            yield b"x" * MIB
            await asyncio.sleep(0)

    begun, ended = threading.Event(), threading.Event()
    with scripted(stall, answer_all) as peer, soon():
        transport = Transport(Target(peer.url))
        request = httpx.Request("PUT", peer.url, content=endless())  # type: ignore[arg-type]
        task = asyncio.create_task(transport.handle_async_request(request))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(ended.wait, 10)
        await transport.aclose()


async def test_a_body_that_fails_ends_its_connection_and_is_the_error() -> None:
    async def failing() -> object:
        yield b"x"
        raise ValueError("on purpose")

    def wait(line: Line) -> None:
        line.head()
        line.wait_for_end()
        ended.set()

    ended = threading.Event()
    with scripted(wait) as peer, soon():
        transport = Transport(Target(peer.url))
        request = httpx.Request("PUT", peer.url, content=failing())  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="on purpose"):
            await transport.handle_async_request(request)
        assert await asyncio.to_thread(ended.wait, 10)
        await transport.aclose()
