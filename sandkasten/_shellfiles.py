"""Files on daemons without the extension `files`: within the limits of their calls, and by commands."""

from __future__ import annotations

import hashlib
import posixpath
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from sandkasten._plain import commands
from sandkasten._plain.commands import Pieces, Slices
from sandkasten._tar import Kind, Member, TarError, TarReader
from sandkasten._transfer import calls
from sandkasten._transfer import reading as plan
from sandkasten._transfer.reading import Item, Way
from sandkasten._transfer.sources import Source, items_of, read_item
from sandkasten._transfer.targets import Target, TreeTarget
from sandkasten.errors import (
    SandboxIsDirectoryError,
    SandkastenError,
    SandkastenInputError,
    SandkastenResponseError,
)
from sandkasten.models import DirEntry

from ._http import Connection
from ._rawfiles import at
from ._seam import run_in_thread, uninterrupted

# How long somebody who was interrupted waits until temporary files are gone.
_CLEAN_UP_SECONDS = 5.0
_LIST_TIMEOUT_MS = 60_000


class ShellFiles:
    """Files of one session or workspace, of a daemon without the extension."""

    def __init__(self, connection: Connection, owner: str) -> None:
        """Bind to the path of a session or of a workspace; nothing is sent."""
        self._connection = connection
        self._owner = owner
        self._has_shell = calls.has_shell(owner)

    def _check(self, path: str) -> None:
        if not self._has_shell:
            plan.check_in_workspace(path)

    # --- in

    async def send(self, path: str, source: Source) -> str:
        """Send a file, or merge a directory into `path`; return its path in the sandbox."""
        self._check(path)
        path = plan.absolute(path)
        if source.directory is not None and not self._has_shell:
            await self._send_each(path, source.directory, source)
            return path
        limit_bytes = plan.piece_bytes(has_shell=self._has_shell)
        parts = plan.resized(source.pieces(), limit_bytes)
        if source.stream is None:
            finish = partial(commands.unpack_command, path=path)
            await self._send_pieces(path, parts, finish)
            return path
        first = await run_in_thread(lambda: next(parts, b""))
        more = b""
        if source.size_bytes is None or source.size_bytes > limit_bytes:
            # Only the size, or the next part, tells whether this is everything.
            more = await run_in_thread(lambda: next(parts, b""))
        way = plan.way_to_write(path, len(first) + len(more), has_shell=self._has_shell)
        if way is Way.PIECES:
            finish = partial(commands.join_command, path=path, mode=source.mode)
            await self._send_pieces(path, chain([first, more] if more else [first], parts), finish)
            return path
        await self._send_whole(path, first, way)
        await run_in_thread(lambda: next(parts, b""))  # which tells that this was sent
        if source.mode not in {None, 0o644} and self._has_shell:
            await self._run(commands.chmod_command(path, source.mode or 0))
        return path

    async def _send_whole(self, path: str, content: bytes, way: Way) -> None:
        directory, name = posixpath.split(path)
        if way is Way.JSON:
            await self._connection.call(calls.write_json(self._owner, path, content))
        else:
            await self._connection.call(calls.upload(self._owner, directory, [(name, content)]))

    async def _send_pieces(self, path: str, parts: Iterator[bytes], finish: Callable[[Pieces], str]) -> None:
        """Write parts beside `path`, under names of their own, and make one thing of them by a command."""
        prefix = posixpath.join(posixpath.dirname(path), f".sandkasten-{secrets.token_hex(8)}")
        checksum = hashlib.sha256()
        count = size_bytes = 0

        def next_part() -> bytes:
            part = next(parts, b"")
            checksum.update(part)
            return part

        try:
            while part := await run_in_thread(next_part):
                await self._connection.call(calls.write_json(self._owner, f"{prefix}.{count}", part))
                count += 1
                size_bytes += len(part)
            await self._run(finish(Pieces(prefix, count, size_bytes, checksum.hexdigest())))
        except BaseException:
            await self._remove(prefix)
            raise

    async def _send_each(self, path: str, directory: Path, source: Source) -> None:
        """Send a directory's files as they are, several in one request; no symlinks, no permissions."""
        items = await run_in_thread(partial(items_of, directory, path))
        done_bytes = 0
        for item in items:
            self._check(item.path)
            plan.way_to_write(item.path, item.size_bytes, has_shell=False)
        for group in plan.grouped(items):
            contents = await run_in_thread(partial(_read_all, group))
            await self._send_group(group, contents)
            done_bytes += sum(item.size_bytes for item in group)
            await run_in_thread(partial(source.tell, done_bytes))

    async def _send_group(self, group: list[Item], contents: list[bytes]) -> None:
        directory = posixpath.dirname(group[0].path)
        files: list[tuple[str, bytes]] = []
        for item, content in zip(group, contents, strict=True):
            name = posixpath.basename(item.path)
            if plan.is_plain_name(name):
                files.append((name, content))
            else:
                await self._connection.call(calls.write_json(self._owner, item.path, content))
        if files:
            await self._connection.call(calls.upload(self._owner, directory, files))

    # --- out

    async def fetch(self, path: str, target: Target, max_bytes: int | None = None) -> bool:
        """Read a file, or the first bytes of it; return whether there are more."""
        self._check(path)
        most_bytes = plan.max_read_bytes(has_shell=self._has_shell)
        first_bytes = most_bytes if max_bytes is None else min(max_bytes, most_bytes)
        first = await self._connection.call(calls.read_json(self._owner, path, first_bytes))
        is_all = not first.truncated or len(first.content) == max_bytes
        await at(target, partial(target.begin, len(first.content) if is_all else None, 0o644))
        await at(target, partial(target.write, first.content))
        target.tell()
        if is_all:
            return first.truncated
        if not self._has_shell:
            raise plan.needs_shell(f"{path[:200]!r} cannot be read", f"more than {most_bytes} bytes")
        slices = Slices(plan.absolute(path), len(first.content), max_bytes)
        checksum = hashlib.sha256(first.content)
        async for piece in self._slices(slices):
            await at(target, partial(target.expect, slices.total_bytes or 0))
            await at(target, partial(target.write, piece))
            checksum.update(piece)
            target.tell()
        if max_bytes is None:
            await self._verify(slices.path, checksum.hexdigest())
        return slices.offset < (slices.total_bytes or 0)

    async def _verify(self, path: str, sha256: str) -> None:
        mark = secrets.token_hex(8)
        output = await self._run(commands.checksum_command(path, mark), idempotent=True)
        if commands.marked(output, mark) not in {"", sha256}:
            raise commands.changed(path)

    async def fetch_tree(self, path: str, target: TreeTarget) -> None:
        """Read a directory."""
        path = plan.absolute(path)
        await run_in_thread(target.restart)
        if not self._has_shell:
            await self._fetch_each(path, target)
            return
        mark = secrets.token_hex(8)
        archive = commands.marked(await self._run(commands.pack_command(path, mark)), mark)
        if archive is None:
            raise SandkastenError(
                f"{path!r} cannot be packed. Check that the session's image has tar and mktemp."
            )
        try:
            reader = TarReader(target)
            async for piece in self._slices(Slices(archive)):
                await run_in_thread(partial(reader.feed, piece))
                target.tell()
            reader.close()
        except TarError as error:
            raise SandkastenResponseError(f"The session's archive cannot be unpacked. {error}") from error
        finally:
            await self._remove(archive)

    async def _fetch_each(self, path: str, target: TreeTarget) -> None:
        """Read a directory's files one by one."""
        pending: list[tuple[str, ...]] = [()]
        while pending:
            names = pending.pop()
            await run_in_thread(partial(target.begin, Member(names, Kind.DIRECTORY)))
            directory = posixpath.join(path, *names)
            for entry in await self.entries(directory):
                below = (*names, plan.listed_name(entry.name))
                if entry.is_dir:
                    pending.append(below)
                else:
                    await self._fetch_one(path, below, target)

    async def _fetch_one(self, path: str, names: tuple[str, ...], target: TreeTarget) -> None:
        whole = posixpath.join(path, *names)
        self._check(whole)
        most_bytes = plan.max_read_bytes(has_shell=False)
        try:
            result = await self._connection.call(calls.read_json(self._owner, whole, most_bytes))
        except SandboxIsDirectoryError:
            return  # a symlink to one
        if result.truncated:
            raise plan.needs_shell(f"{whole[:200]!r} cannot be read", f"more than {most_bytes} bytes")
        await run_in_thread(partial(target.add_file, names, result.content))
        target.tell()

    async def entries(self, path: str) -> list[DirEntry]:
        """List a directory."""
        self._check(path)
        if not self._has_shell:
            return await self._connection.call(calls.list_directory(self._owner, path))
        if posixpath.normpath(posixpath.join(plan.WORKSPACE, path)) != plan.WORKSPACE:
            await self._check_directory(path)
        mark = secrets.token_hex(8)
        cmd = commands.list_command(plan.absolute(path), mark)
        call = calls.command(self._owner, cmd, idempotent=True, timeout_ms=_LIST_TIMEOUT_MS)
        result = await self._connection.call(call)
        return commands.listed(path, result.output, mark, truncated=result.truncated)

    async def _check_directory(self, path: str) -> None:
        try:  # so that the daemon itself says what is wrong with a path
            await self._connection.call(calls.read_json(self._owner, path, 1))
        except SandboxIsDirectoryError:
            return
        raise SandkastenInputError(f"{path[:200]!r} is not a directory.")

    async def _slices(self, slices: Slices) -> AsyncIterator[bytes]:
        while not slices.is_complete:
            mark = secrets.token_hex(8)
            call = calls.command(self._owner, slices.command(mark), idempotent=True)
            result = await self._connection.call(call)
            yield slices.take(result.output, mark, truncated=result.truncated)

    async def _run(self, cmd: str, *, idempotent: bool = False) -> str:
        result = await self._connection.call(calls.command(self._owner, cmd, idempotent=idempotent))
        return result.check().output

    async def _remove(self, path: str) -> None:
        """Take temporary files away, as well as that can be done now."""
        with uninterrupted(_CLEAN_UP_SECONDS):
            try:
                await self._connection.call(calls.command(self._owner, commands.remove_command(path)))
            except SandkastenError:
                return


def _read_all(group: list[Item]) -> list[bytes]:
    return [read_item(item) for item in group]
