"""All that differs between the two worlds, on the blocking side; written by hand.

The same names as in `sandkasten/_seam.py`, which explains them.
"""

from __future__ import annotations

import inspect
import select
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.request import getproxies

import httpx
from httpx_sse import EventSource, ServerSentEvent

from sandkasten._config import Target
from sandkasten._limits import POOL_LIMITS
from sandkasten._transfer.pieces import Progress
from sandkasten.errors import SandkastenInputError

if TYPE_CHECKING:
    from sandkasten_sync._transport import Body, Transport

    OwnTransport = Transport

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

# When the request that is under way must have ended, by the clock `time.monotonic`.
DEADLINE: ContextVar[float | None] = ContextVar("sandkasten_deadline", default=None)

HTTPClient = httpx.Client
Action = Callable[[bool], T]
Each = Callable[[S, T], R]
First = Callable[[], R]


def make_lock() -> threading.Lock:
    """Make a lock."""
    return threading.Lock()


def running_loop() -> object:
    """Return the event loop to which new connections belong; there is none."""
    return None


def open_transport(target: Target) -> OwnTransport | None:
    """Make our own transport to a daemon, if that knows the way; connects nothing yet."""
    if target.uses_tls or _has_proxy(target) or not hasattr(select, "poll"):
        return None
    from sandkasten_sync._transport import Transport  # noqa: PLC0415  (at the first call)

    return Transport(target)


def carry(transport: OwnTransport, request: httpx.Request) -> httpx.Response:
    """Send a request by our own transport; return its answer as soon as the head is there."""
    return transport.handle_request(request)


def close_transport(transport: OwnTransport) -> None:
    """Close all connections of our own transport."""
    transport.close()


def limit_body(response: httpx.Response, seconds: float | None) -> None:
    """Let the rest of an answer by our own transport take so many seconds; None is without a limit."""
    cast("Body", response.stream).limit(seconds)


def open_client(target: Target, timeout_seconds: float) -> HTTPClient:
    """Make the HTTP client of httpx for a daemon; connects nothing yet."""
    if _has_proxy(target):  # through these only httpx itself knows the way
        return HTTPClient(timeout=timeout_seconds, limits=POOL_LIMITS, verify=target.verify)
    from sandkasten_sync._tls import HTTPXTransport  # noqa: PLC0415  (with httpcore, at the first call)

    transport = HTTPXTransport(target.socket_path, verify=target.uses_tls and target.verify)
    return HTTPClient(timeout=timeout_seconds, transport=transport, limits=POOL_LIMITS)


def _has_proxy(target: Target) -> bool:
    return not target.socket_path and bool(set(getproxies()) - {"no"})


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
    token = DEADLINE.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        DEADLINE.reset(token)


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


def result_of(value: T) -> T:
    """Give what a function given to `map` returned.

    Raises:
        SandkastenInputError: it is yet to run.
    """
    if inspect.isawaitable(value):
        if isinstance(value, Coroutine):
            value.close()
        raise SandkastenInputError(
            "map() was given an `async def`, and the blocking client awaits nothing. "
            "Make it a plain function, or use the SandboxClient of sandkasten."
        )
    return value


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


def told_here(on_progress: Progress | None) -> Progress | None:
    """Give it back: everything runs here."""
    return on_progress
