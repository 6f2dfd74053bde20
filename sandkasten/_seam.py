"""All that differs between the two worlds, on the async side; `sandkasten_sync/_seam.py` is its twin.

Both files offer the same names, so the sources that import them are the same but for `await`. Only
here does the client touch httpx's transports, threads and locks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from sandkasten._config import Target
from sandkasten._limits import POOL_LIMITS

T = TypeVar("T")

if TYPE_CHECKING:
    import anyio

HTTPClient = httpx.AsyncClient


def make_lock() -> anyio.Lock:
    """Make a lock that waits without holding up anybody else."""
    # Imported late, here and below: the blocking twin loads this package too, and never needs it.
    import anyio  # noqa: PLC0415

    return anyio.Lock()


def open_client(target: Target, timeout_seconds: float) -> HTTPClient:
    """Make the HTTP client for a daemon; connects nothing yet."""
    transport = None
    if target.socket_path:
        transport = httpx.AsyncHTTPTransport(uds=target.socket_path, limits=POOL_LIMITS)
    return HTTPClient(
        base_url=target.base_url, timeout=timeout_seconds, transport=transport, limits=POOL_LIMITS
    )


async def close_client(client: HTTPClient) -> None:
    """Close all connections."""
    await client.aclose()


async def read_body(response: httpx.Response) -> None:
    """Read the whole body into the response."""
    await response.aread()


async def close_response(response: httpx.Response) -> None:
    """Give the connection back, or break it off if the body was not read to its end."""
    import anyio  # noqa: PLC0415

    # A cancelled task must close it all the same: the daemon stops a command when its client goes.
    with anyio.CancelScope(shield=True):
        await response.aclose()


def events_of(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
    """Iterate over a stream's server-sent events."""
    return EventSource(response).aiter_sse()


async def close_generator(generator: AsyncGenerator[T, None]) -> None:
    """Run a generator's clean-up now."""
    await generator.aclose()


async def run_in_thread(function: Callable[[], T]) -> T:
    """Call something that blocks without holding up anybody else."""
    from anyio import to_thread  # noqa: PLC0415

    return await to_thread.run_sync(function)
