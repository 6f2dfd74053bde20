"""The extension `files`: files and directories as plain bytes, of any size, in constant memory.

    GET, PUT {owner}/fs/raw?path=[&mode=][&follow_symlinks=false]   a file
    GET, PUT {owner}/fs/tar?path=   a directory, as an uncompressed tar archive

A file that is put appears under its name when its body is complete, or never. A directory that is put is
merged into what is there, file by file. Of a file, `Range` with `If-Range` gets a part. A transfer that
cannot be completed is broken off, so that nobody takes a part for the whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO

from sandkasten._names import to_json
from sandkasten._protocol import FILE_MODE_HEADER
from sandkasten._tar import TarError, TarReader
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import answer
from sandkasten.local.api.bodystream import Behind, BodyStream
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.owners import FileRow, Owner
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.newfile import NewFile
from sandkasten.local.files.tarballs import PIECE_BYTES, BrokenOffError, TreeSink, pack
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.verbs.appending import append as append_to
from sandkasten.local.threads import in_thread

# --- out


async def get_raw(owner: Owner, request: Request) -> Response:
    """Send a file, or a part of it."""
    path = bodies.path_query(request)
    owner = await owner.at(path)
    opened = await owner.read(_Opened, owner.tree, path, request)
    if opened.is_read:
        owner.count_sent(len(opened.first))
        return Response(opened.first, opened.status, opened.headers, "application/octet-stream")
    pieces = owner.sent(opened.first, opened.read_on)
    return BodyStream(request, pieces, opened.status, opened.headers, opened.file.close)


async def get_tar(owner: Owner, request: Request) -> Response:
    """Send a directory."""
    path = bodies.path_query(request)
    owner = await owner.at(path)
    archive = pack(owner.tree, path)
    first = await owner.read(lambda: next(archive))
    return BodyStream(request, owner.sent(first, lambda: next(archive, b"")), 200, {}, archive.close)


# --- in


async def put_raw(owner: Owner, request: Request) -> Response:
    """Store a file."""
    path, mode = bodies.path_query(request), bodies.mode_query(request)
    follow = bodies.flag_query(request, "follow_symlinks", default=True)
    owner = await owner.at(path, follow_symlinks=follow)
    await owner.admit(bodies.content_length(request.headers) or 0)
    async with owner.written():
        size, inside = await _store(
            owner, partial(owner.tree.new_file, path, mode=mode, follow_symlinks=follow), request
        )
    return answer({"ok": True, **to_json("path", inside), "size_bytes": size})


async def _store(owner: Owner, begin: Callable[[], NewFile], request: Request) -> tuple[int, str]:
    file: NewFile | None = None
    behind = Behind()
    size = 0
    try:
        async for piece, more in owner.received(request):
            size += len(piece)
            if file is None and not more:  # a small file costs one step
                return size, await in_thread(_write_at_once, begin, piece)
            if file is None:
                file = await in_thread(begin)
            await behind.then(file.write, piece)
        assert file is not None
        await behind.wait()
        return size, await in_thread(file.commit)
    finally:
        await behind.settle()
        if file is not None:
            await in_thread(file.discard)


async def append(owner: Owner, request: Request) -> Response:
    """Add to the end of a file, when all of the body is here."""
    path = bodies.path_query(request)
    owner = await owner.at(path)
    inside = owner.tree.inside(path)
    await owner.admit(bodies.content_length(request.headers) or 0)
    async with owner.written():
        file = await in_thread(partial(owner.tree.new_file, path, follow_symlinks=True))
        behind = Behind()
        try:
            async for piece, _more in owner.received(request):
                await behind.then(file.write, piece)
            await behind.wait()
            await in_thread(append_to, owner.tree, path, file)
        finally:
            await behind.settle()
            await in_thread(file.discard)
    return answer({"ok": True, **to_json("path", f"/{inside}")})


async def put_tar(owner: Owner, request: Request) -> Response:
    """Merge an archive into a directory."""
    path = bodies.path_query(request)
    owner = await owner.at(path)
    inside = owner.tree.inside(path)
    await owner.admit(bodies.content_length(request.headers) or 0)
    async with owner.written():
        sink = await in_thread(TreeSink, owner.tree, path)
        await _unpack(owner, sink, request)
    return answer({"ok": True, **to_json("path", f"/{inside}"), "files": sink.files})


async def _unpack(owner: Owner, sink: TreeSink, request: Request) -> None:
    reader = TarReader(sink)
    behind = Behind()
    try:
        async for piece, _more in owner.received(request):
            await behind.then(reader.feed, piece)
        await behind.wait()
        reader.close()
        await in_thread(owner.tree.sync)
    except TarError as error:
        raise invalid_request(
            f"{error} Send a whole, uncompressed tar archive whose members stay inside it."
        ) from error
    finally:
        await behind.settle()
        await in_thread(sink.discard)


def _write_at_once(begin: Callable[[], NewFile], data: bytes) -> str:
    with begin() as file:
        file.write(data)
        return file.commit()


class _Opened:
    """A file that is about to be sent, and the first piece of it; the constructor blocks."""

    def __init__(self, tree: Tree, path: str, request: Request) -> None:
        self.file: IO[bytes] = tree.open(path)
        try:
            status = os.fstat(self.file.fileno())
            # By the time of change, which sandboxed code cannot set.
            etag = f'"{status.st_ino:x}-{status.st_size:x}-{status.st_ctime_ns:x}"'
            asked = bodies.asked_range(request.headers, status.st_size, etag)
            self._asked = range(status.st_size) if asked is None else asked
            self._position = self._asked.start
            self.first = self.read_on()
        except BrokenOffError:
            self.file.close()
            raise ApiError(409, "CONFLICT", f"{path[:256]!r} was changed just now. Try again.") from None
        except BaseException:
            self.file.close()
            raise
        self.is_read = len(self.first) == len(self._asked)
        if self.is_read:
            self.file.close()
        self.status = 200 if asked is None else 206
        self.headers = {
            "Content-Length": str(len(self._asked)),
            "ETag": etag,
            "Accept-Ranges": "bytes",
            FILE_MODE_HEADER: f"{stat.S_IMODE(status.st_mode) & 0o777:o}",
        }
        if asked is not None:
            self.headers["Content-Range"] = f"bytes {asked.start}-{asked.stop - 1}/{status.st_size}"

    def read_on(self) -> bytes:
        """The next piece; blocks.

        Raises:
            BrokenOffError: the file is shorter than it was.
        """
        size = min(PIECE_BYTES, self._asked.stop - self._position)
        piece = os.pread(self.file.fileno(), size, self._position) if size else b""
        if size and not piece:
            raise BrokenOffError
        self._position += len(piece)
        return piece


ROWS: Sequence[FileRow] = (
    ("GET", "fs/raw", get_raw),
    ("PUT", "fs/raw", put_raw),
    ("POST", "fs/append", append),
    ("GET", "fs/tar", get_tar),
    ("PUT", "fs/tar", put_tar),
)
