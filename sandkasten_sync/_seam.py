"""All that differs between the two worlds, on the blocking side; written by hand.

The same names as in `sandkasten/_seam.py`, which explains them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast
from urllib.request import getproxies

import httpcore
import httpx
from httpx_sse import EventSource, ServerSentEvent

from sandkasten._config import Target
from sandkasten._limits import POOL_LIMITS
from sandkasten._transfers import Progress

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

HTTPClient = httpx.Client
Action = Callable[[bool], T]
Each = Callable[[S, T], R]


def make_lock() -> threading.Lock:
    """Make a lock."""
    return threading.Lock()


def open_client(target: Target, timeout_seconds: float) -> HTTPClient:
    """Make the HTTP client for a daemon; connects nothing yet."""
    return HTTPClient(timeout=timeout_seconds, transport=_transport(target), limits=POOL_LIMITS)


def _transport(target: Target) -> httpx.HTTPTransport | None:
    # Through the environment's proxies only httpx itself knows the way.
    return _Transport(target.socket_path) if target.socket_path or not getproxies() else None


def close_client(client: HTTPClient) -> None:
    """Close all connections."""
    client.close()


def read_body(response: httpx.Response) -> None:
    """Read the whole body into the response."""
    response.read()


def close_response(response: httpx.Response) -> None:
    """Give the connection back, or break it off if the body was not read to its end."""
    response.close()


def events_of(response: httpx.Response) -> Iterator[ServerSentEvent]:
    """Iterate over a stream's server-sent events."""
    return EventSource(response).iter_sse()


def parts_of(response: httpx.Response) -> Iterator[bytes]:
    """Iterate over the bytes of a body."""
    return response.iter_bytes()


def body_of(content: Callable[[], Iterator[bytes]] | None) -> Iterator[bytes] | None:
    """Make a request's body."""
    return None if content is None else content()


@contextmanager
def deadline(_request: httpx.Request, seconds: float | None) -> Generator[None, None, None]:
    """Limit the time that a request takes as a whole, however often something moves.

    Raises:
        httpx.ReadTimeout: it took longer.
    """
    token = _deadline.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def uninterrupted(_seconds: float) -> Generator[None, None, None]:
    """Nothing interrupts here but a second Ctrl-C, which is meant."""
    yield


def close_generator(generator: Generator[T, None, None]) -> None:
    """Run a generator's clean-up now."""
    generator.close()


def run_in_thread(function: Callable[[], T]) -> T:
    """Call something that blocks; here that is nothing special."""
    return function()


def spread(
    function: Callable[[T], R], items: Iterable[T], concurrency: int, on_failure: Callable[[], None]
) -> list[R]:
    """Call a function for every item, for some of them at a time; the first failure ends all of it."""
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait  # noqa: PLC0415

    results: dict[int, R] = {}
    pending = enumerate(items)
    taking, stopped = threading.Lock(), threading.Event()

    def work() -> None:
        while not stopped.is_set():
            with taking:
                index, item = next(pending, (-1, None))
            if index < 0:
                return
            results[index] = function(cast("T", item))

    with ThreadPoolExecutor(concurrency, "sandkasten-map") as threads:
        workers = [threads.submit(work) for _ in range(concurrency)]
        try:
            failed = [
                worker for worker in wait(workers, return_when=FIRST_EXCEPTION).done if worker.exception()
            ]
            if failed:
                failed[0].result()
        except BaseException:  # Ctrl-C among them
            stopped.set()
            on_failure()
            raise
    return [results[index] for index in sorted(results)]


# --- a transport with deadlines. httpx limits each wait for bytes, so an answer that trickles could take
# for ever; nothing but the socket's own reads can be told in a blocking world to wait for less.

_deadline: ContextVar[float | None] = ContextVar("sandkasten_deadline", default=None)


class _Transport(httpx.HTTPTransport):
    def __init__(self, socket_path: str | None) -> None:
        super().__init__(uds=socket_path, limits=POOL_LIMITS)
        # httpx gives no other way in; `tests/_async/test_faults.py` would tell if this one closed.
        self._pool._network_backend = _Backend()  # pyright: ignore[reportPrivateUsage]


class _Backend(httpcore.SyncBackend):
    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(super().connect_tcp(*args, **options))

    def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(super().connect_unix_socket(*args, **options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        moment = _deadline.get()
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


def told_here(on_progress: Progress | None) -> Progress | None:
    """Give it back: everything runs here."""
    return on_progress
