"""All that differs between the two worlds, on the blocking side; written by hand.

The same names as in `sandkasten/_seam.py`, which explains them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from sandkasten._config import Target
from sandkasten._limits import POOL_LIMITS

T = TypeVar("T")

HTTPClient = httpx.Client


def make_lock() -> threading.Lock:
    """Make a lock."""
    return threading.Lock()


def open_client(target: Target, timeout_seconds: float) -> HTTPClient:
    """Make the HTTP client for a daemon; connects nothing yet."""
    transport = None
    if target.socket_path:
        transport = httpx.HTTPTransport(uds=target.socket_path, limits=POOL_LIMITS)
    return HTTPClient(
        base_url=target.base_url, timeout=timeout_seconds, transport=transport, limits=POOL_LIMITS
    )


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


def close_generator(generator: Generator[T, None, None]) -> None:
    """Run a generator's clean-up now."""
    generator.close()


def run_in_thread(function: Callable[[], T]) -> T:
    """Call something that blocks; here that is nothing special."""
    return function()
