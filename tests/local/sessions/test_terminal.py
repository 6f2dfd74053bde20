"""Reading a terminal while other sessions are used, and while they are not."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator

import pytest

from sandkasten.local.sessions.terminal import TerminalReader, Turns

_FULL = b"0123456789abcdef" * 3 * 1024  # 48 KiB, less than a pipe holds
_SMALL_BYTES = 16 * 1024


class Clock:
    """A clock that the test holds."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flooded() -> Iterator[int]:
    """Return what a reader reads: there is much in it, and it does not end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, _FULL)
    yield reading
    os.close(reading)
    os.close(writing)


def test_only_others_share(clock: Clock) -> None:
    turns, own, other, third = Turns(clock), object(), object(), object()
    assert not turns.is_shared(own)
    turns.use(own)
    turns.use(own)
    assert not turns.is_shared(own)
    assert turns.is_shared(other)
    turns.use(other)
    turns.use(other)
    assert turns.is_shared(own)
    assert turns.is_shared(other)
    clock.seconds += 0.9
    turns.use(own)
    assert turns.is_shared(own)
    assert turns.is_shared(third)
    clock.seconds += 0.2
    assert not turns.is_shared(own)  # the other one is no longer there
    assert turns.is_shared(other)


async def test_nobody_else_is_there_so_all_is_read_at_once(flooded: int) -> None:
    pieces = await _read(flooded, Turns())
    assert [len(piece) for piece in pieces] == [len(_FULL)]


async def test_others_get_their_turn_between_small_pieces(flooded: int, clock: Clock) -> None:
    turns = Turns(clock)
    turns.use(object())
    pieces = await _read(flooded, turns)
    assert [len(piece) for piece in pieces] == [_SMALL_BYTES] * 3
    assert b"".join(pieces) == _FULL


async def test_a_pause_outlasts_a_rest(flooded: int, clock: Clock) -> None:
    turns = Turns(clock)
    turns.use(object())
    pieces: list[bytes] = []
    began = asyncio.Event()

    def take(data: bytes) -> bool:
        pieces.append(data)
        began.set()
        return False

    reader = TerminalReader(flooded, take, turns)
    await began.wait()  # the rest has begun
    reader.pause()
    # A timer that is later than the end of the rest, on the loop's own clock.
    await asyncio.sleep(0.01)
    assert len(pieces) == 1
    began.clear()
    reader.resume()
    await began.wait()
    reader.pause()
    assert len(pieces) == 2


async def _read(descriptor: int, turns: Turns) -> list[bytes]:
    """Return the pieces in which a reader takes all that there is."""
    pieces: list[bytes] = []
    complete = asyncio.Event()

    def take(data: bytes) -> bool:
        pieces.append(data)
        if sum(map(len, pieces)) == len(_FULL):
            complete.set()
        return False

    reader = TerminalReader(descriptor, take, turns)
    with contextlib.ExitStack() as stack:
        stack.callback(reader.pause)
        await complete.wait()
    return pieces
