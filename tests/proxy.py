"""A relay to a daemon that drops its connections when a test says so."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.local.box import until

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, and tell the other side so


class Proxy:
    """Relays TCP connections on loopback to a Unix socket; use `relayed`."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Reset all connections there are; new ones are welcome."""
        pairs, self._pairs = self._pairs, []
        for near, far in pairs:
            for end in (near, far):
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def cut_at(self, sign: Path) -> None:
        """Cut when a file appears, and remove the file then."""
        self._start(self._cut_at, sign)

    def _cut_at(self, sign: Path) -> None:
        until(sign.exists)
        self.cut()
        sign.unlink()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._socket_path)
                self.connections += 1
                self._pairs.append((near, far))
                self._start(self._copy, near, far)
                self._start(self._copy, far, near)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _start(self, function: object, *args: object) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


@contextmanager
def relayed(socket_path: str | None) -> Iterator[Proxy]:
    """Relay for the time of a block."""
    assert socket_path is not None
    proxy = Proxy(socket_path)
    try:
        yield proxy
    finally:
        proxy.close()
