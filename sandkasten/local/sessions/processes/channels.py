"""The standard streams of a process: pipes, or a terminal of its own, whose other ends are held here."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import struct
import termios
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress

from sandkasten._protocol import Code
from sandkasten.local.errors import ApiError
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.job import Channel
from sandkasten.local.sessions.processes.request import Size
from sandkasten.local.sessions.terminal import REST_SECONDS, SHARED_READ_BYTES

_READ_BYTES = 64 * 1024
# A process may make its pipe larger; what is above this was not read for it before its end.
_DRAIN_MAX_BYTES = 1024 * 1024
_TERMINAL_BYTES = 64 * 1024
_EOT = b"\x04"
_SHARE_OF_DESCRIPTORS = 0.75

Take = Callable[[Channel, bytes], None]
"""Takes a piece of output."""
IsShared = Callable[[], bool]
"""Returns whether others need the event loop just now."""


class Source:
    """A reading end, in the event loop's thread; it closes at the end of what there is."""

    def __init__(self, descriptor: int, channel: Channel, take: Take, is_shared: IsShared) -> None:
        """Own the descriptor; nothing is read before `resume`."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._channel = channel
        self._take = take
        self._is_shared = is_shared
        self._is_wanted = False
        self._is_reading = False
        self._rest: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """True if somebody may still write to it."""
        return self._descriptor >= 0

    def resume(self) -> None:
        """Read what comes."""
        self._is_wanted = True
        if self.is_open and not self._is_reading and self._rest is None:
            self._is_reading = True
            asyncio.get_running_loop().add_reader(self._descriptor, self._on_readable)

    def pause(self) -> None:
        """Read no more: programs wait, as on a full pipe."""
        self._is_wanted = False
        self._stop_reading()

    def drain(self) -> None:
        """Take what was printed before now, and no more than that can be."""
        left_bytes = self._capacity() if self.is_open else 0
        while left_bytes > 0 and (count := self._read(_READ_BYTES)):
            left_bytes -= count

    def drop(self) -> None:
        """Take nothing from now on, but let who goes on printing do so."""
        self._take = _nobody
        self.resume()

    def close(self) -> None:
        """Give it up: who goes on printing gets an error."""
        self.pause()
        if self.is_open:
            os.close(self._descriptor)
            self._descriptor = -1

    def _capacity(self) -> int:
        try:
            return min(fcntl.fcntl(self._descriptor, fcntl.F_GETPIPE_SZ), _DRAIN_MAX_BYTES)
        except OSError:  # it is a terminal
            return _TERMINAL_BYTES

    def _on_readable(self) -> None:
        # A pipe that always has more is read with rests while other sessions are used.
        if self._read(_READ_BYTES) >= SHARED_READ_BYTES and self._is_shared():
            self._stop_reading()
            self._rest = asyncio.get_running_loop().call_later(REST_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        if self._is_wanted:
            self.resume()

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _read(self, size_bytes: int) -> int:
        """Read once; return how much came. At the end it closes."""
        if not self.is_open:
            return 0
        try:
            data = os.read(self._descriptor, size_bytes)
        except BlockingIOError:
            return 0
        except OSError:  # a terminal that nobody holds any more
            data = b""
        if data:
            self._take(self._channel, data)
        else:
            self.close()
        return len(data)


def _nobody(_channel: Channel, _data: bytes) -> None:
    pass


def input_closed() -> ApiError:
    """Return the error for input that nobody can read."""
    sentence = "The process reads no standard input: it was started without, or closed it, or has ended."
    return ApiError(409, Code.INPUT_CLOSED, sentence)


@dataclass(frozen=True, eq=False)
class _Feeder:
    """One request that brings input; `waits`: for one that came later, instead of giving up."""

    waits: bool


class Input:
    """The writing end of a process's standard input; what is written has a position in the whole of it."""

    def __init__(self, descriptor: int, *, is_terminal: bool) -> None:
        """Own the descriptor."""
        os.set_blocking(descriptor, False)
        self.position = 0
        self._descriptor = descriptor
        self._is_terminal = is_terminal
        self._ends_line = True
        self._closed_at: int | None = None
        self._feeders: list[_Feeder] = []
        self._changed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """True if the process may still read."""
        return self._descriptor >= 0

    async def feed(
        self, pieces: AsyncIterator[bytes], offset: int, *, close: bool, is_whole: bool = False
    ) -> int:
        """Write what an iterator yields; of it, what was written before is left out. Return the position.

        The last one that feeds takes over from those before, whose connections may be gone. One that has the
        whole input waits meanwhile: requests may be read in another order than that in which they were sent,
        so the last one may be that whose connection is gone, and then the one before goes on.

        Args:
            pieces: what to write.
            offset: where it begins in the whole input.
            close: whether the input ends with it.
            is_whole: whether it is the whole input.

        Raises:
            ApiError: INPUT_CLOSED, or CONFLICT if something is missing before it, or somebody else goes on.
        """
        if offset > self.position:
            sentence = f"The input has come to {self.position} so far, and this begins at {offset}."
            raise ApiError(409, Code.CONFLICT, f"{sentence} Send what is missing first.")
        feeder = _Feeder(waits=is_whole)
        self._feeders = [*(one for one in self._feeders if one.waits), feeder]
        self._wake()
        try:
            async for piece in pieces:
                await self._write(memoryview(piece), offset, feeder)
                offset += len(piece)
            await self._turn(feeder)
        finally:
            self._feeders = [one for one in self._feeders if one is not feeder]
            self._wake()
        if not self.is_open and self._closed_at != self.position:
            raise input_closed()
        if close and offset == self.position != self._closed_at:
            self._end()
        return self.position

    def write_at_once(self, data: bytes) -> bytes:
        """Write as much as can be written at once; return the rest."""
        with suppress(BlockingIOError, BrokenPipeError):
            count = os.write(self._descriptor, data)
            self.position += count
            return data[count:]
        return data

    def close(self) -> None:
        """The process reads no more, or is to read no more."""
        self._wake()
        if self.is_open:
            os.close(self._descriptor)
            self._descriptor = -1

    def _end(self) -> None:
        self._closed_at = self.position
        if self._is_terminal:
            # What is typed to end the input. Where a line has begun, the first one only sends that.
            with suppress(OSError):
                os.write(self._descriptor, _EOT if self._ends_line else _EOT * 2)
            self._ends_line = True
        else:
            self.close()

    async def _write(self, data: memoryview, offset: int, feeder: _Feeder) -> None:
        while True:
            await self._turn(feeder)
            rest = data[max(0, self.position - offset) :]
            if not rest:
                return
            if not self.is_open:
                raise input_closed()
            try:
                count = os.write(self._descriptor, rest)
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._descriptor, self._wake)
                await self._changed.wait()
                continue
            except OSError:  # nobody holds the other end: a broken pipe, or a terminal without a process
                self.close()
                raise input_closed() from None
            self._ends_line = rest[count - 1] in b"\n\r\x04"
            self.position += count

    async def _turn(self, feeder: _Feeder) -> None:
        """Wait until nobody who came later feeds.

        Raises:
            ApiError: CONFLICT, this one does not wait for others.
        """
        while self.is_open and self._feeders[-1:] != [feeder]:
            if not feeder.waits:
                sentence = "Somebody else writes to this process now. Write one at a time."
                raise ApiError(409, Code.CONFLICT, sentence)
            await self._changed.wait()

    def _wake(self) -> None:
        if self.is_open:
            asyncio.get_running_loop().remove_writer(self._descriptor)
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass
class Channels:
    """The ends of a process's standard streams.

    Attributes:
        inside: the three that the process gets; `close_inside` closes them.
        sources: those that are read.
        input: the one that is written to; None: the process finds an end at once.
        terminal: the terminal's descriptor, which belongs to its source.
    """

    inside: tuple[int, int, int]
    sources: tuple[Source, ...]
    input: Input | None
    terminal: int | None = None

    def close_inside(self) -> None:
        """Close what the process has by now."""
        for descriptor in set(self.inside):
            os.close(descriptor)
        self.inside = (-1, -1, -1)

    def resize(self, size: Size) -> bool:
        """Set the size of the terminal; return whether there is one."""
        if self.terminal is None or not self.sources[0].is_open:
            return False
        set_size(self.terminal, size)
        return True

    def close(self) -> None:
        """Give all up."""
        for source in self.sources:
            source.close()
        if self.input is not None:
            self.input.close()


