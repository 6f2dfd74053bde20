"""Copies of files and directories, which appear under their names when they are complete, or never.

A copy is made in the staging directory, where no sandbox reaches it, and comes to its place by one rename.
The source may change meanwhile: it is opened by the kernel, level by level, and no symlink is followed
except one at the end of the path itself.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress

from sandkasten.local.errors import invalid_request
from sandkasten.local.files.newfile import explained
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.verbs.changing import parent_of
from sandkasten.local.files.verbs.removing import remove_entry
from sandkasten.local.linux.syscalls import open_inside, rename_new

MAX_ENTRIES = 1_000_000
MAX_DEPTH = 100  # each level takes two descriptors of the daemon
_PIECE_BYTES = 4 * 1024 * 1024
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

Admit = Callable[[int], None]
"""Makes sure that so many bytes more may be written, and that somebody still waits; else it raises."""


def copy(tree: Tree, path: str, to: str, *, overwrite: bool, admit: Admit, into: Tree | None = None) -> None:
    """Copy a file, or a directory with all that is in it; FIFOs, sockets and devices in it are left out.

    Args:
        tree: the files.
        path: what to copy.
        to: the path of the copy.
        overwrite: whether something may be there.
        admit: called before anything is written.
        into: the files that the copy will be among, if those are others.

    Raises:
        ApiError: it is not there, or something is at the destination that may not be replaced, or there is no
            room.
    """
    into = into or tree
    staging = into.open_staging()
    try:
        with explained(path), tree.opened_root() as root:
            source = tree.open_at(root, tree.inside(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                tree.check_place(root, source)
                with parent_of(into, to, make=True) as destination:
                    copier = Copier(admit, across_mounts=tree.crosses_mounts(root, source))
                    copy_to(path, source, staging, destination, copier, overwrite=overwrite)
            finally:
                os.close(source)
        into.sync()
    finally:
        os.close(staging)


def copy_to(
    path: str, source: int, staging: int, destination: tuple[int, str], copier: Copier, *, overwrite: bool
) -> None:
    """Copy what was opened to a name in an open directory, where the copy appears when it is complete."""
    parent, to_name = destination
    if os.fstatvfs(parent).f_flag & os.ST_RDONLY:  # a mount of the same disk would look like another disk
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    name = f".sandkasten-{secrets.token_hex(8)}"
    # By a mount or a symlink of the host's, or outside of the workspace, that is another disk: then beside
    # its place.
    place = staging if os.fstat(staging).st_dev == os.fstat(parent).st_dev else parent
    mode = os.fstat(source).st_mode
    try:
        with explained(path):
            copier.copy_open(source, place, name, 0)
        copied = open_inside(place, name, _READ)
        try:
            if overwrite:
                os.rename(name, to_name, src_dir_fd=place, dst_dir_fd=parent)
            else:
                rename_new(place, name, parent, to_name)
            os.fchmod(copied, stat.S_IMODE(mode) & 0o777)  # now: a read-only directory cannot be moved
        finally:
            os.close(copied)
    except BaseException:
        with suppress(OSError):
            remove_entry(place, name, recursive=True, open_up=place == staging)
        raise


class Copier:
    """Copies what is open."""

    def __init__(self, admit: Admit, *, across_mounts: bool, is_move: bool = False) -> None:
        """Copy nothing yet.

        Args:
            admit: called before anything is written.
            across_mounts: whether what is mounted in a directory counts as a part of it.
            is_move: whether the original goes afterwards: then nothing may be left out, and times are kept.
        """
        self._admit = admit
        self._across_mounts = across_mounts
        self._is_move = is_move
        self._count = 0

    def copy_open(self, source: int, parent: int, name: str, depth: int) -> None:
        """Copy what was opened to a new name in a directory."""
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise invalid_request(f"There are more than {MAX_ENTRIES} files to copy.")
        mode = os.fstat(source).st_mode
        if stat.S_ISREG(mode):
            self._copy_file(source, parent, name, stat.S_IMODE(mode) & 0o777 if depth else 0o600)
        elif stat.S_ISDIR(mode):
            self._copy_directory(source, parent, name, stat.S_IMODE(mode) & 0o777, depth)
        elif depth == 0 or self._is_move:
            raise OSError(errno.ENXIO, "is not a plain file")

    def _copy_file(self, source: int, parent: int, name: str, mode: int) -> None:
        copy = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            self._admit(0)
            left = os.fstat(source).st_size  # and not more: it may grow as fast as it is read
            while left:
                piece = os.read(source, min(left, _PIECE_BYTES))
                if not piece:
                    break
                left -= len(piece)
                self._admit(len(piece))
                view = memoryview(piece)
                while view:
                    view = view[os.write(copy, view) :]
            os.fchmod(copy, mode)
            self._keep_times(source, copy)
        finally:
            os.close(copy)

    def _keep_times(self, source: int, copy: int) -> None:
        if self._is_move:
            status = os.fstat(source)
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _copy_directory(self, source: int, parent: int, name: str, mode: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise invalid_request(f"The directory is deeper than {MAX_DEPTH} levels. Copy it by a command.")
        os.mkdir(name, 0o700, dir_fd=parent)
        copy = open_inside(parent, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with os.scandir(source) as entries:
                for entry in entries:
                    self._copy_entry(source, entry, copy, depth)
            if depth:
                os.fchmod(copy, mode)
            self._keep_times(source, copy)
        finally:
            os.close(copy)

    def _copy_link(self, source: int, entry: os.DirEntry[str], copy: int) -> None:
        try:
            target = os.readlink(entry.name, dir_fd=source)
        except OSError:  # it is no symlink any more
            if self._is_move:
                raise
            return
        os.symlink(target, entry.name, dir_fd=copy)
        if self._is_move:
            keep_times_of_link(entry.stat(follow_symlinks=False), copy, entry.name)

    def _copy_entry(self, source: int, entry: os.DirEntry[str], copy: int, depth: int) -> None:
        if entry.is_symlink():
            self._copy_link(source, entry, copy)
            return
        if not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
            if self._is_move:
                raise invalid_request(
                    f"{entry.name!r} in it is a FIFO, a socket or a device. Move the directory by a command."
                )
            return
        try:
            descriptor = open_inside(source, entry.name, _READ, across_mounts=self._across_mounts)
        except OSError as error:
            is_other = error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}  # since a moment ago
            if is_other and not self._is_move:
                return
            raise
        try:
            self.copy_open(descriptor, copy, entry.name, depth + 1)
        finally:
            os.close(descriptor)


def keep_times_of_link(status: os.stat_result, parent: int, name: str) -> None:
    """Give a symlink the times of another."""
    times = status.st_atime_ns, status.st_mtime_ns
    os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
