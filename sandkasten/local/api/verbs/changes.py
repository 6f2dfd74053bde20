"""The extension `files`, what changes a tree. Arguments are in the query, since names may be any bytes.

POST {owner}/fs/mkdir?path=[&parents=false][&exist_ok=true]
POST {owner}/fs/remove?path=[&recursive=true][&missing_ok=true]
POST {owner}/fs/move?path=&to=[&overwrite=true]
POST {owner}/fs/copy?path=&to=[&overwrite=true]
POST {owner}/fs/chmod?path=&mode=755
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from sandkasten._protocol import Code
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import answer, when_client_leaves
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.owners import FileRow, Owner
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.verbs import changing
from sandkasten.local.files.verbs.copying import copy
from sandkasten.local.files.verbs.moving import move_by_copy
from sandkasten.local.threads import in_thread

# What is admitted at once, and what a file takes on the disk whatever is in it.
_ADMITTED_BYTES = 1024 * 1024
_ENTRY_BYTES = 4096


class Changes:
    """The handlers."""

    def __init__(self) -> None:
        """Allow a few long ones at a time, so that threads are left for all others."""
        self._long = asyncio.Semaphore(2)

    def rows(self) -> Sequence[FileRow]:
        """Return which calls there are."""
        return (
            ("POST", "fs/mkdir", self.make_directory),
            ("POST", "fs/remove", self.remove),
            ("POST", "fs/move", self.move),
            ("POST", "fs/copy", self.copy),
            ("POST", "fs/chmod", self.change_mode),
        )

    async def make_directory(self, owner: Owner, request: Request) -> Response:
        """Make a directory."""
        path = bodies.path_query(request)
        parents = bodies.flag_query(request, "parents", default=True)
        exist_ok = bodies.flag_query(request, "exist_ok", default=False)
        owner = await owner.at(path)
        make = partial(changing.make_directory, owner.tree, path, parents=parents, exist_ok=exist_ok)
        await owner.write(_ENTRY_BYTES, make)
        return answer({"ok": True})

    async def remove(self, owner: Owner, request: Request) -> Response:
        """Remove a file or a directory; a client that leaves ends it."""
        path = bodies.path_query(request)
        recursive = bodies.flag_query(request, "recursive", default=False)
        missing_ok = bodies.flag_query(request, "missing_ok", default=False)
        owner = await owner.at(links=(path,))
        work = partial(changing.remove, owner.tree, path, recursive=recursive, missing_ok=missing_ok)
        if recursive:
            waiting = _Admission(owner)
            async with self._long, owner.written():
                with when_client_leaves(request.receive, waiting.stop):
                    try:
                        await in_thread(partial(work, go_on=waiting.go_on))
                    finally:
                        waiting.stop()
        else:
            await _do(owner, work)
        return answer({"ok": True})

    async def move(self, owner: Owner, request: Request) -> Response:
        """Move a file or a directory; a client that leaves ends it where it takes a copy."""
        path, to = bodies.path_query(request), bodies.path_query(request, name="to")
        overwrite = bodies.flag_query(request, "overwrite", default=False)
        source, target = await owner.at(links=(path,)), await owner.at(links=(to,))
        tree, into = source.tree, target.tree
        owner.check()
        async with owner.written():
            is_moved = await in_thread(partial(changing.move, tree, path, to, overwrite=overwrite, into=into))
        if not is_moved:
            work = partial(move_by_copy, tree, path, into, to, overwrite=overwrite)
            await self._write_long(
                target, request, lambda admission: work(admit=admission.admit, go_on=admission.go_on)
            )
        return answer({"ok": True})

    async def copy(self, owner: Owner, request: Request) -> Response:
        """Copy a file or a directory; a client that leaves ends it."""
        path, to = bodies.path_query(request), bodies.path_query(request, name="to")
        overwrite = bodies.flag_query(request, "overwrite", default=False)
        source, target = await owner.at(path), await owner.at(links=(to,))
        work = partial(copy, source.tree, path, to, overwrite=overwrite, into=target.tree)
        await self._write_long(target, request, lambda admission: work(admit=admission.admit))
        return answer({"ok": True})

    async def _write_long(self, owner: Owner, request: Request, work: Callable[[_Admission], None]) -> None:
        """Do in a thread what writes to an owner's files; a client that leaves ends it."""
        await owner.admit(0)
        admission = _Admission(owner)
        async with self._long, owner.written():
            with when_client_leaves(request.receive, admission.stop):
                try:
                    await in_thread(work, admission)
                finally:
                    admission.stop()

    async def change_mode(self, owner: Owner, request: Request) -> Response:
        """Set permission bits."""
        path, mode = bodies.path_query(request), bodies.mode_query(request, most=0o1777)
        if mode is None:
            raise invalid_request("The query needs a 'mode'.")
        owner = await owner.at(path)
        await _do(owner, partial(changing.change_mode, owner.tree, path, mode))
        return answer({"ok": True})


async def _do(owner: Owner, work: Callable[[], None]) -> None:
    """Do what takes no room on the disk, and so must go when that is full."""
    owner.check()
    async with owner.written():
        await in_thread(work)


class _Admission:
    """Admits what a thread does, step by step, until somebody stops it."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._is_stopped = False
        self._pending_bytes = 0

    def stop(self) -> None:
        """Let the next step be refused."""
        self._is_stopped = True

    def go_on(self) -> None:
        """See `removing.GoOn`; called in the thread."""
        if self._is_stopped:
            raise ApiError(499, Code.CANCELLED, "Nobody waits for this any more.")

    def admit(self, size_bytes: int) -> None:
        """See `copying.Admit`; called in the thread."""
        self.go_on()
        self._pending_bytes += size_bytes or _ENTRY_BYTES
        if self._pending_bytes >= _ADMITTED_BYTES:
            pending_bytes, self._pending_bytes = self._pending_bytes, 0
            asyncio.run_coroutine_threadsafe(self._owner.admit_written(pending_bytes), self._loop).result()
