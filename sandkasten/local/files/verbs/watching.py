"""Watching a directory, or all of a tree: the kernel's events become changes of paths.

Directories are opened by the kernel's resolution below the one that is watched, as the sandbox's user, and no
symlink is followed: nothing outside is ever watched. The kernel keeps events that wait, up to a bound of its
own; beyond it events are lost, which is a change of its own (`overflow`).
"""

from __future__ import annotations

import errno
import os
import posixpath
from typing import Any, NamedTuple

from sandkasten._names import to_json
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.newfile import explained
from sandkasten.local.files.tree import Tree
from sandkasten.local.linux import inotify
from sandkasten.local.linux.inotify import Event, Inotify

MAX_DIRECTORIES = 4096
# Of those that a scan finds at once; a client that looks itself is quicker then.
_MAX_FOUND = 4096
# The other half of a move comes right behind the first one.
_HALF_MOVE_MS = 5
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
# A directory that was there a moment ago, or that the sandbox's user may not read.
_PASSED_OVER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}


class Change(NamedTuple):
    """A change: `created`, `modified`, `deleted`, `moved` or `overflow`, and the path below the directory."""

    kind: str
    path: str = ""
    is_dir: bool = False
    old_path: str | None = None

    @property
    def as_json(self) -> dict[str, Any]:
        """The change as the wire has it."""
        old = {} if self.old_path is None else to_json("old_path", self.old_path)
        return {"kind": self.kind, "is_dir": self.is_dir, **to_json("path", self.path), **old}


class Changes:
    """Collects changes; repeated modifications of a path become one."""

    def __init__(self) -> None:
        """Begin without any."""
        self.all: list[Change] = []
        self._last: dict[str, str] = {}

    def add(self, change: Change) -> None:
        """Add a change, unless the one before it, of the same path, says as much."""
        if change.kind == "modified" and self._last.get(change.path) in {"modified", "created"}:
            return
        self._last[change.path] = change.kind
        self.all.append(change)


