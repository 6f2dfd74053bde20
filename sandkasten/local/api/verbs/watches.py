"""The extension `watch`: changes of files as server-sent events.

GET {owner}/fs/watch?path=[&recursive=false]
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial

from sandkasten._protocol import MAX_KEEP_ALIVE_MS, WORKSPACE, Code
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import KEEP_ALIVE, EventStream, event
from sandkasten.local.api.execs import lost_error
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.owners import FileRow, Owner
from sandkasten.local.errors import ApiError, SandboxLostError
from sandkasten.local.files.verbs.watching import Watcher
from sandkasten.local.threads import in_thread

# Linux allows a user 128 of them, unless its operator says otherwise.
MAX_WATCHES, MAX_WATCHES_OF_ONE = 64, 8
# Changes that follow each other closely are sent together. What runs in the sandbox can make any number of
# them: at most a fifth of the time goes into looking at them.
_GATHER_SECONDS = 0.02
_PAUSE_PER_BUSY_SECOND = 4


class Watches:
    """The handlers."""

    def __init__(self) -> None:
        """Count from nothing."""
        self._counts = Counter[str]()

    def rows(self) -> Sequence[FileRow]:
        """Return which calls there are."""
        return (("GET", "fs/watch", self.watch),)

    async def watch(self, owner: Owner, request: Request) -> Response:
        """Send changes as they come, until the client leaves or the directory is gone."""
        path = bodies.path_query(request, WORKSPACE)
        recursive = bodies.flag_query(request, "recursive", default=True)
        name = repr(request.path_params)
        owner = await owner.at(path)
        self._check_room(name)
        self._counts[name] += 1
        try:
            watcher = await owner.read(partial(Watcher, owner.tree, path, recursive=recursive))
        except BaseException:
            self._ended(name)
            raise
        watch = _Watch(owner, watcher, partial(self._ended, name))
        return EventStream(watch.events(), request.receive, on_leave=watch.leave)

    def _check_room(self, name: str) -> None:
        if self._counts[name] >= MAX_WATCHES_OF_ONE:
            sentence = f"It has {MAX_WATCHES_OF_ONE} watches already. End one of them first."
            raise ApiError(429, Code.CAPACITY_EXCEEDED, sentence)
        if self._counts.total() >= MAX_WATCHES:
            sentence = f"The daemon has {MAX_WATCHES} watches already. Try again when others have ended."
            raise ApiError(503, Code.CAPACITY_EXCEEDED, sentence)

    def _ended(self, name: str) -> None:
        self._counts[name] -= 1
        self._counts += Counter()  # without those of which there are none


class _Watch:
    """One client's watch."""

    def __init__(self, owner: Owner, watcher: Watcher, on_end: Callable[[], None]) -> None:
        self._owner = owner
        self._watcher = watcher
        self._on_end = on_end
        self._ready = asyncio.Event()
        self._has_left = self._is_reading = self._is_closed = False
        asyncio.get_running_loop().add_reader(watcher.descriptor, self._on_ready)

    def leave(self) -> None:
        """Note that the client is gone; all ends now, or when the thread that reads has returned."""
        self._has_left = True
        self._ready.set()
        if not self._is_reading:
            self._close()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the events for the client."""
        number = 0
        try:
            yield KEEP_ALIVE  # it is watching now
            while not self._has_left:
                with suppress(TimeoutError):
                    async with asyncio.timeout(MAX_KEEP_ALIVE_MS / 1000):
                        await self._ready.wait()
                self._owner.check()
                if not self._ready.is_set():
                    yield KEEP_ALIVE
                    continue
                for data in await self._read():
                    number += 1
                    yield event("change", data, number)
                if self._watcher.is_over:
                    self._owner.check()
                    yield event("done", {}, number)
                    return
        except (ApiError, SandboxLostError) as reason:
            error = reason if isinstance(reason, ApiError) else lost_error(reason)
            body = {"error": error.message, "error_code": error.code, "status": error.status}
            yield event("error", body | {"details": error.details or {}}, number)
        finally:
            self._close()

    async def _read(self) -> list[dict[str, object]]:
        if self._has_left:
            return []
        await asyncio.sleep(_GATHER_SECONDS)
        if self._has_left:
            return []
        started = time.monotonic()
        self._is_reading = True
        try:
            changes = await in_thread(self._watcher.read)
        finally:
            self._is_reading = False
        busy_seconds = time.monotonic() - started
        await asyncio.sleep(busy_seconds * _PAUSE_PER_BUSY_SECOND)
        if not self._has_left:
            self._ready.clear()
            asyncio.get_running_loop().add_reader(self._watcher.descriptor, self._on_ready)
        return [change.as_json for change in changes]

    def _on_ready(self) -> None:
        # Not again before these are read: the descriptor stays readable until then.
        asyncio.get_running_loop().remove_reader(self._watcher.descriptor)
        self._ready.set()

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        asyncio.get_running_loop().remove_reader(self._watcher.descriptor)
        self._watcher.close()
        self._on_end()
