"""What the twinned tests need of their world, on the blocking side; written by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sandkasten_sync import SandboxClient, Session, Workspace

__all__ = ["PACKAGE", "SandboxClient", "Session", "Workspace", "sleep", "together"]

T = TypeVar("T")

PACKAGE = "sandkasten_sync"

sleep = time.sleep


def together(*functions: Callable[[], T]) -> list[T]:
    """Run functions at the same time and give their results in order."""
    with ThreadPoolExecutor(len(functions)) as threads:
        return list(threads.map(lambda function: function(), functions))
