"""Paths as clients say them, and the directories that they lead to below an open root."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable
from typing import Protocol

from sandkasten._names import is_name
from sandkasten.local.errors import invalid_request
from sandkasten.local.linux.syscalls import open_inside

_MAX_LINKS = 40  # as many as the kernel follows


class Resolver(Protocol):
    """A root, below which the kernel resolves paths."""

    def open_path(self, root: int, path: str, flags: int = 0) -> int:
        """Open a path below the root for no more than to name it; the caller closes it."""
        ...

    def check_place(self, root: int, descriptor: int) -> None:
        """Make sure that something open may be looked at.

        Raises:
            ApiError: it may not.
        """
        ...


def whole_path(path: str) -> str:
    """Return the absolute path that a client means.

    Raises:
        ApiError: INVALID_REQUEST, it is no path.
    """
    if not path or "\0" in path or not is_name(path):
        raise invalid_request("The path is empty, or contains a NUL, or is not valid Unicode.")
    whole = posixpath.normpath(posixpath.join("/workspace", path))
    return f"/{whole.lstrip('/')}"


def is_in_workspace(whole: str) -> bool:
    """Return whether an absolute path is /workspace or below it."""
    return f"{whole}/".startswith("/workspace/")


def inside_path(path: str, why: str = "") -> str:
    """The path below the root, such as `workspace/a/b`, of a path as a client says it.

    Args:
        path: the client's.
        why: a sentence that says why no other paths can be reached, if that is not always so.

    Raises:
        ApiError: INVALID_REQUEST for a path outside /workspace.
    """
    whole = whole_path(path)
    if not is_in_workspace(whole):
        reason = f" {why}" if why else ""
        sentence = f"The path {path[:256]!r} is outside /workspace.{reason}"
        raise invalid_request(f"{sentence} Reach other files by a command.")
    return whole.lstrip("/")


def check_inside(root: int, directory: int) -> None:
    """Make sure that nothing is made beside the workspace: a symlink may lead to the root, which is ours."""
    if not place_of(root, directory).startswith("/workspace/"):
        raise invalid_request("The path leads outside /workspace.")


def place_of(root: int, descriptor: int) -> str:
    """Return where below the root something open is, with a slash at both ends; empty if it is not below."""
    opened, top = (os.readlink(f"/proc/self/fd/{each}") for each in (descriptor, root))
    top = top.rstrip("/")
    return f"{opened.rstrip('/')}/".removeprefix(top) if f"{opened}/".startswith(f"{top}/") else ""


def leads_out(root: int, path: str) -> bool:
    """Return whether a path below the root leads out of its `workspace`, as it would inside, by a symlink.

    Only the tree to ask depends on it: that tree resolves the path itself.
    """
    try:
        descriptor = open_inside(root, path, os.O_PATH)
    except OSError:
        return _is_led_out(root, path)
    try:
        return not place_of(root, descriptor).startswith("/workspace/")
    finally:
        os.close(descriptor)


def _is_led_out(root: int, path: str) -> bool:
    """Return the same, link by link, for a path that leads to nothing below the root."""
    place: list[str] = []
    pending = path.split("/")[::-1]
    links = 0
    while pending:
        name = pending.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            place = place[:-1]
            continue
        if [*place, name][0] != "workspace":
            return True
        target = _target("/".join((*place, name)), root)
        if target is None:
            place.append(name)
            continue
        links += 1
        if target == "" or links > _MAX_LINKS:
            return False
        place = [] if target.startswith("/") else place
        pending.extend(target.split("/")[::-1])
    return not place


def _target(path: str, root: int) -> str | None:
    """Return where a symlink leads; None for all else, and empty where nothing is."""
    try:
        descriptor = open_inside(root, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        return os.readlink("", dir_fd=descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def followed(resolver: Resolver, root: int, parent: int, directory: str, name: str) -> tuple[int, str]:
    """Return the place that symlinks lead to; takes `parent` over."""
    try:
        for _ in range(_MAX_LINKS):
            try:
                target = os.readlink(name, dir_fd=parent)
            except OSError as error:
                if error.errno in {errno.EINVAL, errno.ENOENT}:  # no symlink, or nothing
                    return parent, name
                raise
            directory, name = posixpath.split(posixpath.join(f"/{directory}", target))
            if name in {"", ".", ".."}:
                raise IsADirectoryError(errno.EISDIR, "is a directory")
            directory = directory.lstrip("/")
            further = resolver.open_path(root, directory or ".", os.O_DIRECTORY)
            os.close(parent)
            parent = further
            resolver.check_place(root, parent)
        raise OSError(errno.ELOOP, "goes through too many links")
    except BaseException:
        os.close(parent)
        raise


def symlink_maker(target: str, parent: int) -> Callable[[str], None]:
    """Return what makes a symlink of a name in a directory."""
    return lambda name: os.symlink(target, name, dir_fd=parent)


def replaceable_mode(parent: int, name: str) -> int:
    """The permissions for a file that is about to be written: those of the one that is there."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0o644
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory")
    return stat.S_IMODE(mode) & 0o777 if stat.S_ISREG(mode) else 0o644