class Watcher:
    """Watches one directory. Methods block: call them in a thread, one at a time."""

    def __init__(self, tree: Tree, path: str, *, recursive: bool) -> None:
        """Begin to watch.

        Raises:
            ApiError: there is no such directory; or the machine, or this daemon, watches too many.
        """
        # No descriptor of it is kept: the kernel reports the end of a directory when nobody has it open.
        self._tree = tree
        self._path = path
        self._recursive = recursive
        self._paths: dict[int, str] = {}  # of each watch
        self._announced: set[str] = set()  # found by a scan; the event for it may be on its way
        self._half: tuple[Event, str] | None = None  # a name that went, whose new one may follow
        self.is_over = False
        self._inotify = _opened()
        try:
            with explained(path):
                self._take("", None)
        except BaseException:
            self.close()
            raise

    @property
    def descriptor(self) -> int:
        """A descriptor that can be read when there are changes."""
        return self._inotify.descriptor

    def close(self) -> None:
        """End all watches."""
        self._inotify.close()

    def read(self) -> list[Change]:
        """Return the next changes; after the end of the directory itself, `is_over` is true.

        Raises:
            ApiError: there are too many directories to watch.
        """
        changes = Changes()
        for event in self._inotify.read():
            self._on_event(event, changes)
        if self._half is not None and self._inotify.is_empty():
            self._inotify.wait_briefly(_HALF_MOVE_MS)
            for event in self._inotify.read():
                self._on_event(event, changes)
            if self._half is not None and self._inotify.is_empty():
                self._moved_away(changes)
        if self._inotify.is_empty():
            # Events for what a scan found were in the queue when it was found.
            self._announced.clear()
        return changes.all

    def _on_event(self, event: Event, changes: Changes) -> None:
        if event.mask & inotify.IN_Q_OVERFLOW:
            self._half = None
            changes.add(Change("overflow"))
            self._take_again(changes)
            return
        if self._half is not None and not _are_halves(self._half[0], event):
            self._moved_away(changes)
        if event.mask & inotify.IN_IGNORED:
            self._paths.pop(event.watch, None)
            return
        at = self._paths.get(event.watch)
        if at is None:
            return
        if event.mask & (inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF | inotify.IN_UNMOUNT):
            if at == "":  # the others have a name in one that is watched
                self._end(changes)
        elif event.name:  # what happens to a directory itself is reported with its name, too
            self._on_name(event, posixpath.join(at, event.name), changes)

    def _end(self, changes: Changes) -> None:
        changes.add(Change("deleted", "", is_dir=True))
        self.is_over = True

    def _take_again(self, changes: Changes) -> None:
        """Watch what there is now: directories may have come to be whose events are lost."""
        try:
            self._take("", None)
        except FileNotFoundError:
            self._end(changes)

    def _on_name(self, event: Event, path: str, changes: Changes) -> None:
        is_dir = bool(event.mask & inotify.IN_ISDIR)
        if event.mask & inotify.IN_MOVED_FROM:
            self._half = (event, path)
        elif event.mask & inotify.IN_MOVED_TO and self._half is not None:
            old_path, self._half = self._half[1], None
            self._announced.discard(old_path)
            changes.add(Change("moved", path, is_dir, old_path))
            if is_dir and not self._rename(old_path, path):
                self._take(path, changes)
        elif event.mask & (inotify.IN_CREATE | inotify.IN_MOVED_TO):
            if path in self._announced:
                self._announced.discard(path)
                return
            changes.add(Change("created", path, is_dir))
            if is_dir:
                self._take(path, changes)
        elif event.mask & inotify.IN_DELETE:
            self._announced.discard(path)
            changes.add(Change("deleted", path, is_dir))
        else:
            changes.add(Change("modified", path, is_dir))

    def _moved_away(self, changes: Changes) -> None:
        """Let the first half of a move, whose second half is not here, be a name that went."""
        assert self._half is not None
        (event, path), self._half = self._half, None
        self._announced.discard(path)
        changes.add(Change("deleted", path, bool(event.mask & inotify.IN_ISDIR)))
        for watch in self._below(path):
            self._inotify.remove(watch)
            del self._paths[watch]

    def _rename(self, old_path: str, path: str) -> bool:
        """Give all watches below a path that moved their new paths; return whether there were any."""
        moved = self._below(old_path)
        for watch in moved:
            self._paths[watch] = path + self._paths[watch][len(old_path) :]
        return bool(moved) or not self._recursive

    def _below(self, path: str) -> list[int]:
        return [watch for watch, at in self._paths.items() if at == path or at.startswith(f"{path}/")]

    def _take(self, path: str, found: Changes | None) -> None:
        """Watch a directory and, in a tree, those in it; what is in a new one is found as created."""
        if path and not self._recursive:
            return
        waiting, count = [path], 0
        with self._tree.opened_root() as root:
            while waiting:
                at = waiting.pop()
                for name, is_dir in self._watched(root, at):
                    child = posixpath.join(at, name)
                    if is_dir and self._recursive:
                        waiting.append(child)
                    if found is None:
                        continue
                    count += 1
                    if count <= _MAX_FOUND:
                        self._announced.add(child)
                        found.add(Change("created", child, is_dir))
        if count > _MAX_FOUND and found is not None:
            found.add(Change("overflow"))

    def _open(self, root: int, at: str) -> int:
        """Open a directory below the one that is watched; only that one may be a symlink."""
        path = posixpath.join(self._tree.inside(self._path), at).rstrip("/")
        named = self._tree.open_path(root, path, os.O_DIRECTORY | (os.O_NOFOLLOW if at else 0))
        try:
            self._tree.check_place(root, named)
            if self._recursive and os.path.sameopenfile(root, named):
                raise invalid_request(
                    "/ as a whole cannot be watched. Name a directory, or watch without recursive."
                )
            return os.open(f"/proc/self/fd/{named}", _OPEN | os.O_CLOEXEC)
        finally:
            os.close(named)

    def _watched(self, root: int, at: str) -> list[tuple[str, bool]]:
        """Watch a directory; return the names in it, and whether each is a directory."""
        try:
            directory = self._open(root, at)
        except OSError as error:
            if at and error.errno in _PASSED_OVER:
                return []
            raise
        except ApiError:
            if at:  # the kernel's files, such as /proc in /
                return []
            raise
        try:
            try:
                watch = self._inotify.add(directory)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise _too_many("This machine watches as many directories as it may") from error
                raise
            self._paths[watch] = at
            if len(self._paths) > MAX_DIRECTORIES:
                raise _too_many(f"There are more than {MAX_DIRECTORIES:,} directories to watch")
            # Only now: what comes to be after this is an event, and what was there before is found.
            with os.scandir(directory) as entries:
                return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        finally:
            os.close(directory)


def _opened() -> Inotify:
    try:
        return Inotify()
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            raise _too_many("This machine has as many watches as it may") from error
        raise


def _too_many(sentence: str) -> ApiError:
    advice = "Watch a smaller directory, or without recursive."
    return ApiError(503, "CAPACITY_EXCEEDED", f"{sentence}. {advice}")


def _are_halves(first: Event, second: Event) -> bool:
    return bool(second.mask & inotify.IN_MOVED_TO) and first.cookie == second.cookie
