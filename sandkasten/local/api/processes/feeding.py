"""The input of a process that somebody waits for: what came with the request, or comes as its body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any

from sandkasten.local.api.bodystream import body_of
from sandkasten.local.api.http.messages import ClientLeftError, Message, Receive, Request
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.sessions.processes.channels import Input
from sandkasten.local.sessions.session import Session

# The most that a request brings whose sender wants to hear that the process has not taken it yet.
MAX_WHOLE_BYTES = 1024 * 1024


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
            self._task = asyncio.create_task(_feed(stdin, one(data)))
        else:
            stdin.close()

    async def then(self, receive: Receive) -> Message:
        """Receive what follows the body.

        Raises:
            Exception: what the connection raises.
        """
        if self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled() and isinstance(self._task.exception(), ClientLeftError):
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
        await stdin.feed(pieces, 0, close=True, is_whole=True)
    except ApiError:  # it has read all it wants
        await _drop(pieces)


async def _drop(pieces: AsyncIterator[bytes]) -> None:
    """Receive the rest, so that the client comes to reading the answer."""
    with suppress(ApiError):
        async for _piece in pieces:
            pass


async def one(data: bytes) -> AsyncIterator[bytes]:
    """Yield what is there already."""
    yield data


async def whole_body(request: Request, max_bytes: int) -> bytes:
    """Return a request's body.

    Raises:
        ApiError: INVALID_REQUEST, it is larger.
        ClientLeftError: it ended before its end.
    """
    data = bytearray()
    async for piece in body_of(request):
        data += piece
        if len(data) > max_bytes:
            raise invalid_request(f"The body is larger than {max_bytes} bytes. Send it in several requests.")
    return bytes(data)


class Taking:
    """A piece of input that a process takes when it likes, while the one who sent it waits."""

    def __init__(self, session: Session, feeding: Coroutine[Any, Any, int]) -> None:
        """Begin; the session is in use until the end, or until the sender leaves."""
        session.lifetime.begin_use()
        self._task = asyncio.ensure_future(feeding)
        self._task.add_done_callback(lambda _task: session.lifetime.end_use())

    async def goes_on(self, seconds: float) -> bool:
        """Wait a while; return whether the process has not taken all of it."""
        return not (await asyncio.wait([self._task], timeout=seconds))[0]

    def position(self) -> dict[str, int]:
        """Return the answer.

        Raises:
            ApiError: the input is closed, or another request goes on with it.
        """
        return {"position": self._task.result()}

    def answered(self) -> dict[str, Any] | None:
        """Return status and body of the answer, or None if nobody waits for it."""
        if self._task.cancelled():
            return None
        try:
            return {"status": 200, "body": self.position()}
        except ApiError as error:
            return {"status": error.status, "body": error.body}

    def leave(self) -> None:
        """Nobody waits any more: the rest is not written."""
        self._task.cancel()
