"""Directories that are removed with all that is in them, however deep, while sandboxed code changes them.

Each step names one entry of an open directory, and no symlink is followed, so nothing outside is reached.
A directory deeper than some dozen levels is first moved up to the top, which takes neither long paths nor a
descriptor for each level.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from sandkasten.local.linux.syscalls import open_inside
from sandkasten.local.records import dataclass

_MAX_DEPTH = 32
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Code that fills a directory faster than this empties it must not keep a thread for ever: neither by what it
# adds before the first pass comes to its end, nor by what is found there after that.
_MAX_SECONDS = 600.0
_AGAIN_SECONDS = 30.0

GoOn = Callable[[], None]
"""Raises if nobody waits any more."""


def _goes_on() -> None:
    pass


def remove_entry(
    parent: int, name: str, *, recursive: bool, open_up: bool = False, go_on: GoOn = _goes_on
) -> None:
    """Remove an entry of a directory.

    Args:
        parent: the directory, a descriptor.
        name: the entry's name.
        recursive: whether a directory goes with all that is in it.
        open_up: whether directories that are closed to their owner are opened for that.
        go_on: called before each step.

    Raises:
        OSError: it is not there, or cannot be removed, or has something in it.
        Exception: what `go_on` raises.
    """
    try:
        os.unlink(name, dir_fd=parent)
        return
    except OSError as error:
        if error.errno not in {errno.EISDIR, errno.EPERM}:
            raise
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if status.st_mode & 0o170000 != 0o040000:
            raise
    if recursive:
        _remove_directory(parent, name, open_up=open_up, go_on=go_on)
    else:
        os.rmdir(name, dir_fd=parent)


@dataclass
class _Removal:
    top: int
    open_up: bool
    go_on: GoOn
    ends_at: float

    def check(self) -> None:
        self.go_on()
        if time.monotonic() > self.ends_at:
            raise OSError(errno.ENOTEMPTY, "is filled while it is emptied")


def _remove_directory(parent: int, name: str, *, open_up: bool, go_on: GoOn) -> None:
    top = _opened(parent, name, open_up=open_up)
    removal = _Removal(top, open_up, go_on, time.monotonic() + _MAX_SECONDS)
    is_first = True
    try:
        while True:
            _empty(top, removal, 0)
            try:
                os.rmdir(name, dir_fd=parent)
                return
            except OSError as error:
                # What was deep lies at the top now; or somebody adds to it.
                if error.errno != errno.ENOTEMPTY:
                    raise
            if is_first:
                is_first, removal.ends_at = False, time.monotonic() + _AGAIN_SECONDS
            removal.check()
    finally:
        os.close(top)


def _opened(parent: int, name: str, *, open_up: bool) -> int:
    if open_up:
        os.chmod(name, 0o700, dir_fd=parent)  # only where no sandbox can put a symlink in its place
    return open_inside(parent, name, _FLAGS)


def _empty(directory: int, removal: _Removal, depth: int) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            removal.check()
            with suppress(FileNotFoundError):  # which it was a moment ago
                if not entry.is_dir(follow_symlinks=False):
                    _unlink(directory, entry.name)
                elif depth < _MAX_DEPTH:
                    _remove_below(directory, entry.name, removal, depth + 1)
                else:
                    hoisted = f".sandkasten-{secrets.token_hex(8)}"
                    os.rename(entry.name, hoisted, src_dir_fd=directory, dst_dir_fd=removal.top)


def _unlink(directory: int, name: str) -> None:
    with suppress(IsADirectoryError):  # it is one by now: the next pass sees to it
        os.unlink(name, dir_fd=directory)


def _remove_below(directory: int, name: str, removal: _Removal, depth: int) -> None:
    try:
        child = _opened(directory, name, open_up=removal.open_up)
    except OSError as error:
        if error.errno in {
            errno.ENOTDIR,
            errno.ELOOP,
        }:  # swapped for something else: the next pass sees to it
            return
        raise
    try:
        _empty(child, removal, depth)
    finally:
        os.close(child)
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.ENOTDIR}:
            raise
