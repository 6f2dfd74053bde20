"""A sandbox for each client of a server: made when the client first needs it, ended with the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from sandkasten.client import SandboxClient
from sandkasten.errors import SandkastenInputError
from sandkasten.session import Session

MOST_SANDBOXES = 64


class _Place:
    """The place of one client's session; its lock is held while one is made or ended."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.session: Session | None = None


class Sandboxes:
    """The sessions of a server's clients, by the names of those clients.

    At the end of a `with` block all of them end.
    """

    def __init__(
        self,
        client: SandboxClient,
        create: Callable[[], Awaitable[Session]],
        most_sandboxes: int = MOST_SANDBOXES,
    ) -> None:
        """Make no session yet.

        Args:
            client: the client that `create` uses.
            create: makes a session.
            most_sandboxes: the number of sessions there may be at a time.
        """
        self._client = client
        self._create = create
        self._most_sandboxes = most_sandboxes
        self._places: dict[str, _Place] = {}

    async def get(self, name: str) -> Session:
        """Return the session of a client; make it if there is no such session yet.

        Raises:
            SandkastenInputError: there are too many.
            SandkastenError: as `SandboxClient.create_session` does.
        """
        if name not in self._places and len(self._places) >= self._most_sandboxes:
            await self._forget_those_that_ended()
        if name not in self._places and len(self._places) >= self._most_sandboxes:
            raise SandkastenInputError(
                f"This server has {self._most_sandboxes} sandboxes already.",
                "End clients that are not needed, or start another server.",
            )
        place = self._places.setdefault(name, _Place())
        async with place.lock:
            if place.session is None:
                try:
                    place.session = await self._create()
                except BaseException:
                    self._drop(name, place)
                    raise
            return place.session

    def forget(self, name: str, session: Session) -> None:
        """Forget a session that has ended, so that the client gets a new one the next time."""
        place = self._places.get(name)
        if place is not None and place.session is session:
            self._drop(name, place)

    async def end(self, name: str) -> None:
        """End the session of a client that is gone.

        Raises:
            SandkastenError: the daemon does not do it.
        """
        place = self._places.get(name)
        if place is not None:
            async with place.lock:
                self._drop(name, place)
                if place.session is not None:
                    await place.session.__aexit__(None, None, None)  # one that has ended is no error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        async with AsyncExitStack() as stack:  # each of them ends, whatever becomes of the others
            for name in self._places:
                stack.push_async_callback(self.end, name)

    def _drop(self, name: str, place: _Place) -> None:
        if self._places.get(name) is place:
            del self._places[name]

    async def _forget_those_that_ended(self) -> None:
        alive = {info.id for info in await self._client.list_sessions()}
        for name, place in list(self._places.items()):
            if place.session is not None and place.session.id not in alive:
                self._drop(name, place)
