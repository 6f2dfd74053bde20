"""The floors below requests and transfers: our client's bytes on a bare socket, and a bare server.

As a program it is that server, in a process of its own: `python bare.py KIND SOCKET DIRECTORY`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

PIECE_BYTES = 1024 * 1024
_KEY = re.compile(rb"(?i)(?<=\r\nidempotency-key: )\S+")


class Requests:
    """One request again and again, each with an Idempotency-Key of its own, as a new call has."""

    def __init__(self, recorded: bytes) -> None:
        """Take a request that was recorded."""
        self._recorded = recorded

    def next(self) -> bytes:
        """Return the request with a key that no other has."""
        return _KEY.sub(lambda key: secrets.token_hex(len(key[0]))[: len(key[0])].encode(), self._recorded)


def recorded(socket_path: str | None, call: Callable[[str], object]) -> Requests:
    """Return the request that a call sends last, when it is given the URL of a socket before the daemon's."""
    assert socket_path is not None
    with (
        tempfile.TemporaryDirectory() as directory,
        _Recorder(f"{directory}/socket", socket_path) as recorder,
    ):
        call(f"unix://{directory}/socket")
        return Requests(recorder.last)


class _Recorder:
    """Passes the bytes of connections on to the daemon, and keeps those of the last request."""

    def __init__(self, path: str, daemon: str) -> None:
        self.last = b""
        self._daemon = daemon
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> _Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            selector.register(self._listener, selectors.EVENT_READ)
            answered = False
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        if not self._accept(selector, stack):
                            return
                        continue
                    assert isinstance(key.fileobj, socket.socket)
                    part = key.fileobj.recv(PIECE_BYTES)
                    other, is_request = key.data
                    if not part:
                        selector.unregister(key.fileobj)
                        continue
                    if is_request:
                        self.last = part if answered else self.last + part
                    answered = not is_request
                    other.sendall(part)

    def _accept(self, selector: selectors.BaseSelector, stack: contextlib.ExitStack) -> bool:
        try:
            peer = stack.enter_context(self._listener.accept()[0])
        except OSError:  # the recorder ends
            return False
        daemon = stack.enter_context(connected(self._daemon))
        selector.register(peer, selectors.EVENT_READ, (daemon, True))
        selector.register(daemon, selectors.EVENT_READ, (peer, False))
        return True


def connected(path: str | None) -> socket.socket:
    """Connect to a Unix socket without any HTTP library."""
    assert path is not None
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


def ask(connection: socket.socket, request: bytes) -> None:
    """Send a request and wait for its answer, whose body is one JSON object."""
    connection.sendall(request)
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)


class Asking(asyncio.Protocol):
    """The same in an event loop, with nothing between the loop and the bytes."""

    transport: asyncio.Transport
    _answer: asyncio.Future[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Wake whoever asked, at the end of the answer."""
        if data.endswith(b"}"):
            self._answer.set_result(None)

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._answer


@contextlib.contextmanager
def server(kind: str, given: Path | None = None) -> Iterator[str]:
    """Run a bare server on a Unix socket, with a directory of its own for files; give the socket's path."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        if given is not None:
            os.link(given, f"{directory}/given")
        argv = [sys.executable, "-P", __file__, kind, path, directory]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield path
        finally:
            process.terminate()
            process.communicate()


def send_file(server_path: str, path: Path) -> None:
    """Send a file's bytes to a bare server, and wait until it has them."""
    with connected(server_path) as connection, path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(PIECE_BYTES))
        while count := file.readinto(buffer):
            connection.sendall(buffer[:count])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b"!"


def fetch_file(server_path: str, path: Path) -> None:
    """Read a file's bytes from a bare server into another file."""
    with connected(server_path) as connection, path.open("wb", buffering=0) as file:
        _into(connection, file.fileno())


def _into(connection: socket.socket, descriptor: int) -> None:
    buffer = memoryview(bytearray(PIECE_BYTES))
    while count := connection.recv_into(buffer):
        os.write(descriptor, buffer[:count])


# --- the program


def _take(connection: socket.socket, directory: Path) -> None:
    """Write what comes into a file."""
    with (directory / "taken").open("wb", buffering=0) as file:
        _into(connection, file.fileno())
    connection.sendall(b"!")


def _give(connection: socket.socket, directory: Path) -> None:
    """Send the file that is there."""
    with (directory / "given").open("rb") as file:
        connection.sendfile(file)


def _write(connection: socket.socket, directory: Path) -> None:
    """Write each request's body into a file of its own, as one does that wants it whole or not at all."""
    number = 0
    while head := connection.recv(65536):
        head, _, body = head.partition(b"\r\n\r\n")
        length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
        while len(body) < length:
            body += connection.recv(65536)
        number += 1
        temporary = os.open(directory / "new", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(temporary, body)
        os.close(temporary)
        os.rename(directory / "new", directory / f"file-{number}")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


_KINDS = {"take": _take, "give": _give, "write": _write}


def main(kind: str, path: str, directory: str) -> None:
    """Serve one connection after another."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            with listener.accept()[0] as connection:
                _KINDS[kind](connection, Path(directory))


if __name__ == "__main__":
    main(*sys.argv[1:])
