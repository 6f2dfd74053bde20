"""Several requests that bring one input: which of them writes, whatever the order in which they break off."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from sandkasten.local.errors import ApiError
from sandkasten.local.sessions.processes.channels import Input

# More than the pipe takes, so that whoever writes it waits for a reader.
DATA = bytes(range(256)) * 64
PIPE_BYTES = 4096


class Reader:
    """A pipe's reading end, and the input that writes to it."""

    def __init__(self) -> None:
        """Make a pipe."""
        self.descriptor, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.input = Input(writer, is_terminal=False)

    async def rest(self) -> bytes:
        """Read until the input is closed."""
        data = b""
        while piece := await asyncio.to_thread(os.read, self.descriptor, 65536):
            data += piece
        return data


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    os.close(made.descriptor)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Upload:
    """Pieces of a request's body that come when a test says so."""

    def __init__(self) -> None:
        """Nothing has come."""
        self.pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what came, raise what broke it off."""
        while (piece := await self.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def feed(to: Input, upload: Upload, *, is_whole: bool = True) -> asyncio.Task[int]:
    return asyncio.create_task(to.feed(aiter(upload), 0, close=True, is_whole=is_whole))


async def until_it_waits(to: Input) -> None:
    while to.position < PIPE_BYTES:
        await asyncio.sleep(0)


@pytest.mark.parametrize("came_bytes", [0, 1, PIPE_BYTES - 1, PIPE_BYTES, PIPE_BYTES + 1, len(DATA) - 1])
async def test_the_last_to_come_breaks_off_and_the_one_before_goes_on(
    reader: Reader, came_bytes: int
) -> None:
    whole, broken = Upload(), Upload()
    first = feed(reader.input, whole)
    whole.pieces.put_nowait(DATA)
    await until_it_waits(reader.input)
    last = feed(reader.input, broken)
    broken.pieces.put_nowait(DATA[:came_bytes])
    broken.pieces.put_nowait(ConnectionError("gone"))
    whole.pieces.put_nowait(None)
    reading = asyncio.create_task(reader.rest())
    assert await first == len(DATA)
    with pytest.raises(ConnectionError):
        await last
    assert await reading == DATA


async def test_the_last_to_come_writes_and_those_before_it_have_their_end(reader: Reader) -> None:
    uploads = [Upload() for _ in range(3)]
    tasks = [feed(reader.input, upload) for upload in uploads]
    uploads[0].pieces.put_nowait(DATA[:100])
    uploads[1].pieces.put_nowait(DATA[:200])
    uploads[2].pieces.put_nowait(DATA)
    uploads[2].pieces.put_nowait(None)
    reading = asyncio.create_task(reader.rest())
    assert await tasks[2] == len(DATA)
    assert await reading == DATA
    for upload in uploads[:2]:
        upload.pieces.put_nowait(None)
    # What they brought had been written by then.
    assert [await task for task in tasks[:2]] == [len(DATA), len(DATA)]


async def test_one_that_is_cancelled_lets_the_one_before_go_on(reader: Reader) -> None:
    whole, stalled = Upload(), Upload()
    first = feed(reader.input, whole)
    whole.pieces.put_nowait(DATA)
    whole.pieces.put_nowait(None)
    await until_it_waits(reader.input)
    last = feed(reader.input, stalled)
    stalled.pieces.put_nowait(DATA)
    await asyncio.sleep(0)
    last.cancel()
    reading = asyncio.create_task(reader.rest())
    assert await first == len(DATA)
    assert await reading == DATA


async def test_a_part_of_the_input_gives_way_to_who_comes_later(reader: Reader) -> None:
    part, other = Upload(), Upload()
    first = feed(reader.input, part, is_whole=False)
    part.pieces.put_nowait(DATA)
    await until_it_waits(reader.input)
    last = feed(reader.input, other, is_whole=False)
    other.pieces.put_nowait(DATA)
    other.pieces.put_nowait(None)
    with pytest.raises(ApiError, match="Somebody else writes"):
        await first
    reading = asyncio.create_task(reader.rest())
    assert await last == len(DATA)
    assert await reading == DATA


async def test_who_waits_for_a_turn_learns_that_nobody_reads_any_more(reader: Reader) -> None:
    uploads = [Upload(), Upload()]
    tasks = [feed(reader.input, upload) for upload in uploads]
    for upload in uploads:
        upload.pieces.put_nowait(DATA)
    await until_it_waits(reader.input)
    reader.input.close()
    for task in tasks:
        with pytest.raises(ApiError, match="reads no standard input"):
            await task
