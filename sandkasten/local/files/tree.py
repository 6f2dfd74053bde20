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
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sandkasten._names import to_json
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.newfile import (
    Destination,
    NewFile,
    Staging,
    explained,
    in_the_making,
    move,
)
from sandkasten.local.files.resolving import (
    check_inside,
    followed,
    inside_path,
    leads_out,
    replaceable_mode,
    symlink_maker,
)
from sandkasten.local.files.stating import Entry, Stated, entry_of, kind_of, modified_at
from sandkasten.local.files.usage import Usage, held_usage, rest_never, tree_usage
from sandkasten.local.identity import Identity
from sandkasten.local.linux.acting import acting_as
from sandkasten.local.linux.syscalls import open_inside, syncfs

MAX_ENTRIES = 100_000
MAX_NAMES_BYTES = 8 * 1024 * 1024  # as JSON, in which one byte of a name may take six
_COPY_BYTES = 1024 * 1024
_TOO_MANY = "{!r} has too many entries to list. Divide them up among directories."


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
        self.root = root
        self.staging = staging
        self.identity = identity
        self._durable = durable

    @property
    def is_durable(self) -> bool:
        """True if files are on the disk before a write is acknowledged."""
        return self._durable

    @property
    def workspace(self) -> Path:
        """The host directory that is mounted at /workspace."""
        return self.root / "workspace"

    def usage(
        self, stop_at: int | None = None, *, insist: bool = False, step: Callable[[], None] = rest_never
    ) -> Usage:
        """Measure all of it, with what is not complete; see `tree_usage`."""
        usage = Usage(0)
        # In this order: what is completed meanwhile counts twice, and not never.
        for directory in (self.staging.find(), self.workspace):
            with suppress(FileNotFoundError):
                if directory is not None:
                    usage += tree_usage(directory, stop_at, insist=insist, step=step)
        return usage

    def held_usage(self, pids: Iterable[int]) -> Usage:
        """Measure the files without a name that processes of this tree's user keep on its disk."""
        return held_usage(pids, self.workspace, self.identity.uid)

    def create(self) -> None:
        """Make the directories."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.identity.let_pass(self.root)  # bubblewrap, as the sandbox's user, has to get through
        self.workspace.mkdir(mode=0o700, exist_ok=True)
        self.identity.own(self.workspace)

    # --- the meaning of a path

    def inside(self, path: str) -> str:
        """Return the path below the root of a path as a client says it.

        Raises:
            ApiError: INVALID_REQUEST, it is outside.
        """
        return inside_path(path)

    @property
    def top(self) -> str:
        """The path below the root of the directory that is always there."""
        return "workspace"

    def is_top(self, path: str) -> bool:
        """Return whether a path, as a client says it, is that directory.

        Raises:
            ApiError: INVALID_REQUEST, it is outside.
        """
        return self.inside(path) == self.top

    def split(self, path: str, below: Sequence[str] = ()) -> tuple[str, str, str]:
        """Return a path below the root, its directory, and its last name.

        Raises:
            ApiError: the path is outside, or the workspace itself.
        """
        inside = "/".join((self.inside(path), *below))
        directory, name = posixpath.split(inside)
        if not directory:
            raise ApiError(400, "IS_DIRECTORY", f"{path!r} is a directory.")
        return inside, directory, name

    def open_path(self, root: int, path: str, flags: int = 0) -> int:
        """Open a path below the root for no more than to name it; the caller closes it."""
        return open_inside(root, path, os.O_PATH | flags)

    def open_at(self, root: int, path: str, flags: int) -> int:
        """Open a path below the root for its contents; the caller closes it."""
        return open_inside(root, path, flags)

    def check_place(self, root: int, descriptor: int) -> None:
        """Make sure that something open may be looked at.

        Raises:
            ApiError: it is not inside.
        """
        check_inside(root, descriptor)

    def check_change(self, root: int, directory: int) -> None:
        """Make sure that something may be made, changed or removed in an open directory.

        Raises:
            ApiError: it may not.
        """
        check_inside(root, directory)

    def new_file_at(self, place: Destination, staging: int, mode: int, *, durable: bool) -> NewFile:
        """Begin a file, as the sandbox's user."""
        return NewFile(place, staging, mode, self.identity, durable=durable)

    def leads_out(self, path: str, *, follow_symlinks: bool) -> bool:
        """Return whether a symlink leads a path out; one at its end only counts if it is followed."""
        inside = self.inside(path)
        with self.opened_root() as root:
            return leads_out(root, inside if follow_symlinks else posixpath.dirname(inside) or inside)

    def crosses_mounts(self, _root: int, _directory: int) -> bool:
        """Return whether what is mounted below an open directory counts as a part of it."""
        return False

    # --- files and directories

    def open(self, path: str) -> IO[bytes]:
        """Open a plain file for reading; the caller closes it.

        Raises:
            ApiError: there is no such file, or it is not a plain one.
        """
        with explained(path), self.opened_root() as root:
            # Not blocking, since a FIFO could be what is opened.
            descriptor = self.open_at(root, self.inside(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
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

    def write(
        self, path: str, source: IO[bytes], mode: int | None = None, *, follow_symlinks: bool = True
    ) -> str:
        """Write a file whole or not at all; returns its path inside.

        Raises:
            ApiError: the path is outside, is a directory, or its parents cannot be made.
        """
        with self.new_file(path, mode=mode, follow_symlinks=follow_symlinks) as file:
            while part := source.read(_COPY_BYTES):
                file.write(part)
            return file.commit()

    def new_file(
        self,
        path: str,
        below: Sequence[str] = (),
        mode: int | None = None,
        *,
        one_of_many: bool = False,
        follow_symlinks: bool = False,
    ) -> NewFile:
        """Begin a file that is written piece by piece; its block ends it, with or without `commit`.

        Args:
            path: as a client says it.
            below: more names, which may be any bytes that a file system can have (as `os.fsdecode` has
                them), but neither `.` nor `..`.
            mode: its permissions; None: those of the file it replaces.
            one_of_many: `sync` will be called when all of them are written.
            follow_symlinks: whether a symlink at the end of the path is written through, as by `open`; if
                not, the file takes its place.

        Raises:
            ApiError: the path is outside, is a directory, or its parents cannot be made.
        """
        inside, directory, name = self.split(path, below)
        staging = self.open_staging()
        try:
            with explained("/".join((path, *below))), self.opened_root() as root:
                parent = self.open_parent(root, directory, is_on_the_way=follow_symlinks)
                if follow_symlinks:
                    parent, name = followed(self, root, parent, directory, name)
                try:
                    self.check_change(root, parent)
                    kept = replaceable_mode(parent, name)
                    chosen = kept if mode is None else mode
                    durable = self._durable and not one_of_many
                    place = Destination(inside, parent, name)
                    return self.new_file_at(place, staging, chosen, durable=durable)
                except BaseException:
                    os.close(parent)
                    raise
        except BaseException:
            os.close(staging)
            raise

    def make_directory(self, path: str, below: Sequence[str] = ()) -> None:
        """Make a directory and its parents, as far as they are missing; see `new_file`.

        Raises:
            ApiError: the path is outside, or something else is in its place.
        """
        with explained("/".join((path, *below))), self.opened_root() as root:
            os.close(self.open_parent(root, "/".join((self.inside(path), *below))))

    def make_symlink(self, path: str, below: Sequence[str], target: str) -> None:
        """Make a symlink, wherever it leads, in the place of what is there; see `new_file`.

        Raises:
            ApiError: the path is outside, is a directory, or its parents cannot be made.
        """
        _inside, directory, name = self.split(path, below)
        staging = self.open_staging()
        try:
            with explained("/".join((path, *below))), self.opened_root() as root:
                parent = self.open_parent(root, directory)
                try:
                    replaceable_mode(parent, name)
                    with in_the_making(staging) as temporary:
                        os.symlink(target, temporary, dir_fd=staging)
                        move(staging, temporary, parent, name, symlink_maker(target, parent))
                finally:
                    os.close(parent)
        finally:
            os.close(staging)

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
        with explained(path), self.opened_root() as root:
            return self.open_at(root, self.inside(path), os.O_RDONLY | os.O_DIRECTORY)

    def entries(self, path: str) -> list[Entry]:
        """Return the entries of a directory, sorted by name.

        Raises:
            ApiError: there is no such directory, or it has more than 100,000 entries, or 8 MiB of names.
        """
        with explained(path), self.opened_root() as root:
            descriptor = self.open_at(root, self.inside(path), os.O_RDONLY | os.O_DIRECTORY)
            found: list[Entry] = []
            names_bytes = 0
            try:
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):  # which it was a moment ago
                            found.append(entry_of(entry, descriptor))
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
        flags = 0 if follow_symlinks else os.O_NOFOLLOW
        with explained(path), self.opened_root() as root:
            descriptor = self.open_path(root, self.inside(path), flags)
            try:
                self.check_place(root, descriptor)
                status = os.fstat(descriptor)
                target = os.readlink("", dir_fd=descriptor) if stat.S_ISLNK(status.st_mode) else None
            finally:
                os.close(descriptor)
        kind, mode = kind_of(status), stat.S_IMODE(status.st_mode)
        return Stated(path, kind, status.st_size, mode, modified_at(status), target)

    @contextmanager
    def opened_root(self) -> Generator[int, None, None]:
        """Give the directory that counts as the root, in a block that acts as the sandbox's user."""
        descriptor = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with acting_as(self.identity):
                yield descriptor
        finally:
            os.close(descriptor)

    def open_staging(self) -> int:
        """Open the staging directory, which belongs to the sandbox's user; the caller closes it."""
        path = self.staging.make()
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if self.identity.drops:
                os.fchown(descriptor, self.identity.uid, self.identity.gid)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def open_parent(self, root: int, directory: str, *, is_on_the_way: bool = False) -> int:
        """Open a directory below the root, making what is missing; the caller closes it.

        It may be changed, unless it is only on the way to another one, by a symlink in it.
        """
        try:
            descriptor = self.open_path(root, directory, os.O_DIRECTORY)
        except FileNotFoundError:
            descriptor = self._make_directories(root, directory)
        try:
            (self.check_place if is_on_the_way else self.check_change)(root, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _make_directories(self, root: int, directory: str) -> int:
        names = directory.split("/")
        parent = self.open_path(root, names[0], os.O_DIRECTORY)
        for depth, name in enumerate(names[1:], start=2):
            path = "/".join(names[:depth])
            try:
                child = self.open_path(root, path, os.O_DIRECTORY)
            except FileNotFoundError:
                self.check_change(root, parent)
                with suppress(FileExistsError):  # made just now by somebody else; or a link to nowhere
                    os.mkdir(name, 0o755, dir_fd=parent)
                child = self.open_path(root, path, os.O_DIRECTORY)
            finally:
                os.close(parent)
            parent = child
        return parent
