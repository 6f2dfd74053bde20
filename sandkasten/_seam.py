"""All that differs between the two worlds, on the async side; `sandkasten_sync/_seam.py` is its twin.

Both files offer the same names, so the sources that import them are the same except for `await`. Only
here does the client touch httpx's transports, threads and locks.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.request import getproxies

import httpx
from httpx_sse import EventSource, ServerSentEvent

from sandkasten._config import Target
from sandkasten._limits import POOL_LIMITS
from sandkasten._transfer.pieces import Progress
from sandkasten.errors import SandkastenInputError

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

if TYPE_CHECKING:
    import anyio

    from sandkasten._transport.asynchronous import Body, Transport

    OwnTransport = Transport

HTTPClient = httpx.AsyncClient
Action = Callable[[bool], Awaitable[T]]
Each = Callable[[S, T], Awaitable[R]]
First = Callable[[], Awaitable[R]]


def make_lock() -> anyio.Lock:
    """Make a lock that waits without holding up anybody else."""
    # Imported late, here and below: the blocking twin loads this package too, and never needs it.
    import anyio  # noqa: PLC0415

    return anyio.Lock()


def running_loop() -> object:
    """Return the event loop to which new connections belong."""
    import asyncio  # noqa: PLC0415

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None  # another kind of loop


def open_transport(target: Target) -> OwnTransport | None:
    """Make our own transport to a daemon, if that knows the way; connects nothing yet."""
    if target.uses_tls or _has_proxy(target) or running_loop() is None:
        return None
    from sandkasten._transport.asynchronous import Transport  # noqa: PLC0415  (with asyncio, at the first call)

    return Transport(target)


async def carry(transport: OwnTransport, request: httpx.Request) -> httpx.Response:
    """Send a request by our own transport; return its answer as soon as the head is there."""
    return await transport.handle_async_request(request)


async def close_transport(transport: OwnTransport) -> None:
    """Close all connections of our own transport."""
    await transport.aclose()


def limit_body(response: httpx.Response, seconds: float | None) -> None:
    """Let the rest of an answer by our own transport take so many seconds; None is without a limit."""
    cast("Body", response.stream).limit(seconds)


def open_client(target: Target, timeout_seconds: float) -> HTTPClient:
    """Make the HTTP client of httpx for a daemon; connects nothing yet."""
    transport = None  # then httpx takes the environment's proxies
    if not _has_proxy(target):
        verify = target.uses_tls and target.verify  # which must not be loaded for nothing
        transport = httpx.AsyncHTTPTransport(uds=target.socket_path, verify=verify, limits=POOL_LIMITS)
    return HTTPClient(timeout=timeout_seconds, transport=transport, limits=POOL_LIMITS, verify=target.verify)


def _has_proxy(target: Target) -> bool:
    return not target.socket_path and bool(set(getproxies()) - {"no"})


async def close_client(client: HTTPClient) -> None:
    """Close all connections."""
    await client.aclose()


async def read_body(response: httpx.Response) -> None:
    """Read the whole body into the response."""
    await response.aread()


async def close_response(response: httpx.Response) -> None:
    """Give the connection back, or break it off if the body was not read to its end."""
    if response.is_closed:
        return
    import anyio  # noqa: PLC0415

    # A cancelled task must close it all the same: the daemon stops a command when its client goes.
    with anyio.CancelScope(shield=True):
        await response.aclose()


def events_of(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
    """Iterate over a stream's server-sent events."""
    return EventSource(response).aiter_sse()


def parts_of(response: httpx.Response) -> AsyncIterator[bytes]:
    """Iterate over the bytes of a body."""
    return response.aiter_bytes()


def body_of(content: Callable[[], Iterator[bytes]] | None) -> AsyncIterator[bytes] | None:
    """Make a request's body; what it reads from is read in a thread."""
    return None if content is None else _body(content)


async def _body(content: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    parts = content()
    while part := await run_in_thread(lambda: next(parts, b"")):
        yield part


@contextmanager
def deadline(request: httpx.Request, seconds: float | None) -> Generator[None, None, None]:
    """Limit the time that a request takes as a whole, however often something moves.

    Raises:
        httpx.ReadTimeout: it took longer.
    """
    import anyio  # noqa: PLC0415

    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        raise httpx.ReadTimeout(f"no whole answer within {seconds:g} s", request=request) from None


@contextmanager
def uninterrupted(seconds: float) -> Generator[None, None, None]:
    """Let a few last words be sent by a task that was cancelled, for so many seconds at most."""
    import anyio  # noqa: PLC0415

    with anyio.move_on_after(seconds, shield=True):
        yield


async def close_generator(generator: AsyncGenerator[T, None]) -> None:
    """Run a generator's clean-up now."""
    await generator.aclose()


async def run_in_thread(function: Callable[[], T]) -> T:
    """Call something that blocks without holding up anybody else."""
    from anyio import to_thread  # noqa: PLC0415

    return await to_thread.run_sync(function)


def told_here(on_progress: Progress | None) -> Progress | None:
    """Let something be called from `run_in_thread`, and run here all the same."""
    if on_progress is None:
        return None

    def tell(done_bytes: int, total_bytes: int | None) -> None:
        from anyio import from_thread  # noqa: PLC0415

        from_thread.run_sync(on_progress, done_bytes, total_bytes)

    return tell


async def result_of(value: Awaitable[T]) -> T:
    """Wait for what a function given to `map` is going to return.

    Raises:
        SandkastenInputError: there is nothing to wait for.
    """
    if not inspect.isawaitable(value):
        raise SandkastenInputError(
            "map() was given a plain function, and the async client awaits what it calls.",
            "Make it an `async def`, or use the SandboxClient of sandkasten_sync.",
        )
    return await value


async def spread(
    function: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    concurrency: int,
    _on_failure: Callable[[], Awaitable[None]],
) -> list[R]:
    """Call a function for every item, for some of them at a time; the first failure ends all of it.

    Here the others are cancelled and clean up on their way out; where threads do the work, `on_failure`
    has to bring them to their end.
    """
    import anyio  # noqa: PLC0415

    results: dict[int, R] = {}
    pending = enumerate(items)

    async def work() -> None:
        for index, item in pending:
            results[index] = await function(item)

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(concurrency):
                tasks.start_soon(work)
    except BaseExceptionGroup as group:
        raise _first(group) from None
    return [results[index] for index in sorted(results)]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(cast("BaseExceptionGroup[BaseException]", error)) if _is_group(error) else error


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)
