"""A proxy that breaks connections off in the middle of a transfer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

from sandkasten.local.launch import LocalDaemon

_PART_BYTES = 64 * 1024


class Cutting:
    """Stands before a daemon, from `with` to its end.

    Attributes:
        url: where it listens.
        up_bytes: how much went to the daemon, on all connections.
        down_bytes: how much came from it.
    """

    def __init__(
        self, daemon: LocalDaemon, *, up: list[int] | None = None, down: list[int] | None = None
    ) -> None:
        """Break off the connections that carry more than the next of `up` (or `down`) bytes, one for each."""
        self._path = daemon.target.socket_path or ""
        self._limits = {"up": list(up or []), "down": list(down or [])}
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.up_bytes = self.down_bytes = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Cutting:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()
        with self._lock:
            for each in self._open:
                _break(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(self._path)
            with self._lock:
                self._open += [client, daemon]
            for source, sink, direction in ((client, daemon, "up"), (daemon, client, "down")):
                threading.Thread(target=self._carry, args=(source, sink, direction), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        carried = 0
        try:
            while part := source.recv(_PART_BYTES):
                sink.sendall(part)
                carried += len(part)
                with self._lock:
                    setattr(self, f"{direction}_bytes", getattr(self, f"{direction}_bytes") + len(part))
                    limits = self._limits[direction]
                    if limits and carried > limits[0]:
                        limits.pop(0)
                        break
        except OSError:
            pass
        _break(source)
        _break(sink)


def _break(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
