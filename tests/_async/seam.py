"""The helpers of the twinned tests, on the async side; `tests/_sync/seam.py` is its twin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import anyio

from sandkasten import SandboxClient, Session, Watch, Workspace
from sandkasten._seam import (
    carry,
    close_response,
    close_transport,
    limit_body,
    open_transport,
    parts_of,
    read_body,
)
from sandkasten.errors import SandboxFileNotFoundError

__all__ = [
    "PACKAGE",
    "SandboxClient",
    "Session",
    "Watch",
    "Workspace",
    "carry",
    "close_response",
    "close_transport",
    "limit_body",
    "open_transport",
    "parts_of",
    "pieces_of",
    "read_body",
    "sleep",
    "together",
    "until_there",
]

T = TypeVar("T")

PACKAGE = "sandkasten"

sleep = anyio.sleep


async def together(*functions: Callable[[], Awaitable[T]]) -> list[T]:
    """Run functions at the same time and give their results in order."""
    results: dict[int, T] = {}

    async def run(index: int, function: Callable[[], Awaitable[T]]) -> None:
        results[index] = await function()

    async with anyio.create_task_group() as tasks:
        for index, function in enumerate(functions):
            tasks.start_soon(run, index, function)
    return [results[index] for index in range(len(functions))]


async def until_there(session: Session, path: str) -> None:
    """Wait for a file that a running command makes: a sign of how far the command is."""
    while True:
        try:
            await session.read(path)
        except SandboxFileNotFoundError:
            await sleep(0.01)
        else:
            return


async def pieces_of(pieces: list[bytes]) -> AsyncIterator[bytes]:
    """Give a request's body piece by piece."""
    for piece in pieces:
        yield piece
