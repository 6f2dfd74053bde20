"""A small HTTP/1.1 server that may misbehave: each connection has a thread, each answer is a row of steps."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from typing import BinaryIO
from urllib.parse import parse_qsl, unquote, urlsplit

from sandkasten.testing._steps import End, Pause, Step

# RFC 9112 recommends to read on for a while after an early refusal: a reset would take the answer away.
_LINGER_SECONDS = 0.5
_MAX_LINE_BYTES = 65_536


@dataclass(frozen=True)
class Request:
    """A request as the client sent it.

    Attributes:
        method: the HTTP verb.
        path: the path, unquoted and without the query.
        query: the query's values by name, the last of each.
        headers: by their names in lower case.
        body: the whole body; empty if it was too large.
        too_large: whether the body was larger than the server takes.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    too_large: bool = False


class Peer:
    """The client's end of a connection, for handlers that look whether it is still there."""

    def __init__(self, connection: socket.socket) -> None:
        """Watch a connection."""
        self._connection = connection

    def is_gone(self) -> bool:
        """Return whether the client closed the connection."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                return bool(selector.select(0)) and not self._connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True


Handler = Callable[[Request, Peer], Iterable[Step]]
BodyLimit = Callable[[Mapping[str, str]], int]


class Server:
    """Serves on a port of the loopback interface from `start` to `stop`."""

    def __init__(self, handler: Handler, body_limit: BodyLimit) -> None:
        """Prepare; `body_limit` says from the headers how many bytes a body may have."""
        self._handler = handler
        self._body_limit = body_limit
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._closing = threading.Event()
        self.port = 0

    def start(self) -> None:
        """Listen: on a free port the first time, on the same one whenever it is started again."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """Refuse new connections, break off those there are, and wait for their threads."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is None or self._acceptor is None:
            return
        self._closing.set()
        with contextlib.suppress(OSError):  # wakes the thread that accepts
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._acceptor.join()
        listener.close()
        with self._lock:
            threads = list(self._connections.values())
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            if thread is not threading.current_thread():  # a handler may stop its own server
                thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            if self._closing.is_set():
                connection.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection, self._closing), daemon=True)
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket, closing: threading.Event) -> None:
        try:
            with connection, connection.makefile("rb") as reader, contextlib.suppress(OSError):
                self._answer_all(connection, reader, closing)
        finally:
            with self._lock:
                del self._connections[connection]

    def _answer_all(
        self, connection: socket.socket, reader: BufferedReader, closing: threading.Event
    ) -> None:
        peer = Peer(connection)
        while not closing.is_set() and (request := read_request(reader, self._body_limit)) is not None:
            if not _perform(self._handler(request, peer), connection, closing):
                return
            if request.too_large:
                _linger(connection, closing)
                return
            if request.headers.get("connection", "").lower() == "close":
                return


def read_request(reader: BufferedReader, body_limit: BodyLimit) -> Request | None:
    """Read a request; None where the client has none any more, or what comes is not HTTP."""
    if not reader.peek(1)[:1].isalpha():  # the end, or TLS, whose first bytes may lack a line's end
        return None
    first = reader.readline(_MAX_LINE_BYTES).decode("latin-1").split()
    if len(first) != 3 or not first[2].startswith("HTTP/"):
        return None
    method, target, _version = first
    headers = dict(_headers(reader))
    try:
        parts = urlsplit(target)
        body = _body(reader, headers, body_limit(headers))
    except ValueError:
        return None
    return Request(
        method,
        unquote(parts.path),
        dict(parse_qsl(parts.query, keep_blank_values=True)),
        headers,
        body or b"",
        too_large=body is None,
    )


def _headers(reader: BinaryIO) -> Iterator[tuple[str, str]]:
    while line := reader.readline(_MAX_LINE_BYTES).decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        yield name.strip().lower(), value.strip()


def _body(reader: BinaryIO, headers: Mapping[str, str], limit: int) -> bytes | None:
    """Read a body; None, and most of it unread, if it is larger than the limit."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _chunked_body(reader, limit)
    size = int(headers.get("content-length", "0"))
    return reader.read(size) if size <= limit else None


def _chunked_body(reader: BinaryIO, limit: int) -> bytes | None:
    body = bytearray()
    while size := int(reader.readline(_MAX_LINE_BYTES).partition(b";")[0], 16):
        if len(body) + size > limit:
            return None
        body += reader.read(size)
        reader.readline(_MAX_LINE_BYTES)
    for _trailer in _headers(reader):
        pass
    return bytes(body)


def _perform(steps: Iterable[Step], connection: socket.socket, closing: threading.Event) -> bool:
    """Do what the steps say; whether the connection can be used again."""
    for step in steps:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, Pause):
            closing.wait(step.seconds)
        else:
            _end(step, connection, closing)
        if isinstance(step, End) or closing.is_set():
            return False
    return True


def _end(end: End, connection: socket.socket, closing: threading.Event) -> None:
    if end is End.RESET:
        # Closing with a linger time of zero sends a reset instead of a farewell.
        numbers = "hh" if sys.platform == "win32" else "ii"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(numbers, 1, 0))
    elif end is End.SILENCE:
        peer = Peer(connection)
        while not closing.wait(0.02) and not peer.is_gone():
            pass


def _linger(connection: socket.socket, closing: threading.Event) -> None:
    """Say that nothing more will come, and give the client a moment to read what came."""
    connection.shutdown(socket.SHUT_WR)
    until = time.monotonic() + _LINGER_SECONDS
    connection.settimeout(_LINGER_SECONDS)
    while time.monotonic() < until and not closing.is_set() and connection.recv(65_536):
        pass
