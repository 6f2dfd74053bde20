"""The client's own transport against peers that do what they like: no answer is taken for another's."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from sandkasten._config import LOCAL_URL, Target
from tests.local.box import until
from tests.scripted import OK, Line, Peer, answer_all, answering, holding, scripted
from tests.soon import soon

from .seam import (
    carry,
    close_response,
    close_transport,
    limit_body,
    open_transport,
    parts_of,
    pieces_of,
    read_body,
    sleep,
    together,
)

PATIENCE = {"connect": 20.0, "read": 20.0, "write": 20.0, "total": 20.0}
MIB = 1024 * 1024
# More than sockets and the client hold of what nobody takes.
MANY_MIB = 64


class Way:
    """A transport to a peer."""

    def __init__(self, peer: Peer) -> None:
        self._url = LOCAL_URL if peer.socket_path else peer.url
        transport = open_transport(Target(self._url, socket_path=peer.socket_path))
        assert transport is not None
        self.transport = transport

    async def open(self, path: str = "/", content: Any = None, **patience: float) -> httpx.Response:
        """Send a request, and wait for the head of its answer."""
        request = httpx.Request(
            "GET" if content is None else "PUT",
            self._url + path,
            content=content,
            extensions={"timeout": PATIENCE | patience},
        )
        return await carry(self.transport, request)

    async def get(self, path: str = "/", content: Any = None, **patience: float) -> str:
        """Send a request; return its whole answer."""
        response = await self.open(path, content, **patience)
        try:
            await read_body(response)
            return response.text
        finally:
            await close_response(response)

    async def close(self) -> None:
        await close_transport(self.transport)


@pytest.fixture(params=["tcp", "unix"])
def place(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The path of a Unix socket; None for TCP."""
    if request.param == "tcp":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="sandkasten-") as folder:
        yield f"{folder}/socket"


async def test_requests_in_a_row_share_a_connection(place: str | None) -> None:
    with scripted(answer_all, socket_path=place) as peer:
        way = Way(peer)
        assert [await way.get(f"/{number}") for number in range(20)] == [f"/{n}" for n in range(20)]
        assert [await way.get("/a", b"body" * n) for n in (1, MIB)] == ["/a", "/a"]
        assert await way.get("/b", pieces_of([b"x" * MIB, b"", b"y"])) == "/b"
        assert peer.requests[-1].body == b"x" * MIB + b"y"
        await way.close()
    assert peer.connections == 1


async def test_many_at_once_get_each_its_own_answer(place: str | None) -> None:
    with scripted(answer_all, socket_path=place) as peer:
        way = Way(peer)

        async def ask(number: int) -> None:
            for step in range(5):
                path = f"/{number}/{step}"
                assert await way.get(path) == path

        await together(*[partial(ask, number) for number in range(32)])
        await way.close()
    assert peer.connections <= 32


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_an_answer_cut_at_any_byte_is_an_error(reset: bool) -> None:
    scripts = [answering(OK[:size], reset=reset) for size in range(len(OK))]
    with scripted(*scripts, answer_all) as peer:
        way = Way(peer)
        for _ in range(len(OK)):
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await way.get("/cut")
        assert await way.get("/whole") == "/whole"
        await way.close()
    assert [request.path for request in peer.requests] == ["/cut"] * len(OK) + ["/whole"]


async def test_an_answer_that_ends_with_its_connection_is_whole() -> None:
    with scripted(answering(b"HTTP/1.1 200 OK\r\n\r\nbody")) as peer:
        way = Way(peer)
        assert [await way.get() for _ in range(2)] == ["body", "body"]
        await way.close()
    assert peer.connections == 2


@pytest.mark.parametrize(
    "data",
    [
        OK + OK.replace(b"body", b"evil"),
        OK + b"rubbish",
        OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"),
        OK.replace(b"1.1", b"1.0"),
    ],
    ids=["a second answer", "rubbish", "a farewell", "an old version"],
)
async def test_a_connection_with_anything_behind_the_answer_is_not_used_again(data: bytes) -> None:
    with scripted(holding(data), answer_all) as peer:
        way = Way(peer)
        assert await way.get() == "body"
        assert await way.get("/own") == "/own"
        await way.close()
    assert peer.connections == 2


