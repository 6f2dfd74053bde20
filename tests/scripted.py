"""A peer that does what a test says, byte for byte: each connection is handled by the next script."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sandkasten.testing._server import Request, read_request

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody"
_RESET = struct.pack("ii", 1, 0)
_BODY_BYTES = 64 * 1024 * 1024


class Line:
    """One connection, seen from the peer."""

    def __init__(self, connection: socket.socket, requests: list[Request]) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._requests = requests

    def request(self) -> Request | None:
        """Read a request; None where the client closes instead."""
        with suppress(OSError):
            request = read_request(self._reader, lambda _headers: _BODY_BYTES)
            if request is not None:
                self._requests.append(request)
            return request
        return None

    def head(self) -> None:
        """Read the head of a request, and nothing of its body."""
        while self._reader.readline().strip():
            pass

    def send(self, data: bytes) -> bool:
        """Send bytes; return False if the client has closed."""
        try:
            self._connection.sendall(data)
        except OSError:
            return False
        return True

    def wait_for_end(self) -> None:
        """Wait until the client closes."""
        with suppress(OSError):
            while self._reader.read(65536):
                pass

    def reset(self) -> None:
        """Close by a reset."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def close(self) -> None:
        self._reader.close()
        self._connection.close()


Script = Callable[[Line], object]


class Peer:
    """Listens on loopback, or on a Unix socket; use `scripted`.

    Attributes:
        requests: the whole requests that came, over all connections.
        connections: how many connections there were.
        ended: how many of them this side has closed.
    """

    def __init__(self, scripts: tuple[Script, ...], socket_path: str | None) -> None:
        self.requests: list[Request] = []
        self.connections = self.ended = 0
        self.socket_path = socket_path
        self._scripts = scripts
        self._listener = socket.socket(socket.AF_UNIX if socket_path else socket.AF_INET)
        self._listener.bind(socket_path or ("127.0.0.1", 0))
        self._listener.listen(128)
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{0 if self.socket_path else self._listener.getsockname()[1]}"

    def close(self) -> None:
        for ended in (self._listener, *self._open):
            with suppress(OSError):
                ended.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a script does not end"
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                script = self._scripts[min(self.connections, len(self._scripts) - 1)]
                self.connections += 1
                self._open.append(connection)
                self._start(self._serve, connection, script)

    def _serve(self, connection: socket.socket, script: Script) -> None:
        line = Line(connection, self.requests)
        try:
            script(line)
        finally:
            line.close()
            self.ended += 1

    def _start(self, function: object, *args: object) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


def answer_all(line: Line) -> None:
    """Answer each request by its path."""
    while (request := line.request()) is not None:
        body = request.path.encode()
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


def answering(data: bytes, *, reset: bool = False) -> Script:
    """Make a script that answers one request with these bytes, and closes then."""

    def script(line: Line) -> None:
        line.request()
        line.send(data)
        if reset:
            line.reset()

    return script


def holding(data: bytes) -> Script:
    """Make a script that answers one request with these bytes, and waits then until the client closes."""

    def script(line: Line) -> None:
        line.request()
        line.send(data)
        line.wait_for_end()

    return script


@contextmanager
def scripted(*scripts: Script, socket_path: str | None = None) -> Iterator[Peer]:
    """Listen for the time of a block; the last script handles all further connections."""
    peer = Peer(scripts, socket_path)
    try:
        yield peer
    finally:
        peer.close()
