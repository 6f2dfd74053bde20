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


def copy(tree: Tree, path: str, to: str, *, overwrite: bool, admit: Admit) -> None:
    """Copy a file, or a directory with all that is in it; FIFOs, sockets and devices in it are left out.

    Raises:
        ApiError: it is not there, or something is at the destination that may not be replaced, or there is no
            room.
    """
    staging = tree.open_staging()
    try:
        with explained(path), tree.opened_root() as root:
            source = tree.open_at(root, tree.inside(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                tree.check_place(root, source)
                with parent_of(tree, to, make=True) as destination:
                    copier = _Copier(admit, across_mounts=tree.crosses_mounts(root, source))
                    _copy_to(path, source, staging, destination, copier, overwrite=overwrite)
            finally:
                os.close(source)
        tree.sync()
    finally:
        os.close(staging)


def _copy_to(
    path: str, source: int, staging: int, destination: tuple[int, str], copier: _Copier, *, overwrite: bool
) -> None:
    parent, to_name = destination
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


class _Copier:
    def __init__(self, admit: Admit, *, across_mounts: bool) -> None:
        self._admit = admit
        self._across_mounts = across_mounts
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
        elif depth == 0:
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
        finally:
            os.close(copy)

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
        finally:
            os.close(copy)

    def _copy_entry(self, source: int, entry: os.DirEntry[str], copy: int, depth: int) -> None:
        if entry.is_symlink():
            with suppress(OSError):  # it is no symlink any more
                os.symlink(os.readlink(entry.name, dir_fd=source), entry.name, dir_fd=copy)
            return
        if not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
            return
        try:
            descriptor = open_inside(source, entry.name, _READ, across_mounts=self._across_mounts)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:  # it was something else a moment ago
                return
            raise
        try:
            self.copy_open(descriptor, copy, entry.name, depth + 1)
        finally:
            os.close(descriptor)
