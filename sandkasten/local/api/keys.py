"""Requests that come with an `Idempotency-Key`: the second asker gets what the first one got.

So a client whose connection broke can repeat what must not happen twice. What a key stands for is kept
after its end, within bounds; of what had to go the key itself is remembered for longer, so that a late
repetition is refused and never done again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from starlette.types import Receive

from sandkasten.local.api.asgi import when_client_leaves
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.sessions.execution import GRACE_SECONDS
from sandkasten.local.sessions.manager import Manager, Session

T = TypeVar("T")

_KEY = re.compile(r"[A-Za-z0-9_-]{16,128}")
_KEPT_MAX = 4096
_KEPT_MAX_BYTES = 32 * 1024 * 1024
_REMEMBERED_MAX = 50_000


def key_of(header: str | None) -> str | None:
    """Check a request's key.

    Raises:
        ApiError: INVALID_REQUEST, it cannot be one.
    """
    if header is not None and not _KEY.fullmatch(header):
        raise invalid_request("Idempotency-Key must be 16 to 128 letters, digits, dashes or underscores.")
    return header


@dataclass
class _Entry(Generic[T]):
    fingerprint: bytes
    value: T
    size_bytes: int = 0


class Keys(Generic[T]):
    """What was asked for by key, in one scope such as a session; oldest first."""

    def __init__(self) -> None:
        """Know no keys."""
        self._open: dict[tuple[str, str], _Entry[T]] = {}
        self._ended: OrderedDict[tuple[str, str], _Entry[T]] = OrderedDict()
        self._ended_bytes = 0
        self._gone: OrderedDict[tuple[str, str], None] = OrderedDict()

    def find(self, scope: str, key: str | None, request: bytes) -> T | None:
        """What a key stands for; None if it is new.

        Raises:
            ApiError: INVALID_REQUEST if it came with another request, RESULT_GONE if it came too long ago.
        """
        if key is None:
            return None
        if (scope, key) in self._gone:
            raise ApiError(410, "RESULT_GONE", "This was done already, and its result is no longer kept.")
        entry = self._open.get((scope, key)) or self._ended.get((scope, key))
        if entry is None:
            return None
        if entry.fingerprint != _fingerprint(request):
            raise invalid_request("This Idempotency-Key was used for another request. Take a new one.")
        return entry.value

    def add(self, scope: str, key: str | None, request: bytes, value: T) -> None:
        """Remember what a new key stands for, until `end` or `forget`."""
        if key is not None:
            self._open[scope, key] = _Entry(_fingerprint(request), value)

    def look(self, scope: str, key: str) -> T | None:
        """What a key stands for, for those who do not ask for it."""
        entry = self._open.get((scope, key)) or self._ended.get((scope, key))
        return None if entry is None else entry.value

    def forget(self, scope: str, key: str | None) -> None:
        """It came to nothing: a repetition is a new request."""
        if key is not None:
            self._open.pop((scope, key), None)

    def end(self, scope: str, key: str | None, size_bytes: int) -> None:
        """It ended: keep its result of that size as long as there is room."""
        entry = None if key is None else self._open.pop((scope, key), None)
        if key is None or entry is None:
            return
        entry.size_bytes = size_bytes
        self._ended[scope, key] = entry
        self._ended_bytes += size_bytes
        while len(self._ended) > _KEPT_MAX or self._ended_bytes > _KEPT_MAX_BYTES:
            oldest, dropped = self._ended.popitem(last=False)
            self._ended_bytes -= dropped.size_bytes
            self._gone[oldest] = None
            if len(self._gone) > _REMEMBERED_MAX:
                self._gone.popitem(last=False)


def _fingerprint(request: bytes) -> bytes:
    return hashlib.sha256(request).digest()


class Creation:
    """A session that is being made for whoever asks with the same key."""

    def __init__(self, manager: Manager, making: Coroutine[Any, Any, Session]) -> None:
        """Begin."""
        self._manager = manager
        self._task: asyncio.Future[Session] | None = asyncio.ensure_future(making)
        self._info: dict[str, Any] = {}
        self._is_wanted = False

    async def wait(self, receive: Receive, *, is_final: bool) -> dict[str, Any]:
        """Wait until it is made, and tell about it as it was then.

        If the client leaves meanwhile and nobody else asks, it is ended again: at once if this is final,
        else after a time in which the client may come back.

        Raises:
            ApiError: as `Manager.create` does.
        """
        if self._task is None:
            return self._info
        left = asyncio.Event()
        with when_client_leaves(receive, left.set):
            session = await asyncio.shield(self._task)
        self._task, self._info = None, self._info or session.info  # kept for longer than the session may be
        if not left.is_set():
            self._is_wanted = True
        elif is_final:
            await self._manager.destroy(session.id)
        else:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, self._drop, session)
        return self._info

    async def cancel(self) -> bool:
        """End the session, whether it is made already or not; whether there was one to end."""
        try:
            session_id = (await asyncio.shield(self._task)).id if self._task is not None else self._info["id"]
            return await self._manager.destroy(session_id)
        except ApiError:  # it could not be made, or is gone
            return False

    def _drop(self, session: Session) -> None:
        if not self._is_wanted:
            self._manager.end_unwanted(session)
