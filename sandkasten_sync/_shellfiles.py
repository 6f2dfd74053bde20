# Made from sandkasten/_shellfiles.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Files of a session on daemons without the extension `files`: what its calls cannot carry, commands do."""

from __future__ import annotations

import hashlib
import posixpath
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TypeVar

from sandkasten._plain import commands, plan
from sandkasten._plain.commands import Pieces, Question, Slices
from sandkasten._plain.deeds import Deed
from sandkasten._plain.plan import Way
from sandkasten._tar import TarError, TarReader
from sandkasten._transfer import calls
from sandkasten._transfer.calls import FilesOf
from sandkasten._transfer.places import absolute
from sandkasten._transfer.sources import Source
from sandkasten._transfer.targets import Target
from sandkasten._transfer.trees import TreeTarget
from sandkasten.errors import (
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandkastenError,
    SandkastenInputError,
    SandkastenResponseError,
)
from sandkasten.models import DirEntry, ExecResult

from ._http import Connection
from ._plainfiles import PlainFiles, first_two, is_short_of
from ._rawfiles import at
from ._seam import run_in_thread, uninterrupted

T = TypeVar("T")

# How long somebody who was interrupted waits until temporary files are gone.
_CLEAN_UP_SECONDS = 5.0
_ASK_TIMEOUT_MS = 60_000
_CHANGE_TIMEOUT_MS = 600_000


