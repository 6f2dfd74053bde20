"""The output of a process that is kept, and when the process waits; without a process or a wait."""

from __future__ import annotations

import asyncio

from sandkasten.local.sessions.execution import GRACE_SECONDS
from sandkasten.local.sessions.job import Channel
from sandkasten.local.sessions.processes.output import Captured, Tape
from tests.local.sessions.standin import skipping

LIMIT = 100_000
PIECE = b"x" * 10_000


def make_tape(rooms: list[float]) -> Tape:
    loop = asyncio.get_running_loop()
    return Tape(LIMIT, on_room=lambda: rooms.append(loop.time()))


def fill(tape: Tape, pieces: int = 20) -> int:
    """Add pieces until the tape is full, and return how many that were."""
    for count in range(pieces):
        if tape.is_full:
            return count
        tape.add(Channel.STDOUT, PIECE)
    return pieces


def test_a_reader_that_has_not_come_yet_is_waited_for() -> None:
    async def main() -> None:
        rooms: list[float] = []
        tape = make_tape(rooms)
        assert fill(tape) == 10
        assert tape.missed_bytes(0) == 0
        await asyncio.sleep(GRACE_SECONDS - 0.1)
        assert tape.is_full
        assert not rooms
        await asyncio.sleep(0.2)
        assert not tape.is_full
        assert rooms == [GRACE_SECONDS]
        assert fill(tape) == 20
        assert tape.missed_bytes(0) == 20 * len(PIECE)
        assert tape.size_bytes == LIMIT

    skipping(main())


def test_a_reader_that_left_is_waited_for_from_there() -> None:
    async def main() -> None:
        tape = make_tape([])
        fill(tape, 3)
        reader = tape.read_from(0)
        reader.came_to(len(PIECE))
        await asyncio.sleep(2 * GRACE_SECONDS)
        reader.leave()
        assert fill(tape) == 7
        assert tape.missed_bytes(0) == 0
        await asyncio.sleep(GRACE_SECONDS + 0.1)
        assert not tape.is_full

    skipping(main())


def test_what_was_sent_to_a_reader_that_left_is_kept_as_it_may_not_have_come() -> None:
    async def main() -> None:
        tape = make_tape([])
        reader = tape.read_from(0)
        for count in range(1, 31):
            tape.add(Channel.STDOUT, PIECE)
            reader.came_to(count * len(PIECE))
        reader.leave()
        assert fill(tape) == 5
        assert tape.missed_bytes(30 * len(PIECE) - LIMIT // 2) == 0

    skipping(main())


def test_the_slowest_of_the_readers_counts() -> None:
    async def main() -> None:
        rooms: list[float] = []
        tape = make_tape(rooms)
        slow, fast = tape.read_from(0), tape.read_from(0)
        assert fill(tape, 50) == 10
        fast.came_to(tape.end)
        assert tape.is_full
        slow.came_to(len(PIECE))
        assert not tape.is_full
        slow.leave()
        assert len(rooms) == 3
        assert fill(tape) == 10

    skipping(main())


def test_nothing_is_lost_to_a_reader_that_is_there() -> None:
    async def main() -> None:
        tape = make_tape([])
        reader = tape.read_from(0)
        for _ in range(30):  # what a pipe still held at the end comes whether the tape is full or not
            tape.add(Channel.STDERR, PIECE)
        tape.limit(1000)
        assert tape.missed_bytes(reader.position) == 0
        assert sum(len(piece.content) for piece in tape.after(0)) == 30 * len(PIECE)

    skipping(main())


def test_who_waits_only_for_the_end_lets_the_oldest_go() -> None:
    async def main() -> None:
        tape = make_tape([])
        with tape.only_waiting():
            assert fill(tape) == 20
            assert tape.size_bytes == LIMIT
            reader = tape.read_from(tape.end)
            assert fill(tape, 50) == 10
            reader.leave()
        assert fill(tape) == 0

    skipping(main())


def test_a_smaller_share_drops_what_nobody_is_about_to_read() -> None:
    async def main() -> None:
        tape = make_tape([])
        with tape.only_waiting():
            fill(tape)
            tape.limit(30_000)
            assert tape.size_bytes == 30_000

    skipping(main())


def test_channels_stay_apart_and_in_order() -> None:
    async def main() -> None:
        tape = make_tape([])
        for channel, data in ((Channel.STDOUT, b"a"), (Channel.STDOUT, b"b"), (Channel.STDERR, b"c")):
            tape.add(channel, data)
        found = [(piece.channel, piece.content, piece.end) for piece in tape.after(0)]
        assert found == [(Channel.STDOUT, b"ab", 2), (Channel.STDERR, b"c", 3)]
        assert [(piece.content, piece.end) for piece in tape.after(1)] == [(b"b", 2), (b"c", 3)]
        assert tape.counts == {Channel.STDOUT: 2, Channel.STDERR: 1}

    skipping(main())


def test_a_result_keeps_head_and_tail_of_each() -> None:
    kept = Captured(1000)
    for _ in range(100):
        kept.add(Channel.STDOUT, b"a line of a file\n")
    kept.add(Channel.STDERR, b"e")
    assert kept.truncated
    assert kept.counts == {Channel.STDOUT: 1700, Channel.STDERR: 1}
    assert b"bytes left out ...]\n" in kept.content(Channel.STDOUT)
    assert kept.content(Channel.STDERR) == b"e"
    assert kept.size_bytes < 2000