async def test_what_comes_unasked_is_nobodys_answer(place: str | None) -> None:
    def smuggle(line: Line) -> None:
        line.request()
        line.send(OK)
        assert line.send(OK.replace(b"body", b"evil"))
        smuggled.append(True)
        line.wait_for_end()

    smuggled: list[bool] = []
    with scripted(smuggle, answer_all, socket_path=place) as peer:
        way = Way(peer)
        assert await way.get() == "body"
        until(lambda: bool(smuggled))
        assert await way.get("/own") == "/own"
        await way.close()


async def test_what_comes_before_the_answer_is_passed_over() -> None:
    first = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    with scripted(answering(first + OK)) as peer:
        way = Way(peer)
        assert await way.get() == "body"
        await way.close()


async def test_a_head_of_a_hundred_megabytes_is_not_read() -> None:
    def flood(line: Line) -> None:
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\nx: ")
        while line.send(b"x" * MIB) and len(sent) < 100:
            sent.append(MIB)

    sent: list[int] = []
    with scripted(flood) as peer:
        way = Way(peer)
        with pytest.raises(httpx.RemoteProtocolError, match="too long"):
            await way.get()
        await way.close()
    assert len(sent) < MANY_MIB


async def test_a_trickle_does_not_outlast_the_whole_time() -> None:
    def trickle(line: Line) -> None:
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while line.send(b"x"):
            pause.wait(0.01)

    pause = threading.Event()
    with scripted(trickle) as peer, soon():
        way = Way(peer)
        with pytest.raises(httpx.ReadTimeout, match=r"no whole answer within 0\.2 s"):
            await way.get(total=0.2)
        await way.close()


async def test_a_head_that_trickles_does_not_outlast_the_whole_time() -> None:
    def trickle(line: Line) -> None:
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\n")
        while line.send(b"x: y\r\n"):
            pause.wait(0.01)

    pause = threading.Event()
    with scripted(trickle) as peer, soon():
        way = Way(peer)
        with pytest.raises(httpx.ReadTimeout, match="no whole answer"):
            await way.get(total=0.2)
        await way.close()


async def test_a_flood_does_not_outlast_the_whole_time() -> None:
    def flood(line: Line) -> None:
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while line.send(b"x" * 4096):
            pass

    with scripted(flood) as peer, soon():
        way = Way(peer)
        with pytest.raises(httpx.ReadTimeout, match="no whole answer"):
            await way.get(total=0.2)
        await way.close()


async def test_silence_is_limited_before_the_head_and_within_the_body() -> None:
    with scripted(holding(b""), holding(OK[:-2])) as peer, soon():
        way = Way(peer)
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout, match=r"nothing came for 0\.1 s"):
                await way.get(read=0.1)
        await way.close()


async def test_the_rest_of_an_answer_may_have_a_time_of_its_own() -> None:
    with scripted(holding(OK[:-2])) as peer, soon():
        way = Way(peer)
        response = await way.open()
        limit_body(response, 0.1)
        with pytest.raises(httpx.ReadTimeout, match=r"within 0\.1 s"):
            await read_body(response)
        await way.close()


async def test_a_peer_that_takes_nothing_is_given_up() -> None:
    def refuse(line: Line) -> None:
        line.head()
        finished.wait(20)

    finished = threading.Event()
    with scripted(refuse) as peer, soon():
        way = Way(peer)
        with pytest.raises(httpx.WriteTimeout):
            await way.get(content=pieces_of([b"x" * MIB] * MANY_MIB), write=0.1)
        finished.set()
        await way.close()


