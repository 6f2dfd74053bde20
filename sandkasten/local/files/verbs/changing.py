"""Directories made, things removed, moved and given permissions, while sandboxed code changes its files.

Parents are opened by the kernel as `Tree` opens them; from there on only single names count, and none of them
is followed if it is a symlink. All functions block, and act as the sandbox's user.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress

from sandkasten._protocol import Code
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.files.newfile import explained
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.verbs.removing import GoOn, remove_entry
from sandkasten.local.linux.syscalls import rename_new


@contextmanager
def parent_of(tree: Tree, path: str, *, make: bool) -> Generator[tuple[int, str], None, None]:
    """Give the directory of a path, a descriptor, and the last name, in a block that acts as the user.

    Args:
        tree: the files.
        path: as a client says it; not /workspace itself.
        make: whether parents that are missing are made.

    Raises:
        ApiError: the path is outside, or /workspace itself, or its directory cannot be had.
    """
    if tree.is_top(path):
        raise invalid_request(
            f"/{tree.top} itself cannot be made, removed, moved or replaced. Name what is in it."
        )
    _inside, directory, name = tree.split(path)
    with explained(path), tree.opened_root() as root:
        parent = tree.open_parent(root, directory) if make else _opened(tree, root, directory)
        try:
            yield parent, name
        finally:
            os.close(parent)


def _opened(tree: Tree, root: int, directory: str) -> int:
    descriptor = tree.open_path(root, directory, os.O_DIRECTORY)
    try:
        tree.check_change(root, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_directory(tree: Tree, path: str, *, parents: bool, exist_ok: bool) -> None:
    """Make a directory.

    Raises:
        ApiError: something is there, or a parent is missing.
    """
    if tree.is_top(path) and exist_ok:
        return
    with parent_of(tree, path, make=parents) as (parent, name):
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not (exist_ok and _leads_to_directory(tree, path)):
                raise


def _leads_to_directory(tree: Tree, path: str) -> bool:
    with suppress(OSError), tree.opened_root() as root:
        os.close(tree.open_path(root, tree.inside(path), os.O_DIRECTORY))
        return True
    return False


def remove(tree: Tree, path: str, *, recursive: bool, missing_ok: bool, go_on: GoOn = lambda: None) -> None:
    """Remove a file, a symlink, a directory that is empty, or one with all that is in it.

    Raises:
        ApiError: it is not there, or a directory with something in it.
    """
    try:
        with parent_of(tree, path, make=False) as (parent, name):
            remove_entry(parent, name, recursive=recursive, go_on=go_on)
    except ApiError as error:
        if not (missing_ok and error.code == Code.FILE_NOT_FOUND):
            raise


def move(tree: Tree, path: str, to: str, *, overwrite: bool, into: Tree | None = None) -> bool:
    """Move a file, a symlink or a directory with all that is in it, by one rename.

    Args:
        tree: the files.
        path: what to move.
        to: its new path.
        overwrite: whether something may be there.
        into: the files that the new path is among, if those are others.

    Returns:
        Whether it was moved: False if the new path is on another file system; see `moving`.

    Raises:
        ApiError: it is not there, or something is at the destination that may not be replaced.
    """
    with parent_of(tree, path, make=False) as (parent, name):
        os.stat(name, dir_fd=parent, follow_symlinks=False)
        with parent_of(into or tree, to, make=True) as (to_parent, to_name):
            try:
                if overwrite:
                    os.rename(name, to_name, src_dir_fd=parent, dst_dir_fd=to_parent)
                else:
                    rename_new(parent, name, to_parent, to_name)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    return False
                raise
    return True


def change_mode(tree: Tree, path: str, mode: int) -> None:
    """Set the permission bits of what a path leads to.

    Raises:
        ApiError: there is nothing.
    """
    with explained(path), tree.opened_root() as root:
        descriptor = tree.open_path(root, tree.inside(path))
        try:
            tree.check_change(root, descriptor)
            kept = os.fstat(descriptor).st_mode
            if not (stat.S_ISREG(kept) or stat.S_ISDIR(kept)):
                raise invalid_request(f"{path[:256]!r} is neither a file nor a directory.")
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
        finally:
            os.close(descriptor)
