"""The input of a process that somebody waits for: what came with the request, or comes as its body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from sandkasten.local.errors import ApiError
from sandkasten.local.sessions.processes.channels import Input


class Feeding:
    """Feeds a process from a request, whose body nobody else must receive until that is over."""

    def __init__(self, stdin: Input | None, data: bytes, pieces: AsyncIterator[bytes] | None) -> None:
        """Begin; a process that has had a part of the input, from an earlier request, gets the rest."""
        self._task: asyncio.Task[None] | None = None
        if stdin is None or not stdin.is_open:
            if pieces is not None:
                self._task = asyncio.create_task(_drop(pieces))
        elif pieces is not None:
            self._task = asyncio.create_task(_feed(stdin, pieces))
        elif stdin.position or stdin.write_at_once(data):
            self._task = asyncio.create_task(_feed(stdin, _one(data)))
        else:
            stdin.close()

    async def then(self, receive: Receive) -> Message:
        """Receive what follows the body.

        Raises:
            Exception: what the connection raises.
        """
        if self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled() and isinstance(self._task.exception(), ClientDisconnect):
                return {"type": "http.disconnect"}
        return await receive()

    def stop(self) -> None:
        """Stop it: the process has ended, or nobody waits for it."""
        if self._task is not None:
            self._task.cancel()
            self._task.add_done_callback(_seen)


def _seen(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


async def _feed(stdin: Input, pieces: AsyncIterator[bytes]) -> None:
    try:
        await stdin.feed(pieces, 0, close=True)
    except ApiError:  # it has read all it wants, or another request goes on with this
        await _drop(pieces)


async def _drop(pieces: AsyncIterator[bytes]) -> None:
    """Receive the rest, so that the client comes to reading the answer."""
    with suppress(ApiError):
        async for _piece in pieces:
            pass


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data
