# Made from sandkasten/_rawfiles.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Files by the extension `files`: bytes as they are, in one request as long as nothing breaks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import httpx
from attrs import evolve

from sandkasten._tar import TarError, TarReader
from sandkasten._transfer import calls
from sandkasten._transfer.calls import FilesOf
from sandkasten._transfer.pieces import PIECE_BYTES
from sandkasten._transfer.reading import Fetch, Tries
from sandkasten._transfer.sources import Source
from sandkasten._transfer.targets import Target, Teller
from sandkasten._transfer.trees import TreeTarget
from sandkasten.errors import SandkastenAPIError, SandkastenConnectionError, SandkastenResponseError
from sandkasten.models import DirEntry

from ._http import Connection
from ._seam import close_response, run_in_thread

T = TypeVar("T")


class RawFiles:
    """Files of one session or workspace, of a daemon with the extension."""

    def __init__(self, connection: Connection, of: FilesOf) -> None:
        """Bind to a session or a workspace; nothing is sent."""
        self._connection = connection
        self._of = of

    def send(self, path: str, source: Source) -> str:
        """Send a file, or merge a directory into `path`; return its path in the sandbox."""
        if source.stream is None:
            call = calls.put_tar(self._of, path, source.pieces)
        else:
            call = calls.put_raw(self._of, path, source.pieces, source)
        try:
            return self._connection.call(evolve(call, idempotent=source.can_repeat))
        except SandkastenConnectionError:
            if source.failure is not None:  # it is why the connection broke
                raise source.failure from None
            raise

    def append(self, path: str, source: Source) -> None:
        """Add to the end of a file."""
        self._connection.call(calls.append(self._of, path, source.pieces, source.size_bytes))

    def fetch(self, path: str, target: Target, max_bytes: int | None = None, offset: int = 0) -> bool:
        """Read a file, or some bytes of it; return whether there are more."""
        state = Fetch(max_bytes, offset)
        tries = Tries(self._connection.max_retries)
        while not state.is_complete:
            try:
                self._fetch_on(path, target, state)
            except SandkastenConnectionError as error:
                if not tries.allow(error, state.offset):
                    raise
        return state.is_cut

    def _fetch_on(self, path: str, target: Target, state: Fetch) -> None:
        def take(piece: bytes) -> None:
            target.write(piece)
            state.take(len(piece))

        call = calls.get_raw(self._of, path, state.headers)
        try:
            response = self._connection.open_body(call)
        except SandkastenAPIError as error:
            if error.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            state.end()
            return
        try:
            if state.begin(response.status_code, response.headers):
                at(target, partial(target.begin, state.wanted_bytes, state.mode))
            if state.wanted_bytes is None:
                return
            self._pump(response, target, take)
        finally:
            close_response(response)
        if not state.is_complete:
            raise SandkastenResponseError("The daemon sent less of the file than it said.")
        if not state.offset:
            target.tell()

    def fetch_tree(self, path: str, target: TreeTarget) -> None:
        """Read a directory; from its beginning, if the connection breaks."""
        tries = Tries(self._connection.max_retries)
        while True:
            try:
                return self._fetch_tree(path, target)
            except SandkastenConnectionError as error:
                if not tries.allow(error):
                    raise

    def _fetch_tree(self, path: str, target: TreeTarget) -> None:
        response = self._connection.open_body(calls.get_tar(self._of, path))
        try:
            run_in_thread(target.restart)
            reader = TarReader(target)
            self._pump(response, target, reader.feed)
            if (error := calls.error_in_archive(reader.notes, response)) is not None:
                raise error
            reader.close()
        except TarError as error:
            raise SandkastenResponseError(f"The daemon's answer cannot be unpacked. {error}") from error
        finally:
            close_response(response)

    def entries(self, path: str) -> list[DirEntry]:
        """List a directory."""
        return self._connection.call(calls.list_directory(self._of, path))

    def _pump(self, response: httpx.Response, target: Teller, take: Callable[[bytes], object]) -> None:
        """Give a body away in pieces of about 1 MiB; before an error comes all that came before it."""
        pending: list[bytes] = []
        size_bytes = 0
        try:
            for part in self._connection.parts(response):
                pending.append(part)
                size_bytes += len(part)
                if size_bytes >= PIECE_BYTES:
                    at(target, partial(take, b"".join(pending)))
                    target.tell()
                    pending, size_bytes = [], 0
        except SandkastenConnectionError:
            at(target, partial(take, b"".join(pending)))
            raise
        if pending:
            at(target, partial(take, b"".join(pending)))
            target.tell()


def at(target: Teller, function: Callable[[], T]) -> T:
    """Call something of a target's, in a thread if it blocks."""
    return function() if target.in_memory else run_in_thread(function)