def make_pipes(take: Take, is_shared: IsShared, *, has_input: bool) -> Channels:
    """Make pipes for output and errors, and one for input if there is any.

    Raises:
        OSError: there are no descriptors left.
    """
    opened: list[int] = []
    try:
        out, out_inside = _added(opened, os.pipe())
        err, err_inside = _added(opened, os.pipe())
        if has_input:
            in_inside, writer = _added(opened, os.pipe())
        else:
            (in_inside,) = _added(opened, (os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC),))
            writer = -1
        _check_share(opened)
    except BaseException:
        _close(opened)
        raise
    return Channels(
        (in_inside, out_inside, err_inside),
        (Source(out, Channel.STDOUT, take, is_shared), Source(err, Channel.STDERR, take, is_shared)),
        Input(writer, is_terminal=False) if has_input else None,
    )


def make_terminal(take: Take, is_shared: IsShared, size: Size) -> Channels:
    """Make a terminal: the process has it as all three of its streams.

    Raises:
        OSError: there are no terminals or descriptors left.
    """
    opened: list[int] = []
    try:
        master, inside = _added(opened, os.openpty())
        set_size(master, size)
        (writer,) = _added(opened, (fcntl.fcntl(master, fcntl.F_DUPFD_CLOEXEC, 3),))
        _check_share(opened)
    except BaseException:
        _close(opened)
        raise
    return Channels(
        (inside, inside, inside),
        (Source(master, Channel.STDOUT, take, is_shared),),
        Input(writer, is_terminal=True),
        master,
    )


def set_size(terminal: int, size: Size) -> None:
    """Set a terminal's size; who runs in its foreground gets SIGWINCH."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


def _added(opened: list[int], descriptors: tuple[int, ...]) -> tuple[int, ...]:
    opened += descriptors
    return descriptors


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _check_share(descriptors: Iterable[int]) -> None:
    """Leave the rest of the descriptors to other sessions and to connections.

    The kernel gives the lowest number that is free, so a number says how many there are.
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= 0 and max(descriptors) >= soft * _SHARE_OF_DESCRIPTORS:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
