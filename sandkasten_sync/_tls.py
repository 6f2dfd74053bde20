"""httpx's own transport with deadlines, for TLS; written by hand, there is nothing of it on the async side.

httpx limits each wait for bytes, so an answer that trickles could take for ever; and nothing but the
socket's own reads can be told, in a blocking world, to wait for less.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import httpcore
import httpx
from httpcore._backends.sync import SyncStream

from sandkasten._limits import POOL_LIMITS
from sandkasten_sync._seam import DEADLINE


class HTTPXTransport(httpx.HTTPTransport):
    """Carries the requests to one daemon."""

    def __init__(self, socket_path: str | None, *, verify: ssl.SSLContext | bool) -> None:
        """Connect to a Unix socket, or to where each request's URL says, and check certificates so."""
        super().__init__(uds=socket_path, verify=verify, limits=POOL_LIMITS)
        # httpx gives no other way in; `tests/_async/test_faults.py` would tell if this one closed.
        self._pool._network_backend = _Backend()  # pyright: ignore[reportPrivateUsage]


class _Backend(httpcore.SyncBackend):
    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(super().connect_tcp(*args, **options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: object = None
    ) -> httpcore.NetworkStream:
        # Not the library's own, which leaves a socket that cannot connect to the garbage collector.
        del socket_options
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            connection.connect(path)
        except OSError as error:
            connection.close()
            kind = httpcore.ConnectTimeout if isinstance(error, TimeoutError) else httpcore.ConnectError
            raise kind(str(error)) from error
        return _Stream(SyncStream(connection))


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        moment = DEADLINE.get()
        if moment is not None:
            left_seconds = moment - time.monotonic()
            if left_seconds <= 0:
                raise httpcore.ReadTimeout("no whole answer in time")
            timeout = left_seconds if timeout is None else min(timeout, left_seconds)
        return self._stream.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(*args, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
