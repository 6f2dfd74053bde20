"""The extension `files`, what looks through a tree.

GET {owner}/fs/find?path=[&depth=][&glob=]
GET {owner}/fs/search?path=&pattern=[&glob=][&ignore_case=true][&max_results=][&timeout_ms=]
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial

from sandkasten._names import param_of
from sandkasten._protocol import WORKSPACE
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import answer
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.owners import FileRow, Owner
from sandkasten.local.errors import invalid_request
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.verbs.finding import MAX_DEPTH, Query, find, search
from sandkasten.local.threads import in_thread

_MAX_PATTERN_CHARS = 4096
_MAX_RESULTS = 10_000
_MAX_TIMEOUT_MS = 60_000


class Finds:
    """The handlers."""

    def __init__(self) -> None:
        """Allow a few at a time: each takes a thread or a process, and some ten megabytes."""
        self._finds = asyncio.Semaphore(2)
        self._searches = asyncio.Semaphore(2)

    def rows(self) -> Sequence[FileRow]:
        """Return which calls there are."""
        return (("GET", "fs/find", self.find), ("GET", "fs/search", self.search))

    async def find(self, owner: Owner, request: Request) -> Response:
        """List a tree."""
        path = bodies.path_query(request, WORKSPACE)
        depth = bodies.number_query(request, "depth", MAX_DEPTH, MAX_DEPTH)
        pattern = _pattern(request, "glob")
        owner = await owner.at(path)
        async with self._finds:
            return await owner.read(partial(_found, owner.tree, path, depth, pattern))

    async def search(self, owner: Owner, request: Request) -> Response:
        """Search in files."""
        pattern = _pattern(request, "pattern")
        if pattern is None:
            raise invalid_request("The query needs a 'pattern'.")
        query = Query(
            path=bodies.path_query(request, WORKSPACE),
            pattern=pattern,
            glob=_pattern(request, "glob") or "**",
            ignore_case=bodies.flag_query(request, "ignore_case", default=False),
            max_results=bodies.number_query(request, "max_results", 1000, _MAX_RESULTS),
            timeout_seconds=bodies.number_query(request, "timeout_ms", 30_000, _MAX_TIMEOUT_MS) / 1000,
        )
        owner = await owner.at(query.path)
        async with self._searches:
            directory = await owner.read(owner.tree.open_directory, query.path)
            try:
                with owner.kept():
                    matches, truncated = await search(owner.tree, query, directory)
            finally:
                os.close(directory)
        return await in_thread(answer, {"matches": matches, "truncated": truncated})


def _found(tree: Tree, path: str, depth: int, pattern: str | None) -> Response:
    return answer({"entries": find(tree, path, depth=depth, pattern=pattern)})


def _pattern(request: Request, name: str) -> str | None:
    text = param_of(request.query, name)
    if text is not None and (not text or len(text) > _MAX_PATTERN_CHARS or "\0" in text):
        raise invalid_request(f"{name!r} must have 1 to {_MAX_PATTERN_CHARS} characters, and no NUL.")
    return text
