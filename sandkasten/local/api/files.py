"""The file calls of the common protocol: contents in JSON and forms, of sessions and workspaces alike.

`fs/stat` and a session's listing are ours: the extension `files`. See `rawfiles` for contents of any size.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import chain
from typing import IO

from sandkasten._names import to_json
from sandkasten._protocol import WORKSPACE
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import answer
from sandkasten.local.api.bodies import UploadedFile, uploaded
from sandkasten.local.api.bodystream import BodyStream
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.owners import FileRow, Owner
from sandkasten.local.files.tarballs import PIECE_BYTES
from sandkasten.local.files.tree import Tree
from sandkasten.local.threads import in_thread

# Names and boundaries in a form, which are not files.
_FORM_BYTES = 1024 * 1024
# Whole groups of base64.
_ENCODED_BYTES = 3 * 256 * 1024
_JSON = "application/json"


class Contents:
    """The handlers; each gets the owner of the files."""

    def __init__(self) -> None:
        """Allow a few large ones at a time."""
        self._large = asyncio.Semaphore(2)  # contents in JSON: each may take some hundred megabytes
        self._listings = asyncio.Semaphore(2)  # each may take some ten megabytes

    def rows(self) -> Sequence[FileRow]:
        """Return which calls there are."""
        return (
            ("GET", "fs", self.list),
            ("POST", "fs/write", self.write),
            ("POST", "fs/upload", self.upload),
            ("GET", "fs/read", self.read),
            ("GET", "fs/stat", self.stat),
        )

    async def write(self, owner: Owner, request: Request) -> Response:
        """Write a file."""
        size_bytes = bodies.content_length(request.headers)
        is_small = size_bytes is not None and size_bytes <= PIECE_BYTES
        async with contextlib.nullcontext() if is_small else self._large:
            body = await bodies.write_body(request)
            owner = await owner.at(body.path)
            await owner.write(body.size_bytes, owner.tree.write, body.path, body.source)
        return answer({"ok": True})

    async def upload(self, owner: Owner, request: Request) -> Response:
        """Store the files of a form."""

        async def admit(size_bytes: int) -> None:
            await owner.admit(max(0, size_bytes - _FORM_BYTES))

        await admit(bodies.content_length(request.headers) or 0)
        async with uploaded(request, admit) as files:
            size_bytes = sum(file.size_bytes for file in files)
            owner = await owner.at(*(file.path for file in files))
            paths = await owner.write(size_bytes, _write_each, owner.tree, files)
        return answer({"ok": True, "paths": paths})

    async def read(self, owner: Owner, request: Request) -> Response:
        """Read a file."""
        path, max_bytes = bodies.path_query(request), bodies.max_bytes_query(request)
        owner = await owner.at(path)
        file = await in_thread(owner.tree.open, path)
        pieces = _encoded(file, path, max_bytes, owner.count_sent)
        try:
            first, second = await owner.read(lambda: (next(pieces), next(pieces, b"")))
        except BaseException:
            file.close()
            raise
        if not second:
            file.close()
            return Response(first, media_type=_JSON)
        rest = chain([second], pieces)
        body = owner.sent(first, lambda: next(rest, b""), as_is=False)
        return BodyStream(request, body, 200, {}, file.close, media_type=_JSON)

    async def list(self, owner: Owner, request: Request) -> Response:
        """List a directory."""
        path = bodies.path_query(request, WORKSPACE)
        owner = await owner.at(path)
        async with self._listings:
            # In a thread as a whole: what is answered may have some megabytes.
            return await owner.read(_listing, owner.tree, path)

    async def stat(self, owner: Owner, request: Request) -> Response:
        """Say what a path is."""
        path, follow = bodies.path_query(request), bodies.flag_query(request, "follow_symlinks", default=True)
        owner = await owner.at(path, follow_symlinks=follow)
        found = await owner.read(partial(owner.tree.stat, path, follow_symlinks=follow))
        return answer(found.as_json)


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


def _write_each(tree: Tree, files: Sequence[UploadedFile]) -> Sequence[str]:
    return [tree.write(file.path, file.source) for file in files]


def _listing(tree: Tree, path: str) -> Response:
    return answer({"entries": [entry.as_json for entry in tree.entries(path)]})
