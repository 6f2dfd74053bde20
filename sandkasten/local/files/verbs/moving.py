"""Moves from one file system of a sandbox to another: a copy, after which the original is removed.

The copy is made as `copying` makes it, appears when it is complete, and has all that the original has; only
then the original is removed, as `removing` does. So nothing is lost, whenever it ends.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress

from sandkasten.local.errors import ApiError
from sandkasten.local.files.newfile import explained, unlink_quietly
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.verbs.changing import parent_of
from sandkasten.local.files.verbs.copying import Admit, Copier, copy_to, keep_times_of_link
from sandkasten.local.files.verbs.removing import GoOn, remove_entry
from sandkasten.local.linux.syscalls import open_inside, rename_new

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def move_by_copy(
    tree: Tree, path: str, into: Tree, to: str, *, overwrite: bool, admit: Admit, go_on: GoOn
) -> None:
    """Move a file, a symlink or a directory with all that is in it.

    Args:
        tree: the files.
        path: what to move.
        into: the files that it will be among.
        to: its path there.
        overwrite: whether something may be there.
        admit: called before anything is written.
        go_on: called before anything is removed.

    Raises:
        ApiError: it is not there, or cannot be removed, or something is at the destination that may not be
            replaced, or there is no room; or something is left of the original although the copy is there.
    """
    staging = into.open_staging()
    try:
        with parent_of(tree, path, make=False) as (parent, name):
            with explained(path):
                _check_removable(parent)
            named = open_inside(parent, name, os.O_PATH | os.O_NOFOLLOW)
            try:
                with parent_of(into, to, make=True) as destination:
                    _put(path, named, staging, destination, admit, overwrite=overwrite)
                into.sync()
                go_on()
                _remove(path, parent, name, named, go_on)
            finally:
                os.close(named)
    finally:
        os.close(staging)


def _check_removable(parent: int) -> None:
    """Make sure that names can be taken out of a directory, before anything is copied."""
    try:
        os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=parent))
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOSPC, errno.EDQUOT}:
            raise


def _put(
    path: str, named: int, staging: int, destination: tuple[int, str], admit: Admit, *, overwrite: bool
) -> None:
    mode = os.fstat(named).st_mode
    if stat.S_ISLNK(mode):
        admit(0)
        _put_link(named, *destination, overwrite=overwrite)
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        with explained(path):
            raise OSError(errno.ENXIO, "is not a plain file")
    with explained(path):
        source = os.open(f"/proc/self/fd/{named}", _OPEN)
    try:
        copier = Copier(admit, across_mounts=False, is_move=True)
        copy_to(path, source, staging, destination, copier, overwrite=overwrite)
    finally:
        os.close(source)


def _put_link(named: int, parent: int, name: str, *, overwrite: bool) -> None:
    beside = f".sandkasten-{secrets.token_hex(8)}"
    os.symlink(os.readlink("", dir_fd=named), beside, dir_fd=parent)
    try:
        keep_times_of_link(os.fstat(named), parent, beside)
        if overwrite:
            os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
        else:
            rename_new(parent, beside, parent, name)
    except BaseException:
        unlink_quietly(beside, parent)
        raise


def _remove(path: str, parent: int, name: str, named: int, go_on: GoOn) -> None:
    """Remove the original, unless something else has taken its name."""
    try:
        with explained(path), suppress(FileNotFoundError):
            if os.path.samestat(os.stat(name, dir_fd=parent, follow_symlinks=False), os.fstat(named)):
                remove_entry(parent, name, recursive=True, go_on=go_on)
    except ApiError as error:
        sentence = f"The new path has all of it, and the old one could not be removed: {error.message}"
        raise ApiError(error.status, error.code, sentence, details=error.details) from error
