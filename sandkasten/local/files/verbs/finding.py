"""Trees that are listed level by level, and searched, while sandboxed code changes them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sandkasten._names import to_json
from sandkasten._protocol import Code
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.newfile import explained
from sandkasten.local.files.stating import Entry, entry_of
from sandkasten.local.files.tree import MAX_ENTRIES, MAX_NAMES_BYTES, Tree
from sandkasten.local.files.verbs import searcher
from sandkasten.local.files.verbs.searcher import Glob
from sandkasten.local.linux.syscalls import open_inside
from sandkasten.local.records import dataclass

MAX_DEPTH = 100
_MAX_VISITED = 1_000_000
_MAX_SECONDS = 60.0
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EXDEV}
_OUTPUT_BYTES = 8 * 1024 * 1024


def find(tree: Tree, path: str, *, depth: int, pattern: str | None) -> list[dict[str, Any]]:
    """Return what is below a directory, down to some depth, as far as a glob pattern matches; blocks.

    Directories that may not be read are left out with all that is in them, and no symlink is followed.

    Raises:
        ApiError: there is no such directory, or there is too much in it.
    """
    glob = None if pattern is None else Glob(pattern)
    found: list[dict[str, Any]] = []
    names_bytes = 0
    with explained(path), tree.opened_root() as root:
        top = tree.open_at(root, tree.inside(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            tree.check_place(root, top)
            for above, entry in _Walk(top, depth, across_mounts=tree.crosses_mounts(root, top)).entries():
                if glob is not None and not glob.matches((*above, entry.name)):
                    continue
                row = entry.as_json | to_json("name", "/".join((*above, entry.name)))
                names_bytes += len(json.dumps(row))
                found.append(row)
                if len(found) > MAX_ENTRIES or names_bytes > 4 * MAX_NAMES_BYTES:
                    raise invalid_request(
                        f"{path[:256]!r} has too many entries to list. Ask for a part of them."
                    )
        finally:
            os.close(top)
    return sorted(found, key=lambda row: row["name"])


class _Walk:
    def __init__(self, top: int, depth: int, *, across_mounts: bool) -> None:
        self._top = top
        self._across_mounts = across_mounts
        self._depth = min(depth, MAX_DEPTH)
        self._visited = 0
        self._ends_at = time.monotonic() + _MAX_SECONDS

    def entries(self) -> Iterator[tuple[tuple[str, ...], Entry]]:
        """Yield all entries, each with the names of the directories above it."""
        pending: list[tuple[str, ...]] = [()]
        while pending:
            above = pending.pop()
            try:
                directory = open_inside(
                    self._top, "/".join(above) or ".", _FLAGS, across_mounts=self._across_mounts
                )
            except OSError as error:
                if above and error.errno in _GONE:
                    continue
                raise
            try:
                for entry in self._listed(directory):
                    yield above, entry
                    if entry.is_dir and len(above) + 1 < self._depth:
                        pending.append((*above, entry.name))
            finally:
                os.close(directory)

    def _listed(self, directory: int) -> Iterator[Entry]:
        with os.scandir(directory) as entries:
            for entry in entries:
                self._visited += 1
                if self._visited > _MAX_VISITED or time.monotonic() > self._ends_at:
                    raise invalid_request("There is too much to look through. Begin at a directory below.")
                with suppress(FileNotFoundError):
                    yield entry_of(entry, directory)


@dataclass(frozen=True)
class Query:
    """A search.

    Attributes:
        path: the directory.
        pattern: a regular expression of Python's, for single lines.
        glob: for the files, by their paths below the directory.
        ignore_case: whether letters of either case are the same.
        max_results: how many matches there may be.
        timeout_seconds: how long it may take.
    """

    path: str
    pattern: str
    glob: str
    ignore_case: bool
    max_results: int
    timeout_seconds: float


async def search(tree: Tree, query: Query, directory: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the lines that match, and whether there are more of them.

    Args:
        tree: the files.
        query: what to search for.
        directory: the query's directory, a descriptor.

    Raises:
        ApiError: the pattern is no regular expression, or takes too long.
    """
    identity = tree.identity
    asked = {
        "uid": identity.uid if identity.drops else None,
        "gid": identity.gid,
        "pattern": query.pattern,
        "glob": query.glob,
        "ignore_case": query.ignore_case,
        "directory": directory,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(Path(searcher.__file__)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(directory,), env={}, cwd="/",
    )  # fmt: skip
    try:
        async with asyncio.timeout(query.timeout_seconds):
            assert process.stdin is not None
            process.stdin.write(json.dumps(asked).encode())
            process.stdin.close()
            return await _matches(process, query.max_results)
    except TimeoutError:
        sentence = f"The search took longer than {query.timeout_seconds:g} s, so it was ended."
        raise ApiError(
            504, Code.SEARCH_TIMEOUT, f"{sentence} Simplify the pattern, or search less."
        ) from None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _matches(
    process: asyncio.subprocess.Process, max_results: int
) -> tuple[list[dict[str, Any]], bool]:
    assert process.stdout is not None
    found: list[dict[str, Any]] = []
    size_bytes = 0
    async for line in process.stdout:
        row = json.loads(line)
        if "error" in row:
            raise ApiError(
                400, Code.INVALID_PATTERN, f"The pattern is no regular expression: {row['error']}."
            )
        size_bytes += len(line)
        if len(found) == max_results or size_bytes > _OUTPUT_BYTES:
            return found, True
        path = os.fsdecode(bytes.fromhex(row["path"]))
        found.append({**row, **to_json("path", path)})
    if await process.wait() != 0:
        raise ApiError(500, Code.INTERNAL_ERROR, "The search failed: it may have taken too much memory.")
    return found, False
