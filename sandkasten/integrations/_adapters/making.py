"""Sandboxes and processes that are made to the end, so that a caller who is cancelled leaves none behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def made(making: Coroutine[Any, Any, T], unmake: Callable[[T], Awaitable[None]]) -> T:
    """Return what is made; if the caller is cancelled meanwhile, unmake it again. For asyncio only.

    Without, nobody would know the name of what the daemon made after the caller had left.
    """
    task = asyncio.ensure_future(making)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):
            await unmake(await task)
        raise
