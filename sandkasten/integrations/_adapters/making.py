"""Sandboxes and processes that are made to the end, so that a caller who is cancelled leaves none behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def made(making: Coroutine[Any, Any, T], unmake: Callable[[T], Awaitable[None]]) -> T:
    """Return what is made; if the caller is cancelled meanwhile, unmake it again.

    Without, nobody would know the name of what the daemon made after the caller had left.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # Trio, where a scope shields from all that cancels
        with anyio.CancelScope(shield=True):
            return await making
        raise AssertionError("nobody else has the scope to cancel it") from None
    task = asyncio.ensure_future(making)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True), suppress(Exception):
            await unmake(await task)
        raise
