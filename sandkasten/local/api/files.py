"""The file calls of the common protocol: contents in JSON and forms, of sessions and workspaces alike.

A session's listing is ours: the extension `files`. See `transfers` for contents of any size.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import IO

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandkasten._names import to_json
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import answer
from sandkasten.local.api.bodies import uploaded
from sandkasten.local.api.bodystream import BodyStream, read_ahead
from sandkasten.local.api.owners import Find, Owner, Owners
from sandkasten.local.files.tarballs import PIECE_BYTES
from sandkasten.local.files.tree import Tree
from sandkasten.local.observe.observer import Observer
from sandkasten.local.threads import in_thread

# Names and boundaries in a form, which are not files.
_FORM_BYTES = 1024 * 1024
# Whole groups of base64.
_ENCODED_BYTES = 3 * 256 * 1024
_JSON = "application/json"


class FileCalls:
    """The handlers."""

    def __init__(self, owners: Owners, observer: Observer) -> None:
        """Serve the files of sessions and workspaces."""
        self._owners = owners
        self._metrics = observer.metrics
        self._large = asyncio.Semaphore(2)  # contents in JSON: each may take some hundred megabytes
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
        size = bodies.content_length(request.headers)
        async with contextlib.nullcontext() if size is not None and size <= PIECE_BYTES else self._large:
            body = await bodies.write_body(request)
            await owner.admit(body.size_bytes)
            with owner.reserved(body.size_bytes):
                async with owner.written():
                    await in_thread(owner.tree.write, body.path, body.source)
        self._metrics.file_bytes("in", body.size_bytes)
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
        file = await in_thread(owner.tree.open, path)
        sent = _encoded(file, path, max_bytes, partial(self._metrics.file_bytes, "out"))
        with owner.kept():
            try:
                first, second = await in_thread(lambda: (next(sent), next(sent, b"")))
            except BaseException:
                file.close()
                raise
        if not second:
            file.close()
            return Response(first, media_type=_JSON)
        pieces = _kept(owner, chain([first, second], sent))
        return BodyStream(request, pieces, 200, {}, file.close, media_type=_JSON)

    async def _list(self, find: Find, request: Request) -> Response:
        """List a directory."""
        owner = await find(request)
        path = bodies.path_query(request, "/workspace")
        async with self._listings:
            # In a thread as a whole: what is answered may have some megabytes.
            with owner.kept():
                return await in_thread(_listing, owner.tree, path)


def _encoded(
    file: IO[bytes], path: str, max_bytes: int, count: Callable[[int], object]
) -> Generator[bytes, None, None]:
    """Yield the answer with a file's first bytes in pieces, as the whole may be large; each step blocks."""
    piece = json.dumps(to_json("path", path))[:-1].encode() + b', "content_base64": "'
    size_bytes, is_full = 0, True
    while is_full and size_bytes < max_bytes:
        asked = min(_ENCODED_BYTES, max_bytes - size_bytes)
        content = _read_up_to(file, asked)
        is_full = len(content) == asked  # what is added to the file now would come after the padding
        size_bytes += len(content)
        count(len(content))
        piece += base64.b64encode(content)
        if is_full and size_bytes < max_bytes:
            yield piece
            piece = b""
    truncated = is_full and bool(file.read(1))
    yield piece + b'", "truncated": %s}' % (b"true" if truncated else b"false")


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    """Read a number of bytes; fewer only at the end."""
    parts: list[bytes] = []
    while size > 0 and (part := file.read(min(size, _ENCODED_BYTES))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


async def _kept(owner: Owner, pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    with owner.kept():
        async with aclosing(read_ahead(lambda: next(pieces, b""))) as ahead:
            async for piece in ahead:
                yield piece
                owner.check()


def _listing(tree: Tree, path: str) -> Response:
    return answer({"entries": [entry.as_json for entry in tree.entries(path)]})