async def test_an_answer_before_the_end_of_the_body_is_taken_and_ends_the_connection() -> None:
    def refuse(line: Line) -> None:
        line.head()
        line.send(OK.replace(b"200 OK", b"413 Too Large"))
        finished.wait(20)

    finished = threading.Event()
    with scripted(refuse, answer_all) as peer, soon():
        way = Way(peer)
        response = await way.open(content=pieces_of([b"x" * MIB] * MANY_MIB))
        await read_body(response)
        assert (response.status_code, response.text) == (413, "body")
        assert await way.get("/own") == "/own"
        finished.set()
        await way.close()


async def test_a_connection_that_the_peer_closed_costs_no_request(place: str | None) -> None:
    """Nothing that was sent on it was read, provably: so even a command without a key is sent again, once."""
    with scripted(answering(OK), answering(OK), answer_all, socket_path=place) as peer:
        way = Way(peer)
        for number in range(3):
            assert await way.get("/", b"x") in {"body", "/"}
            until(lambda count=number: peer.ended > count or count == 2)
        await way.close()
    assert len(peer.requests) == 3


async def test_a_request_that_was_read_and_not_answered_is_never_sent_again(place: str | None) -> None:
    def leave_at_the_second(line: Line) -> None:
        line.request()
        line.send(OK)
        line.request()

    with scripted(leave_at_the_second, answer_all, socket_path=place) as peer:
        way = Way(peer)
        assert await way.get("/first") == "body"
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await way.get("/second", b"x")
        await way.close()
    assert [request.path for request in peer.requests] == ["/first", "/second"]
    assert peer.connections == 1


async def test_a_body_that_nobody_reads_is_not_taken_from_the_peer() -> None:
    def flood(line: Line) -> None:
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (10 * MANY_MIB * MIB))
        while line.send(b"x" * 65536):
            sent.append(65536)
        ended.set()

    sent: list[int] = []
    ended = threading.Event()
    with scripted(flood, answer_all) as peer:
        way = Way(peer)
        response = await way.open()
        parts = parts_of(response)  # held, since an iterator that nobody has any more closes its connection
        async for part in parts:
            assert part.strip(b"x") == b""
            break
        taken, rounds = 0, 0
        while rounds < 50 and sum(sent) < MANY_MIB * MIB:  # until nothing more is taken meanwhile
            assert await way.get("/other") == "/other"
            await sleep(0.001)
            taken, rounds = len(sent), rounds + 1 if len(sent) == taken else 0
        assert sum(sent) < MANY_MIB * MIB
        await close_response(response)
        with soon():
            while not ended.is_set():  # the peer sees that the connection ends
                await sleep(0.001)
        await way.close()


async def test_a_large_body_arrives_as_it_was_sent() -> None:
    data = bytes(range(256)) * (5 * MIB // 256) + b"end"

    def send(line: Line) -> None:
        while line.request() is not None:
            line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data))
            line.send(data)

    with scripted(send) as peer:
        way = Way(peer)
        for _ in range(2):
            response = await way.open()
            assert b"".join([bytes(part) async for part in parts_of(response)]) == data
        await way.close()
    assert peer.connections == 1


@pytest.mark.parametrize("data", [b"", OK[:-2]], ids=["head", "body"])
async def test_closing_ends_the_requests_that_wait(data: bytes) -> None:
    def wait(line: Line) -> None:
        line.request()
        line.send(data)
        sent.set()
        line.wait_for_end()

    sent = threading.Event()
    with scripted(wait) as peer:
        way = Way(peer)

        async def ask() -> None:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await way.get()

        async def close() -> None:
            while not sent.is_set():
                await sleep(0.001)
            await way.close()

        with soon():
            await together(ask, close)


@pytest.mark.parametrize("content", [b"x", None])
async def test_nobody_there_means_that_nothing_was_sent(place: str | None, content: bytes | None) -> None:
    with scripted(answer_all, socket_path=place) as peer:
        way = Way(peer)
    with pytest.raises(httpx.ConnectError):
        await way.get("/", content)
    await way.close()
