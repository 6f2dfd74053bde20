"""Sessions that are being made, for clients that may leave meanwhile and come back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from sandkasten.local.api.asgi import when_client_leaves
from sandkasten.local.api.http.messages import Receive
from sandkasten.local.errors import ApiError
from sandkasten.local.sessions.execution import GRACE_SECONDS
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.session import Session


class Creation:
    """A session that is being made for whoever asks with the same key."""

    def __init__(self, manager: Manager, making: Coroutine[Any, Any, Session]) -> None:
        """Begin with no creation under way."""
        self._manager = manager
        self._task: asyncio.Future[Session] | None = asyncio.ensure_future(making)
        self._info: dict[str, Any] = {}
        self._is_claimed = False

    async def wait(self, receive: Receive, *, is_final: bool) -> dict[str, Any]:
        """Wait until the session is made, and return its description as of that moment.

        If the client leaves meanwhile and nobody else asks, the session is ended again: at once if this is
        final, otherwise after a time in which the client may come back.

        Raises:
            ApiError: as `Manager.create` does.
        """
        if self._task is None:
            self._claim()
            return self._info
        left = asyncio.Event()
        with when_client_leaves(receive, left.set):
            session = await asyncio.shield(self._task)
        self._task, self._info = None, self._info or session.info  # kept for longer than the session may be
        if not left.is_set():
            self._claim()
        elif is_final:
            await self._manager.destroy(session.id)
        elif not self._is_claimed:
            session.lifetime.await_claim(GRACE_SECONDS)
        return self._info

    async def cancel(self) -> bool:
        """End the session, made or not yet made; return whether there was one to end."""
        try:
            session_id = (await asyncio.shield(self._task)).id if self._task is not None else self._info["id"]
            return await self._manager.destroy(session_id)
        except ApiError:  # it could not be made, or is gone
            return False

    def _claim(self) -> None:
        """The session has reached a client, and lives its full lifetime from now on."""
        self._is_claimed = True
        with suppress(ApiError):  # it is gone
            lifetime = self._manager.get(self._info["id"]).lifetime
            if lifetime.is_unclaimed:
                lifetime.renew()
