"""The bounds of connections; the application says yes to everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from uvicorn.server import ServerState

from sandkasten.local.api.asgi import EventStream
from sandkasten.local.api.connections import Bounds, Connection, Connections
from sandkasten.local.api.http.messages import Receive, Scope, Send
from sandkasten.local.listen import Certificate
from sandkasten.local.observe.observer import Observer

LONG = 3600.0
BOUNDS = Bounds(
    head_seconds=LONG, idle_seconds=LONG, unread_seconds=LONG, pause_seconds=LONG, connections=100
)
SOON = 0.02
GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """Answers each request at once, except those for /wait and /read."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.headers: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.put_nowait(scope["path"])
        content = b""
        if scope["path"] == "/live":
            await EventStream(self._events(), receive, lambda: None)(scope, receive, send)
            return
        if scope["path"] == "/wait":
            await self.go_on.wait()
        if scope["path"] == "/read":
            while (message := await receive())["type"] == "http.request":
                content += message.get("body", b"")
                if not message.get("more_body"):
                    break
        self.headers = [name for name, _value in scope["headers"]]
        body = b"yes:" + content
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    async def _events(self) -> AsyncIterator[bytes]:
        while not self.go_on.is_set():
            yield b": " + b"x" * 65536


class Peers:
    """Connections to the application."""

    def __init__(self, path: Path, app: App, state: ServerState, observer: Observer) -> None:
        self.path = path
        self.app = app
        self.state = state
        self.observer = observer
        self._writers: list[asyncio.StreamWriter] = []
        self._deaf: list[Deaf] = []

    def deaf(self) -> Deaf:
        self._deaf.append(Deaf(self))
        return self._deaf[-1]

    async def connect(self, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        self._writers.append(writer)
        writer.write(data)
        return reader, writer

    async def silent(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One that the daemon has taken and that says nothing."""
        before = set(self.state.connections)
        pair = await self.connect()
        while self.state.connections <= before:
            await asyncio.sleep(0)
        return pair

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        for one in self._deaf:
            one.close()


class Deaf:
    """A peer that sends a request, and reads what it is asked to."""

    def __init__(self, made: Peers) -> None:
        self._made = made
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)

    async def ask(self, data: bytes) -> Connection:
        """Send it; return the daemon's end, once that can write no more."""
        before = set(self._made.state.connections)
        await self._loop.sock_connect(self._socket, str(self._made.path))
        await self._loop.sock_sendall(self._socket, data)
        while not (new := set(self._made.state.connections) - before):
            await asyncio.sleep(0)
        (connection,) = new
        assert isinstance(connection, Connection)
        while not connection.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        return connection

    async def read(self, size_bytes: int) -> None:
        while size_bytes > 0:
            size_bytes -= len(await self._loop.sock_recv(self._socket, size_bytes))

    def close(self) -> None:
        self._socket.close()


@contextlib.asynccontextmanager
async def peers(
    place: Path, bounds: Bounds = BOUNDS, certificate: Certificate | None = None
) -> AsyncIterator[Peers]:
    app, state, observer = App(), ServerState(), Observer()
    config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=3600)
    connections = Connections(config, state, observer, bounds, certificate)
    with socket.socket(socket.AF_UNIX) as listener:
        (place / "s").unlink(missing_ok=True)
        listener.bind(str(place / "s"))
        listener.listen(100)
        accepting = asyncio.create_task(connections.accept(listener))
        made = Peers(place / "s", app, state, observer)
        try:
            yield made
        finally:
            app.go_on.set()
            made.close()
            accepting.cancel()
            await asyncio.wait([accepting, *state.tasks])
            while state.connections:
                await asyncio.sleep(0)


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of the answer after which the connection is closed."""
    return status(await to_the_end(reader))


def status(answer: bytes) -> int:
    """The status of an answer that is an error of the wire, and the last one."""
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)
    assert error["error_code"]
    assert error["message"].count(".") >= 2, error  # what happened, and what to do
    assert b"x-request-id: " in head
    assert b"connection: close" in head
    return int(head.split(b" ")[1])


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65536):
            parts.append(part)
    return b"".join(parts)


async def exchange(made: Peers, data: bytes, piece_bytes: int) -> bytes:
    """Send bytes for as long as they are taken, and return what came back; a stream would drop that."""
    loop = asyncio.get_running_loop()
    parts = []
    with socket.socket(socket.AF_UNIX) as peer, contextlib.suppress(ConnectionResetError):
        peer.setblocking(False)
        await loop.sock_connect(peer, str(made.path))
        with contextlib.suppress(BrokenPipeError):
            for start in range(0, len(data), piece_bytes):
                await loop.sock_sendall(peer, data[start : start + piece_bytes])
        while part := await loop.sock_recv(peer, 65536):
            parts.append(part)
    return b"".join(parts)


# --- bytes

FULL = BOUNDS.head_bytes
TOO_MUCH = {
    "a target": b"GET /" + b"x" * FULL,
    "a method": b"GET" + b" " * FULL,
    "a header's name": b"GET /x HTTP/1.1\r\n" + b"x" * FULL,
    "a header's value": b"GET /x HTTP/1.1\r\nHost: x\r\nX: " + b"x" * FULL,
    "headers of some size": b"GET /x HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"x" * 4096 + b"\r\n") * 17,
    "empty lines": b"\r\n" * FULL,
    "trailers": b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    + b"X: x\r\n" * FULL,
    "a trailer": b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "
    + b"x" * 2 * FULL,
    "an extension of a chunk": b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    + b"x" * 2 * FULL,
}


@pytest.mark.parametrize("name", TOO_MUCH)
@pytest.mark.parametrize("piece_bytes", [1000, 10**9])
async def test_more_than_a_head_may_have_is_refused(tmp_path: Path, name: str, piece_bytes: int) -> None:
    async with peers(tmp_path) as made:
        answer = await exchange(made, TOO_MUCH[name], piece_bytes)
        # The parser has a bound of its own for some.
        assert status(answer) in ({400, 431} if name == "an extension of a chunk" else {431})
        assert not made.state.connections


async def test_the_second_head_of_a_connection_has_the_same_bound(tmp_path: Path) -> None:
    async with peers(tmp_path) as made:
        reader, writer = await made.connect(GET)
        await reader.readuntil(b"yes:")
        writer.write(b"GET /" + b"x" * (FULL - 5))
        assert await status_of(reader) == 431
        answer = await exchange(made, GET + b"GET /" + b"x" * 2 * FULL, 10**9)
        assert answer == b""  # nothing comes before the answer to the first one, and that is not ready


@pytest.mark.parametrize("left", [0, 1])
async def test_a_head_that_just_fits_is_served(tmp_path: Path, left: int) -> None:
    start, end = b"GET /x HTTP/1.1\r\nHost: x\r\nX: ", b"\r\n\r\n"
    head = start + b"x" * (FULL - len(start) - len(end) - left) + end
    async with peers(tmp_path) as made:
        reader, writer = await made.connect(head)
        assert b" 200 " in await reader.readuntil(b"yes:")
        writer.write(head[: len(start)] + b"x" + head[len(start) :] + b"x" * (1 - left))
        if left:
            assert b" 200 " in await reader.readuntil(b"yes:")
        else:
            assert await status_of(reader) == 431


async def test_a_body_is_not_counted_however_it_is_cut(tmp_path: Path) -> None:
    pieces = b"".join(b"1;x=y\r\n%c\r\n" % (97 + number % 26) for number in range(FULL // 5))
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with peers(tmp_path) as made:
        reader, _writer = await made.connect(head + pieces + b"0\r\nX-Key: stolen\r\n\r\n" + GET)
        assert b"abcdefghij" in await reader.readuntil(b"yes:" + b"abcdef") + await reader.readuntil(b" 200 ")
        assert b"x-key" not in made.app.headers  # a trailer


@pytest.mark.parametrize("count", [BOUNDS.headers + 1, 10_000])
async def test_more_headers_than_a_request_may_have_are_refused(tmp_path: Path, count: int) -> None:
    async with peers(tmp_path) as made:
        reader, _writer = await made.connect(b"GET /x HTTP/1.1\r\n" + b"a:\r\n" * count + b"\r\n")
        assert await status_of(reader) == 431
        assert made.app.begun.empty()


async def test_more_requests_at_once_than_one_connection_may_have_are_refused(tmp_path: Path) -> None:
    wait = GET.replace(b"/x", b"/wait")
    async with peers(tmp_path) as made:
        reader, _writer = await made.connect(wait + GET * BOUNDS.pipelined)
        await made.app.begun.get()
        made.app.go_on.set()
        for _ in range(1 + BOUNDS.pipelined):
            await reader.readuntil(b"yes:")
        made.app.go_on.clear()
        reader, _writer = await made.connect(wait + GET * (BOUNDS.pipelined + 1))
        assert await to_the_end(reader) == b""  # an error would be taken for the answer to the first one


AMBIGUOUS = {
    "two hosts": b"GET /x HTTP/1.1\r\nHost: localhost\r\nHost: attacker.example\r\n\r\n",
    "two equal hosts": b"GET /x HTTP/1.1\r\nHost: x\r\nhOST: x\r\n\r\n",
    "two keys": b"GET /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "a key of a command and another": b"GET /x HTTP/1.1\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n",
    "a host in the target": b"GET http://attacker.example/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two lengths": b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "a length and chunks": b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
    "a folded header": b"GET /x HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
    "no request": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_a_request_that_could_be_read_in_two_ways_is_refused(tmp_path: Path, name: str) -> None:
    async with peers(tmp_path) as made:
        reader, _writer = await made.connect(AMBIGUOUS[name])
        assert await status_of(reader) == 400
        assert made.app.begun.empty()


async def test_an_error_is_no_answer_to_a_request_that_runs(tmp_path: Path) -> None:
    async with peers(tmp_path) as made:
        reader, writer = await made.connect(GET.replace(b"/x", b"/wait"))
        await made.app.begun.get()
        writer.write(b"nonsense\r\n\r\n")
        assert await to_the_end(reader) == b""


# --- time


@pytest.mark.parametrize("data", [b"GET /x HT", b"GET /x HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come_is_given_up(tmp_path: Path, data: bytes) -> None:
    async with peers(tmp_path, replace(BOUNDS, head_seconds=SOON)) as made:
        reader, _writer = await made.connect(data)
        assert await status_of(reader) == 408
        reader, _writer = await made.connect(GET + data)  # and that of a second request
        await reader.readuntil(b"yes:")
        assert await status_of(reader) == 408


async def test_a_connection_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async with peers(tmp_path, replace(BOUNDS, head_seconds=SOON)) as made:
        for data in (b"", b"\r\n"):
            reader, _writer = await made.connect(data)
            assert await to_the_end(reader) == b""
    async with peers(tmp_path, replace(BOUNDS, idle_seconds=SOON)) as made:
        for data in (b"", b"\r\n"):
            reader, writer = await made.connect(GET)
            await reader.readuntil(b"yes:")
            writer.write(data)
            assert await to_the_end(reader) == b""


async def test_more_bytes_do_not_move_the_deadline(tmp_path: Path) -> None:
    async with peers(tmp_path, replace(BOUNDS, head_seconds=SOON)) as made:
        reader, writer = await made.connect(b"GET /x HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                writer.write(b"X: x\r\n")
                await asyncio.sleep(SOON / 4)

        dripping = asyncio.create_task(drip())
        await to_the_end(reader)
        dripping.cancel()
        assert 'status="408"} 1' in made.observer.metrics.render(sessions_running=0, pool_ready=0)


async def test_a_body_that_nobody_reads_any_more_is_given_up(tmp_path: Path) -> None:
    """As after a wrong key: the answer came first."""
    async with peers(tmp_path, replace(BOUNDS, head_seconds=SOON)) as made:
        reader, writer = await made.connect(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        await reader.readuntil(b"yes:")
        writer.write(b"x")
        assert await to_the_end(reader) == b""


async def test_a_request_that_runs_has_no_deadline_of_the_connection(tmp_path: Path) -> None:
    async with peers(tmp_path, replace(BOUNDS, head_seconds=SOON, idle_seconds=LONG)) as made:
        running, writer = await made.connect(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        assert await made.app.begun.get() == "/wait"
        silent, _writer = await made.connect()
        assert await to_the_end(silent) == b""  # so that much time is over
        writer.write(b"b")
        made.app.go_on.set()
        assert b" 200 " in await running.readuntil(b"yes:")


ECHO = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n%s\r\n" + b"x" * 4_000_000
UNREAD = {
    "one answer": ECHO % b"",
    "an answer before the end": ECHO % b"Connection: close\r\n",
    "many answers": ECHO % b"" + GET * BOUNDS.pipelined,
}


@pytest.mark.parametrize("name", UNREAD)
async def test_an_answer_that_nobody_reads_is_given_up(tmp_path: Path, name: str) -> None:
    async with peers(tmp_path, replace(BOUNDS, unread_seconds=SOON)) as made:
        connection = await made.deaf().ask(UNREAD[name])
        while connection in made.state.connections:
            await asyncio.sleep(0)
        await asyncio.gather(*made.state.tasks)


async def test_a_peer_that_reads_slowly_is_waited_for(tmp_path: Path) -> None:
    async with peers(tmp_path) as made:
        peer = made.deaf()
        connection = await peer.ask(ECHO % b"")
        for _ in range(3):
            waiting_bytes = connection.transport.get_write_buffer_size()
            await peer.read(1_000_000)
            while connection.transport.get_write_buffer_size() == waiting_bytes:
                await asyncio.sleep(0)
            connection.look_at_reader()
            assert not connection.transport.is_closing()
        connection.look_at_reader()
        assert connection.transport.is_closing()


async def test_a_stream_that_nobody_reads_for_a_while_goes_on(tmp_path: Path) -> None:
    """Its reader may be at work, and the command would end with the connection."""
    async with peers(tmp_path, replace(BOUNDS, unread_seconds=SOON)) as made:
        peer = made.deaf()
        stream = await peer.ask(GET.replace(b"/x", b"/live"))
        other = await made.deaf().ask(ECHO % b"")
        while other in made.state.connections:  # so that much time is over
            await asyncio.sleep(0)
        assert stream in made.state.connections
        await peer.read(4_000_000)


# --- places


async def test_the_connection_that_has_waited_longest_makes_place(tmp_path: Path) -> None:
    async with peers(tmp_path, replace(BOUNDS, connections=3)) as made:
        first, _writer = await made.silent()
        second, second_writer = await made.silent()
        running, _writer = await made.connect(GET.replace(b"/x", b"/wait"))
        await made.app.begun.get()
        for _ in range(10):
            reader, _writer = await made.connect(GET)
            assert b" 200 " in await reader.readuntil(b"yes:")
        assert await to_the_end(first) == b""
        assert await to_the_end(second) == b""
        assert len(made.state.connections) <= 3
        made.app.go_on.set()
        assert b" 200 " in await running.readuntil(b"yes:")
        second_writer.close()


async def test_where_nobody_waits_a_new_connection_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with peers(tmp_path, replace(BOUNDS, connections=2)) as made:
        for _ in range(2):
            await made.connect(GET.replace(b"/x", b"/wait"))
            await made.app.begun.get()
        for _ in range(50):
            reader, _writer = await made.connect()
            assert await status_of(reader) == 503
        assert 'route="none",status="503"} 50' in made.observer.metrics.render(
            sessions_running=0, pool_ready=0
        )
    assert [record.getMessage() for record in caplog.records] == ["1 connections were refused with 503."]


async def test_a_peer_that_does_not_read_its_answers_can_lose_its_place(tmp_path: Path) -> None:
    body = b"x" * 1_000_000
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with peers(tmp_path, replace(BOUNDS, connections=1)) as made:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, str(made.path))
            await loop.sock_sendall(deaf, head + body + GET)
            assert await made.app.begun.get() == "/read"
            assert await made.app.begun.get() == "/x"
            reader, _writer = await made.connect(GET)
            assert b" 200 " in await reader.readuntil(b"yes:")


class OutOfDescriptors(socket.socket):
    """A listener of a process that has no descriptor left, until the test gives it some."""

    attempts = 0
    is_out = True

    def accept(self) -> tuple[socket.socket, object]:
        if self.is_out:
            self.attempts += 1
            raise OSError(24, "Too many open files")
        return super().accept()


async def test_without_descriptors_there_is_one_attempt_and_one_line_a_pause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = uvicorn.Config(App(), lifespan="off", log_config=None)
    state = ServerState()
    connections = Connections(config, state, Observer(), replace(BOUNDS, pause_seconds=SOON))
    with OutOfDescriptors(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(100)
        accepting = asyncio.create_task(connections.accept(listener))
        readers = [(await asyncio.open_unix_connection(str(tmp_path / "s"))) for _ in range(20)]
        while listener.attempts < 3:
            await asyncio.sleep(0)
        assert len(caplog.records) == listener.attempts
        listener.is_out = False
        for reader, writer in readers:
            writer.write(GET)
            assert b" 200 " in await reader.readuntil(b"yes:")
            writer.close()
        accepting.cancel()
        while state.connections or state.tasks:
            await asyncio.sleep(0)


async def test_without_descriptors_nothing_is_tried_again_before_a_pause_is_over(tmp_path: Path) -> None:
    config = uvicorn.Config(App(), lifespan="off", log_config=None)
    connections = Connections(config, ServerState(), Observer(), BOUNDS)
    with OutOfDescriptors(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(100)
        accepting = asyncio.create_task(connections.accept(listener))
        _reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        while not listener.attempts:
            await asyncio.sleep(0)
        for _ in range(1000):  # the listener is ready in each of these rounds
            await asyncio.sleep(0)
        assert listener.attempts == 1
        accepting.cancel()
        writer.close()
