# Made from sandkasten/_plainfiles.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Files on daemons without the extension `files`, within the limits of their calls: all a workspace gets."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from sandkasten._plain import plan
from sandkasten._plain.commands import Question
from sandkasten._plain.deeds import Deed
from sandkasten._plain.plan import Item, Way
from sandkasten._tar import Kind, Member
from sandkasten._transfer import calls
from sandkasten._transfer.calls import FilesOf
from sandkasten._transfer.places import absolute, listed_name
from sandkasten._transfer.sources import Source
from sandkasten._transfer.targets import Target
from sandkasten._transfer.trees import TreeTarget
from sandkasten.errors import SandboxIsDirectoryError
from sandkasten.models import DirEntry, ReadResult

from ._http import Connection
from ._rawfiles import at
from ._seam import run_in_thread

T = TypeVar("T")


class PlainFiles:
    """Files of one session or workspace; those of a session can do more, see `ShellFiles`."""

    def __init__(self, connection: Connection, of: FilesOf) -> None:
        """Bind to a session or a workspace; nothing is sent."""
        self._connection = connection
        self._of = of

    # --- in

    def send(self, path: str, source: Source) -> str:
        """Send a file, or merge a directory into `path`; return its path in the sandbox."""
        plan.check_in_workspace(path)
        path = absolute(path)
        if source.directory is None:
            self._send_file(path, source)
        else:
            self._send_each(path, source.directory, source)
        return path

    def _send_file(self, path: str, source: Source) -> None:
        parts = plan.resized(source.pieces(), plan.MAX_UPLOAD_BYTES)
        first, more = first_two(parts, source.size_bytes, plan.MAX_UPLOAD_BYTES)
        way = plan.way_to_workspace(path, len(first) + len(more))
        self._send_whole(path, first, way)
        run_in_thread(lambda: next(parts, b""))  # which tells that this was sent

    def _send_whole(self, path: str, content: bytes, way: Way) -> None:
        directory, name = posixpath.split(path)
        if way is Way.JSON:
            self._connection.call(calls.write_json(self._of, path, content))
        else:
            self._connection.call(calls.upload(self._of, directory, [(name, content)]))

    def _send_each(self, path: str, directory: Path, source: Source) -> None:
        """Send a directory's files as they are, several in one request; no symlinks, no permissions."""
        items = run_in_thread(partial(plan.items_of, directory, path))
        done_bytes = 0
        for item in items:
            plan.check_in_workspace(item.path)
            plan.way_to_workspace(item.path, item.size_bytes)
        for group in plan.grouped(items):
            contents = run_in_thread(partial(_read_all, group))
            self._send_group(group, contents)
            done_bytes += sum(item.size_bytes for item in group)
            run_in_thread(partial(source.tell, done_bytes))

    def _send_group(self, group: list[Item], contents: list[bytes]) -> None:
        directory = posixpath.dirname(group[0].path)
        files: list[tuple[str, bytes]] = []
        for item, content in zip(group, contents, strict=True):
            name = posixpath.basename(item.path)
            if plan.is_plain_name(name):
                files.append((name, content))
            else:
                self._connection.call(calls.write_json(self._of, item.path, content))
        if files:
            self._connection.call(calls.upload(self._of, directory, files))

    # --- out

    def append(self, path: str, source: Source) -> None:
        """Add to the end of a file, which takes a shell."""
        del source
        raise plan.needs_shell(f"{path[:200]!r} cannot be added to", "what this call asks for")

    def fetch(self, path: str, target: Target, max_bytes: int | None = None, offset: int = 0) -> bool:
        """Read a file, or the first bytes of it; return whether there are more."""
        plan.check_in_workspace(path)
        if offset:
            raise plan.needs_shell(f"{path[:200]!r} cannot be read", "a part that begins later")
        most_bytes = plan.MAX_WORKSPACE_READ_BYTES
        first = self._fetch_first(path, target, max_bytes, most_bytes)
        if is_short_of(first, max_bytes):
            raise plan.needs_shell(f"{path[:200]!r} cannot be read", f"more than {most_bytes} bytes")
        return first.truncated

    def _fetch_first(self, path: str, target: Target, max_bytes: int | None, most_bytes: int) -> ReadResult:
        """Read what comes in one call; more is wanted where `is_short_of` says so."""
        asked_bytes = most_bytes if max_bytes is None else min(max_bytes, most_bytes)
        first = self._connection.call(calls.read_json(self._of, path, asked_bytes))
        size_bytes = None if is_short_of(first, max_bytes) else len(first.content)
        at(target, partial(target.begin, size_bytes, 0o644))
        at(target, partial(target.write, first.content))
        target.tell()
        return first

    def fetch_tree(self, path: str, target: TreeTarget) -> None:
        """Read a directory's files one by one."""
        path = absolute(path)
        run_in_thread(target.restart)
        pending: list[tuple[str, ...]] = [()]
        while pending:
            names = pending.pop()
            run_in_thread(partial(target.begin, Member(names, Kind.DIRECTORY)))
            directory = posixpath.join(path, *names)
            for entry in self.entries(directory):
                below = (*names, listed_name(entry.name))
                if entry.is_dir:
                    pending.append(below)
                else:
                    self._fetch_one(path, below, target)

    def _fetch_one(self, path: str, names: tuple[str, ...], target: TreeTarget) -> None:
        whole = posixpath.join(path, *names)
        plan.check_in_workspace(whole)
        most_bytes = plan.MAX_WORKSPACE_READ_BYTES
        try:
            result = self._connection.call(calls.read_json(self._of, whole, most_bytes))
        except SandboxIsDirectoryError:
            return  # a symlink to one
        if result.truncated:
            raise plan.needs_shell(f"{whole[:200]!r} cannot be read", f"more than {most_bytes} bytes")
        run_in_thread(partial(target.add_file, names, result.content))
        target.tell()

    def entries(self, path: str) -> list[DirEntry]:
        """List a directory."""
        plan.check_in_workspace(path)
        return self._connection.call(calls.list_directory(self._of, path))

    # --- questions

    def ask(self, question: Question[T]) -> T:
        """Answer a question as far as a read can, which also reports what is wrong with a path."""
        if question.of_kind is None:
            raise plan.needs_shell(f"{question.path[:200]!r} cannot be examined", "what this call asks for")
        plan.check_in_workspace(question.path)
        return question.of_kind(self._kind_of(question.path))

    def do(self, deed: Deed) -> None:
        """Change files, which takes a shell."""
        raise plan.needs_shell(f"{deed.path[:200]!r} cannot be changed", "what this call asks for")

    def _kind_of(self, path: str) -> str:
        """Return `file` or `directory`; the daemon itself says what is wrong with a path."""
        try:
            self._connection.call(calls.read_json(self._of, path, 1))
        except SandboxIsDirectoryError:
            return "directory"
        return "file"


def first_two(parts: Iterator[bytes], size_bytes: int | None, limit_bytes: int) -> tuple[bytes, bytes]:
    """Return the first part, and the next one if only that shows whether there is more."""
    first = run_in_thread(lambda: next(parts, b""))
    more = b""
    if size_bytes is None or size_bytes > limit_bytes:
        more = run_in_thread(lambda: next(parts, b""))
    return first, more


def is_short_of(first: ReadResult, max_bytes: int | None) -> bool:
    """Return whether more of the file is wanted than came with this answer."""
    return first.truncated and len(first.content) != max_bytes


def _read_all(group: list[Item]) -> list[bytes]:
    return [plan.read_item(item) for item in group]
