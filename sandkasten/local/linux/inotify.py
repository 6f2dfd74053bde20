"""inotify(7): what happens to the names in directories, as the kernel reports it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import termios
from typing import NamedTuple

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400
IN_MOVE_SELF, IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED = 0x800, 0x2000, 0x4000, 0x8000
IN_ISDIR = 0x4000_0000
_IN_ONLYDIR, _IN_EXCL_UNLINK = 0x0100_0000, 0x0400_0000

_WRITTEN = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE
_NAMES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
_MASK = _WRITTEN | _NAMES | _IN_ONLYDIR | _IN_EXCL_UNLINK
_HEAD = struct.Struct("iIII")
# Some hundred events; the others wait in the kernel's queue, whose length is bounded.
_READ_BYTES = 16 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class Event(NamedTuple):
    """An event: which directory, what kind, the number that joins two halves of a move, and which name."""

    watch: int
    mask: int
    cookie: int
    name: str


class Inotify:
    """A queue of events; methods do not wait, except `wait_briefly`."""

    def __init__(self) -> None:
        """Open the queue.

        Raises:
            OSError: EMFILE, this user has as many as the machine allows.
        """
        self.descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, directory: int) -> int:
        """Report from now on what happens in an open directory; return the number of this watch.

        Raises:
            OSError: ENOSPC, this user has as many watches as the machine allows; or it may not be read.
        """
        path = b"/proc/self/fd/%d" % directory
        return _checked(_libc.inotify_add_watch(self.descriptor, path, ctypes.c_uint32(_MASK)))

    def remove(self, watch: int) -> None:
        """End a watch, if it has not ended by itself."""
        _libc.inotify_rm_watch(self.descriptor, watch)

    def read(self) -> list[Event]:
        """Return the next events; none if there are none."""
        try:
            data = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        events, at = list[Event](), 0
        while at < len(data):
            watch, mask, cookie, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size + size
            name = data[at - size : at].rstrip(b"\0")
            events.append(Event(watch, mask, cookie, os.fsdecode(name)))
        return events

    def is_empty(self) -> bool:
        """Return whether no event waits."""
        (size,) = struct.unpack("i", fcntl.ioctl(self.descriptor, termios.FIONREAD, b"\0" * 4))
        return bool(size == 0)

    def wait_briefly(self, timeout_ms: int) -> None:
        """Wait until there is an event, or the time is over."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        poll.poll(timeout_ms)

    def close(self) -> None:
        """End all watches."""
        os.close(self.descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
