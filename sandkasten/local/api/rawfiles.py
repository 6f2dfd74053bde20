"""The extension `files`: files and directories as plain bytes, of any size, in constant memory.

    GET, PUT {owner}/fs/raw?path=[&mode=]   a file
    GET, PUT {owner}/fs/tar?path=           a directory, as an uncompressed tar archive

A file that is put appears under its name when its body is complete, or never. A directory that is put is
merged into what is there, file by file. Of a file, `Range` with `If-Range` gets a part. What cannot be
sent to its end is broken off, so that nobody takes a part for the whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import IO

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandkasten._names import to_json
from sandkasten._protocol import FILE_MODE_HEADER
from sandkasten._tar import TarError, TarReader
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import answer
from sandkasten.local.api.bodystream import Behind, BodyStream, pieces_of, read_ahead
from sandkasten.local.api.owners import Find, Owner, Owners
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.newfile import NewFile
from sandkasten.local.files.tarballs import PIECE_BYTES, BrokenOffError, TreeSink, pack
from sandkasten.local.files.tree import Tree, inside_path
from sandkasten.local.observe.observer import Observer
from sandkasten.local.threads import in_thread


class Transfers:
    """The handlers."""

    def __init__(self, owners: Owners, observer: Observer) -> None:
        """Serve the files of sessions and workspaces."""
        self._owners = owners
        self._metrics = observer.metrics

    def routes(self) -> list[Route]:
        """What is served where."""
        handlers = (
            ("raw", "GET", self._get_raw),
            ("raw", "PUT", self._put_raw),
            ("tar", "GET", self._get_tar),
            ("tar", "PUT", self._put_tar),
        )
        return [
            Route(f"{prefix}/fs/{name}", partial(handler, find), methods=[method])
            for prefix, find in self._owners.prefixes()
            for name, method, handler in handlers
        ]

    # --- out

    async def _get_raw(self, find: Find, request: Request) -> Response:
        """A file, or a part of it."""
        owner = await find(request)
        opened = await in_thread(_Opened, owner.tree, bodies.path_query(request), request)
        if opened.is_read:
            with owner.kept():
                self._metrics.file_bytes("out", len(opened.first))
            return Response(opened.first, opened.status, opened.headers, "application/octet-stream")
        pieces = self._pieces(owner, opened.first, opened.read_on)
        return BodyStream(request, pieces, opened.status, opened.headers, opened.file.close)

    async def _get_tar(self, find: Find, request: Request) -> Response:
        """A directory."""
        owner = await find(request)
        archive = pack(owner.tree, bodies.path_query(request))
        first = await in_thread(lambda: next(archive))
        pieces = self._pieces(owner, first, lambda: next(archive, b""))
        return BodyStream(request, pieces, 200, {}, archive.close)

    async def _pieces(
        self, owner: Owner, first: bytes, read_on: Callable[[], bytes]
    ) -> AsyncGenerator[bytes, None]:
        sent = 0
        try:
            with owner.kept():
                yield first
                sent += len(first)
                async with aclosing(read_ahead(read_on)) as pieces:
                    async for piece in pieces:
                        yield piece
                        sent += len(piece)
                        owner.check()
        finally:
            self._metrics.file_bytes("out", sent)

    # --- in

    async def _put_raw(self, find: Find, request: Request) -> Response:
        """A file."""
        path, mode = bodies.path_query(request), bodies.mode_query(request)
        inside_path(path)
        owner = await find(request, create=True)
        await owner.admit(bodies.content_length(request.headers) or 0)
        async with owner.written():
            size, inside = await self._store(owner, partial(owner.tree.new_file, path, mode=mode), request)
        return answer({"ok": True, **to_json("path", inside), "size_bytes": size})

    async def _store(self, owner: Owner, begin: Callable[[], NewFile], request: Request) -> tuple[int, str]:
        file: NewFile | None = None
        behind = Behind()
        size = 0
        try:
            async for piece, more in pieces_of(request):
                await owner.admit(len(piece))
                size += len(piece)
                owner.wrote(len(piece))
                if file is None and not more:  # a small file costs one step
                    return size, await in_thread(_write_at_once, begin, piece)
                if file is None:
                    file = await in_thread(begin)
                await behind.then(file.write, piece)
            assert file is not None
            await behind.wait()
            return size, await in_thread(file.commit)
        except ApiError:
            owner.check()  # then it is this that went wrong
            raise
        finally:
            await behind.settle()
            if file is not None:
                await in_thread(file.discard)
            self._metrics.file_bytes("in", size)

    async def _put_tar(self, find: Find, request: Request) -> Response:
        """A directory."""
        path = bodies.path_query(request)
        inside = inside_path(path)
        owner = await find(request, create=True)
        await owner.admit(bodies.content_length(request.headers) or 0)
        async with owner.written():
            sink = await in_thread(TreeSink, owner.tree, path)
            await self._unpack(owner, sink, request)
        return answer({"ok": True, **to_json("path", f"/{inside}"), "files": sink.files})

    async def _unpack(self, owner: Owner, sink: TreeSink, request: Request) -> None:
        reader = TarReader(sink)
        behind = Behind()
        size = 0
        try:
            async for piece, _more in pieces_of(request):
                await owner.admit(len(piece))
                size += len(piece)
                owner.wrote(len(piece))
                await behind.then(reader.feed, piece)
            await behind.wait()
            reader.close()
            await in_thread(owner.tree.sync)
        except TarError as error:
            raise invalid_request(str(error)) from error
        except ApiError:
            owner.check()  # then it is this that went wrong
            raise
        finally:
            await behind.settle()
            await in_thread(sink.discard)
            self._metrics.file_bytes("in", size)


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