class ShellFiles(PlainFiles):
    """Files of one session: of any size, with permissions, symlinks, and names with two dots."""

    def __init__(self, connection: Connection, of: FilesOf, session_id: str) -> None:
        """Bind to a session; nothing is sent."""
        super().__init__(connection, of)
        self._session_id = session_id

    # --- in

    def send(self, path: str, source: Source) -> str:
        """Send a file, or merge a directory into `path`; return its path in the sandbox."""
        path = absolute(path)
        if source.directory is None:
            self._send_file(path, source)
        else:
            parts = plan.resized(source.pieces(), plan.MAX_JSON_BYTES)
            self._send_pieces(path, parts, partial(commands.unpack_command, path=path))
        return path

    def _send_file(self, path: str, source: Source) -> None:
        parts = plan.resized(source.pieces(), plan.MAX_JSON_BYTES)
        first, more = first_two(parts, source.size_bytes, plan.MAX_JSON_BYTES)
        way = plan.way_to_session(path, len(first) + len(more))
        if way is Way.PIECES:
            finish = partial(commands.join_command, path=path, mode=source.mode)
            self._send_pieces(path, chain([first, more] if more else [first], parts), finish)
            return
        self._send_whole(path, first, way)
        run_in_thread(lambda: next(parts, b""))  # which tells that this was sent
        if source.mode not in {None, 0o644}:
            self._run(commands.chmod_command(path, source.mode or 0))

    def _send_pieces(self, path: str, parts: Iterator[bytes], finish: Callable[[Pieces], str]) -> None:
        """Write parts beside `path`, under names of their own, and make one thing of them by a command."""
        prefix = posixpath.join(posixpath.dirname(path), f".sandkasten-{secrets.token_hex(8)}")
        checksum = hashlib.sha256()
        count = size_bytes = 0

        def next_part() -> bytes:
            part = next(parts, b"")
            checksum.update(part)
            return part

        try:
            while part := run_in_thread(next_part):
                self._connection.call(calls.write_json(self._of, f"{prefix}.{count}", part))
                count += 1
                size_bytes += len(part)
            self._run(finish(Pieces(prefix, count, size_bytes, checksum.hexdigest())))
        except BaseException:
            self._remove(prefix)
            raise

    # --- out

    def append(self, path: str, source: Source) -> None:
        """Add to the end of a file."""
        parts = plan.resized(source.pieces(), plan.MAX_JSON_BYTES)
        self._check_appendable(path)
        self._send_pieces(absolute(path), parts, partial(commands.append_command, path=absolute(path)))

    def _check_appendable(self, path: str) -> None:
        with suppress(SandboxFileNotFoundError):
            self._connection.call(calls.read_json(self._of, path, 1))

    def fetch(self, path: str, target: Target, max_bytes: int | None = None, offset: int = 0) -> bool:
        """Read a file, or some bytes of it; return whether there are more."""
        if offset:
            return self._fetch_from(path, target, max_bytes, offset)
        first = self._fetch_first(path, target, max_bytes, plan.MAX_SESSION_READ_BYTES)
        if not is_short_of(first, max_bytes):
            return first.truncated
        slices = Slices(absolute(path), len(first.content), max_bytes)
        checksum = hashlib.sha256(first.content)
        for piece in self._slices(slices):
            at(target, partial(target.expect, slices.total_bytes or 0))
            at(target, partial(target.write, piece))
            checksum.update(piece)
            target.tell()
        if max_bytes is None:
            self._verify(slices.path, checksum.hexdigest())
        return slices.offset < (slices.total_bytes or 0)

    def _fetch_from(self, path: str, target: Target, max_bytes: int | None, offset: int) -> bool:
        self._connection.call(calls.read_json(self._of, path, 1))  # which says what is wrong with it
        slices = Slices(absolute(path), offset, None if max_bytes is None else offset + max_bytes)
        at(target, partial(target.begin, None, 0o644))
        for piece in self._slices(slices):
            at(target, partial(target.expect, max(0, (slices.total_bytes or 0) - offset)))
            at(target, partial(target.write, piece))
        return slices.offset < (slices.total_bytes or 0)

    def _verify(self, path: str, sha256: str) -> None:
        mark = secrets.token_hex(8)
        output = self._run(commands.checksum_command(path, mark), idempotent=True)
        if commands.marked(output, mark) not in {"", sha256}:
            raise commands.changed(path)

    def fetch_tree(self, path: str, target: TreeTarget) -> None:
        """Read a directory."""
        path = absolute(path)
        run_in_thread(target.restart)
        mark = secrets.token_hex(8)
        archive = commands.marked(self._run(commands.pack_command(path, mark)), mark)
        if archive is None:
            raise SandkastenError(
                f"{path!r} cannot be packed.", "Check that the session's image has tar and mktemp."
            )
        try:
            reader = TarReader(target)
            for piece in self._slices(Slices(archive)):
                run_in_thread(partial(reader.feed, piece))
                target.tell()
            reader.close()
        except TarError as error:
            raise SandkastenResponseError(f"The session's archive cannot be unpacked. {error}") from error
        finally:
            self._remove(archive)

    def entries(self, path: str) -> list[DirEntry]:
        """List a directory."""
        whole, mark = self._whole(path), secrets.token_hex(8)
        cmd = commands.list_command(whole, mark)
        result = self._exec(cmd, idempotent=True, timeout_ms=_ASK_TIMEOUT_MS)
        is_complete = result.truncated or commands.marked(result.output, mark) is not None
        if not is_complete:
            self._check_directory(path)
        return commands.listed(path, result.output, mark, truncated=result.truncated)

    def _check_directory(self, path: str) -> None:
        with suppress(SandboxIsDirectoryError):
            self._connection.call(calls.no_directory(self._of, path))

    # --- commands

    def ask(self, question: Question[T]) -> T:
        """Answer a question by a command."""
        path, mark = question.path, secrets.token_hex(8)
        cmd = question.command(self._whole(path), mark)
        result = self._exec(cmd, idempotent=True, timeout_ms=_ASK_TIMEOUT_MS)
        text = commands.marked(result.output, mark)
        answer = None if text is None else question.read(text)
        if answer is None:
            self._kind_of(path)  # which raises if there is nothing
            raise SandkastenError(
                f"{path[:200]!r} cannot be examined by a command: it changes just now, or its directory may "
                "not be entered.",
                "Look at it with list(), or by a command of yours.",
            )
        return answer

    def do(self, deed: Deed) -> None:
        """Change files by a command."""
        mark = secrets.token_hex(8)
        for path in filter(None, (deed.path, deed.other)):
            self._whole(path)
        call = calls.command(self._session_id, deed.command(mark), timeout_ms=_CHANGE_TIMEOUT_MS)
        self._connection.call(calls.read_by(call, lambda result: deed.read(mark, result.output)))

    def _whole(self, path: str) -> str:
        """Return the path as commands see it; of one outside, the daemon itself says that it is."""
        try:
            return absolute(path)
        except SandkastenInputError:
            self._kind_of(path)
            raise

    def _slices(self, slices: Slices) -> Iterator[bytes]:
        while not slices.is_complete:
            mark = secrets.token_hex(8)
            result = self._exec(slices.command(mark), idempotent=True)
            yield slices.take(result.output, mark, truncated=result.truncated)

    def _run(self, cmd: str, *, idempotent: bool = False) -> str:
        result = self._exec(cmd, idempotent=idempotent)
        return result.check().output

    def _exec(self, cmd: str, *, idempotent: bool = False, timeout_ms: int = 0) -> ExecResult:
        call = calls.command(self._session_id, cmd, idempotent=idempotent, timeout_ms=timeout_ms)
        return self._connection.call(call)

    def _remove(self, path: str) -> None:
        """Take temporary files away, as well as that can be done now."""
        with uninterrupted(_CLEAN_UP_SECONDS):
            try:
                self._exec(commands.remove_command(path))
            except SandkastenError:
                return
