"""What the twinned tests need of their world, on the blocking side; written by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sandkasten.errors import SandboxFileNotFoundError
from sandkasten_sync import SandboxClient, Session, Watch, Workspace
from sandkasten_sync._seam import (
    carry,
    close_response,
    close_transport,
    limit_body,
    open_transport,
    parts_of,
    read_body,
)

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

PACKAGE = "sandkasten_sync"

sleep = time.sleep


def together(*functions: Callable[[], T]) -> list[T]:
    """Run functions at the same time and give their results in order."""
    with ThreadPoolExecutor(len(functions)) as threads:
        return list(threads.map(lambda function: function(), functions))


def until_there(session: Session, path: str) -> None:
    """Wait for a file that a running command makes: a sign of how far the command is."""
    while True:
        try:
            session.read(path)
        except SandboxFileNotFoundError:
            sleep(0.01)
        else:
            return


def pieces_of(pieces: list[bytes]) -> Iterator[bytes]:
    """Give a request's body piece by piece."""
    yield from pieces
