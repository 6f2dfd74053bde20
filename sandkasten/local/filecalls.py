"""The file calls of the common protocol: contents in JSON and forms, of sessions and workspaces alike.

A session's listing is ours: the extension `files`. See `transfers` for contents of any size.
"""

from __future__ import annotations

import asyncio
import base64
import io
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandkasten.local import bodies
from sandkasten.local.asgi import answer
from sandkasten.local.bodies import uploaded
from sandkasten.local.bodystream import in_thread
from sandkasten.local.files import Tree
from sandkasten.local.observer import Observer
from sandkasten.local.owners import Find, Owners

# Names and boundaries in a form, which are not files.
_FORM_BYTES = 1024 * 1024


class FileCalls:
    """The handlers."""

    def __init__(self, owners: Owners, observer: Observer) -> None:
        """Serve the files of sessions and workspaces."""
        self._owners = owners
        self._metrics = observer.metrics
        self._listings = asyncio.Semaphore(2)  # each may take some ten megabytes

    def routes(self) -> list[Route]:
        """Return what is served where."""
        handlers = (
            ("fs", "GET", self._list),
            ("fs/write", "POST", self._write),
            ("fs/upload", "POST", self._upload),
            ("fs/read", "GET", self._read),
        )
        return [
            Route(f"{prefix}/{name}", partial(handler, find), methods=[method])
            for prefix, find in self._owners.prefixes()
            for name, method, handler in handlers
        ]

    async def _write(self, find: Find, request: Request) -> Response:
        """Write a file; makes the workspace."""
        owner = await find(request, create=True)
        body = await bodies.write_body(request)
        size_bytes = len(body.content)
        await owner.admit(size_bytes)
        with owner.reserved(size_bytes):
            async with owner.written():
                await in_thread(owner.tree.write, body.path, io.BytesIO(body.content))
        self._metrics.file_bytes("in", size_bytes)
        return answer({"ok": True})

    async def _upload(self, find: Find, request: Request) -> Response:
        """Store uploaded files; makes the workspace."""
        owner = await find(request, create=True)
        await owner.admit(max(0, (bodies.content_length(request.headers) or 0) - _FORM_BYTES))
        async with uploaded(request) as files:
            size_bytes = sum(file.size_bytes for file in files)
            await owner.admit(size_bytes)
            with owner.reserved(size_bytes):
                async with owner.written():
                    paths = [await in_thread(owner.tree.write, file.path, file.source) for file in files]
        self._metrics.file_bytes("in", size_bytes)
        return answer({"ok": True, "paths": paths})

    async def _read(self, find: Find, request: Request) -> Response:
        """Read a file."""
        owner = await find(request)
        path, max_bytes = bodies.path_query(request), bodies.max_bytes_query(request)
        with owner.kept():
            content, truncated = await in_thread(owner.tree.read, path, max_bytes)
        self._metrics.file_bytes("out", len(content))
        encoded = base64.b64encode(content).decode()
        return answer({"path": path, "content_base64": encoded, "truncated": truncated})

    async def _list(self, find: Find, request: Request) -> Response:
        """List a directory."""
        owner = await find(request)
        path = bodies.path_query(request, "/workspace")
        async with self._listings:
            # In a thread as a whole: what is answered may have some megabytes.
            with owner.kept():
                return await in_thread(_listing, owner.tree, path)


def _listing(tree: Tree, path: str) -> Response:
    return answer({"entries": [vars(entry) for entry in tree.entries(path)]})
