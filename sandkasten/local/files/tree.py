"""Files in a sandbox, seen from outside.

Sandboxed code owns everything below /workspace and plants what it likes there, so a path is never
joined and opened: the kernel resolves it, with openat2, as if a directory that holds nothing but
`workspace` were the root of the file system. Symlinks work as they do inside, and none of them leads
anywhere else; magic links and mount points are refused.

    <root>/             not writable, not visible inside
        workspace/      mounted at /workspace

A file or directory in progress is made elsewhere on the same disk, where no path of a client's leads and the
sandbox sees nothing, and then moved to its place by one rename.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import stat
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sandkasten._names import is_name, to_json
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.newfile import NewFile, Staging, explained, in_the_making, move
from sandkasten.local.files.usage import Usage, held_usage, tree_usage
from sandkasten.local.identity import Identity
from sandkasten.local.linux.syscalls import open_inside, syncfs

MAX_ENTRIES = 100_000
MAX_NAMES_BYTES = 8 * 1024 * 1024  # as JSON, in which one byte of a name may take six
_COPY_BYTES = 1024 * 1024
_TOO_MANY = "{!r} has too many entries to list. Divide them up among directories."
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


@dataclass(frozen=True)
class Stated:
    """The status of a path; only symlinks have a `link_target`."""

    path: str
    kind: str
    size_bytes: int
    mode: int
    modified_at: str | None
    link_target: str | None

    @property
    def as_json(self) -> dict[str, Any]:
        """As the wire has it."""
        target = {} if self.link_target is None else to_json("link_target", self.link_target)
        return vars(self) | to_json("path", self.path) | target


@dataclass(frozen=True)
class Entry:
    """A name in a directory: the common protocol knows `name` and `is_dir`."""

    name: str
    is_dir: bool
    kind: str
    size_bytes: int
    modified_at: str | None

    @property
    def as_json(self) -> dict[str, Any]:
        """As the wire has it."""
        return vars(self) | to_json("name", self.name)


def inside_path(path: str) -> str:
    """The path below the root, such as `workspace/a/b`, of a path as a client says it.

    Raises:
        ApiError: INVALID_REQUEST for a path outside /workspace.
    """
    if not path or "\0" in path or not is_name(path):
        raise invalid_request("The path is empty, or contains a NUL, or is not valid Unicode.")
    whole = posixpath.normpath(posixpath.join("/workspace", path))
    if whole != "/workspace" and not whole.startswith("/workspace/"):
        raise invalid_request(
            f"The path {path[:256]!r} is outside /workspace. Reach other files by a command."
        )
    return whole.lstrip("/")


class Tree:
    """The files of one session or workspace. Methods block: call them in a thread."""

    def __init__(self, root: Path, staging: Staging, identity: Identity, *, durable: bool) -> None:
        """Bind to a root as drawn above.

        Args:
            root: the directory.
            staging: for what is not complete.
            identity: whose the files are.
            durable: whether files are on the disk before a write is acknowledged.
        """
        self._root = root
        self._staging = staging
        self._identity = identity
        self._durable = durable

    @property
    def workspace(self) -> Path:
        """The host directory that is mounted at /workspace."""
        return self._root / "workspace"

    def usage(self, stop_at: int | None = None, *, insist: bool = False) -> Usage:
        """Measure all of it, with what is not complete; see `tree_usage`."""
        usage = Usage(0)
        # In this order: what is completed meanwhile counts twice, and not never.
        for directory in (self._staging.find(), self.workspace):
            with suppress(FileNotFoundError):
                if directory is not None:
                    usage += tree_usage(directory, stop_at, insist=insist)
        return usage

    def held_usage(self, pids: Iterable[int]) -> Usage:
        """Measure the files without a name that processes of this tree's user keep on its disk."""
        return held_usage(pids, self.workspace, self._identity.uid)

    def create(self) -> None:
        """Make the directories."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._identity.let_pass(self._root)  # bubblewrap, as the sandbox's user, has to get through
        self.workspace.mkdir(mode=0o700, exist_ok=True)
        self._identity.own(self.workspace)

    def open(self, path: str) -> IO[bytes]:
        """Open a plain file for reading; the caller closes it.

        Raises:
            ApiError: there is no such file, or it is not a plain one.
        """
        with explained(path), self._opened_root() as root:
            # Not blocking, since a FIFO could be what is opened.
            descriptor = open_inside(root, inside_path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                mode = os.fstat(descriptor).st_mode
                if stat.S_ISDIR(mode):
                    raise IsADirectoryError(errno.EISDIR, "is a directory")
                if not stat.S_ISREG(mode):
                    raise invalid_request(f"{path!r} is not a plain file.")
                return open(descriptor, "rb", buffering=0)
            except BaseException:
                os.close(descriptor)
                raise

    def write(self, path: str, source: IO[bytes]) -> str:
        """Write a file whole or not at all; returns its path inside.

        A symlink at the destination is replaced, not followed.

        Raises:
            ApiError: the path is outside, is a directory, or its parents cannot be made.
        """
        with self.new_file(path) as file:
            while part := source.read(_COPY_BYTES):
                file.write(part)
            return file.commit()

    def new_file(
        self, path: str, below: Sequence[str] = (), mode: int | None = None, *, one_of_many: bool = False
    ) -> NewFile:
        """Begin a file that is written piece by piece; its block ends it, with or without `commit`.

        Args:
            path: as a client says it.
            below: more names, which may be any bytes that a file system can have (as `os.fsdecode` has
                them), but neither `.` nor `..`.
            mode: its permissions; None: those of the file it replaces.
            one_of_many: `sync` will be called when all of them are written.

        Raises:
            ApiError: the path is outside, is a directory, or its parents cannot be made.
        """
        inside, directory, name = _split(path, below)
        staging = self._staging.make()
        with explained("/".join((path, *below))), self._opened_root() as root:
            parent = self._open_parent(root, directory)
            try:
                kept = _replaceable_mode(parent, name)
                chosen = kept if mode is None else mode
                durable = self._durable and not one_of_many
                return NewFile(inside, parent, staging, chosen, self._identity, durable=durable)
            except BaseException:
                os.close(parent)
                raise

    def make_directory(self, path: str, below: Sequence[str] = ()) -> None:
        """Make a directory and its parents, as far as they are missing; see `new_file`.

        Raises:
            ApiError: the path is outside, or something else is in its place.
        """
        with explained("/".join((path, *below))), self._opened_root() as root:
            os.close(self._open_parent(root, "/".join((inside_path(path), *below))))

    def make_symlink(self, path: str, below: Sequence[str], target: str) -> None:
        """Make a symlink, wherever it leads, in the place of what is there; see `new_file`.

        Raises:
            ApiError: the path is outside, is a directory, or its parents cannot be made.
        """
        _inside, directory, name = _split(path, below)
        staging = self._staging.make()
        with explained("/".join((path, *below))), self._opened_root() as root:
            parent = self._open_parent(root, directory)
            try:
                _replaceable_mode(parent, name)
                with in_the_making(staging) as temporary:

                    def make(name: str | Path, directory: int | None = parent) -> None:
                        os.symlink(target, name, dir_fd=directory)
                        self._identity_owns(directory, name)

                    make(temporary, None)
                    move(temporary, parent, name, make)
            finally:
                os.close(parent)

    def sync(self) -> None:
        """Wait until what was written is on the disk, if this tree's files are durable."""
        if self._durable:
            descriptor = os.open(self.workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(descriptor)
            finally:
                os.close(descriptor)

    def open_directory(self, path: str) -> int:
        """Open a directory, to walk through what is in it with `open_inside`; the caller closes it.

        Raises:
            ApiError: there is no such directory.
        """
        with explained(path), self._opened_root() as root:
            return open_inside(root, inside_path(path), os.O_RDONLY | os.O_DIRECTORY)

    def entries(self, path: str) -> list[Entry]:
        """Return the entries of a directory, sorted by name.

        Raises:
            ApiError: there is no such directory, or it has more than 100,000 entries, or 8 MiB of names.
        """
        with explained(path), self._opened_root() as root:
            descriptor = open_inside(root, inside_path(path), os.O_RDONLY | os.O_DIRECTORY)
            found: list[Entry] = []
            names_bytes = 0
            try:
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):  # which it was a moment ago
                            found.append(_entry(entry))
                            names_bytes += len(json.dumps(to_json("name", found[-1].name)))
                        if len(found) > MAX_ENTRIES or names_bytes > MAX_NAMES_BYTES:
                            raise invalid_request(_TOO_MANY.format(path))
            finally:
                os.close(descriptor)
        return sorted(found, key=lambda entry: entry.name)

    def stat(self, path: str, *, follow_symlinks: bool) -> Stated:
        """Say what a path is; a symlink at its end is followed, or described.

        Raises:
            ApiError: there is nothing, or it is outside.
        """
        flags = os.O_PATH if follow_symlinks else os.O_PATH | os.O_NOFOLLOW
        with explained(path), self._opened_root() as root:
            descriptor = open_inside(root, inside_path(path), flags)
            try:
                _check_inside(root, descriptor)
                status = os.fstat(descriptor)
                target = os.readlink("", dir_fd=descriptor) if stat.S_ISLNK(status.st_mode) else None
            finally:
                os.close(descriptor)
        kind, mode = _kind(status), stat.S_IMODE(status.st_mode)
        return Stated(path, kind, status.st_size, mode, _modified_at(status), target)

    @contextmanager
    def _opened_root(self) -> Generator[int, None, None]:
        descriptor = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_parent(self, root: int, directory: str) -> int:
        """Open a directory below the root, making what is missing; the caller closes it."""
        try:
            descriptor = _open_directory(root, directory)
        except FileNotFoundError:
            descriptor = self._make_directories(root, directory)
        try:
            _check_inside(root, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _make_directories(self, root: int, directory: str) -> int:
        names = directory.split("/")
        parent = _open_directory(root, names[0])
        for depth, name in enumerate(names[1:], start=2):
            path = "/".join(names[:depth])
            try:
                child = _open_directory(root, path)
            except FileNotFoundError:
                _check_inside(root, parent)
                self._make_directory(parent, name)
                child = _open_directory(root, path)
            finally:
                os.close(parent)
            parent = child
        return parent

    def _make_directory(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            return  # made at this moment by somebody else; or a link to nowhere, as opening it will tell
        self._identity_owns(parent, name)

    def _identity_owns(self, parent: int | None, name: str | Path) -> None:
        if self._identity.drops:
            os.chown(name, self._identity.uid, self._identity.gid, dir_fd=parent, follow_symlinks=False)


def _open_directory(root: int, path: str) -> int:
    return open_inside(root, path, os.O_PATH | os.O_DIRECTORY)


def _check_inside(root: int, directory: int) -> None:
    """Make sure that nothing is made beside the workspace: a symlink may lead to the root, which is ours."""
    opened, top = (os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in (directory, root))
    if not f"{opened}/".startswith(f"{top}/workspace/"):
        raise invalid_request("The path leads outside /workspace.")


def _split(path: str, below: Sequence[str]) -> tuple[str, str, str]:
    inside = "/".join((inside_path(path), *below))
    directory, name = posixpath.split(inside)
    if not directory:
        raise ApiError(400, "IS_DIRECTORY", f"{path!r} is a directory.")
    return inside, directory, name


def _replaceable_mode(parent: int, name: str) -> int:
    """The permissions for a file that is about to be written: those of the one that is there."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0o644
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory")
    return stat.S_IMODE(mode) & 0o777 if stat.S_ISREG(mode) else 0o644


def _entry(entry: os.DirEntry[str]) -> Entry:
    status = entry.stat(follow_symlinks=False)
    kind = _kind(status)
    return Entry(entry.name, kind == "directory", kind, status.st_size, _modified_at(status))


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "other")


def _modified_at(status: os.stat_result) -> str | None:
    with suppress(OverflowError, ValueError, OSError):  # it is what sandboxed code set it to
        return datetime.fromtimestamp(status.st_mtime, UTC).isoformat()
    return None
