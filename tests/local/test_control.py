"""The control channel: nothing that arrives there is trusted."""

from __future__ import annotations

import random

import pytest

from sandkasten.local.control import ControlReader, Ended, Ready, Result, frame

MESSAGES = [
    (b"ready\0\0\0/workspace\0", Ready("/workspace")),
    (b"result\0abc\0000\0/a b/\n\xc3\xa9\0", Result("abc", 0, "/a b/\né")),
    (b"result\0def\0255\0/\xff\0", Result("def", 255, "/\ufffd")),
    (b"ended\0\0137\0\0", Ended(137)),
]
WHOLE = b"".join(data for data, _ in MESSAGES)
READ = [message for _, message in MESSAGES]


def test_messages_may_be_cut_anywhere() -> None:
    rng = random.Random(3)
    for _ in range(300):
        reader, found, rest = ControlReader(), [], WHOLE
        while rest:
            size = rng.randint(1, 12)
            found += reader.feed(rest[:size])
            rest = rest[size:]
        assert found == READ


def test_many_messages_may_come_at_once() -> None:
    assert ControlReader().feed(WHOLE * 50) == READ * 50


@pytest.mark.parametrize(
    "forged",
    [
        b"result\0abc\0256\0/\0",
        b"result\0abc\0-1\0/\0",
        b"result\0abc\0+1\0/\0",
        b"result\0abc\0 1\0/\0",
        b"result\0abc\0001 \0/\0",
        b"result\0abc\0\0/\0",
        b"result\0abc\0one\0/\0",
        "result\0abc\0²\0/\0".encode(),
        "result\0abc\0٣\0/\0".encode(),
        b"result\0abc\0" + b"9" * 5000 + b"\0/\0",
        b"ended\0\0\0\0",
        b"ended\0\0x\0\0",
        b"unknown\0\0001\0/\0",
        b"\0\0\0\0",
        b"READY\0\0\0/\0",
        b"\xff\xfe\0\x80\0\x81\0\x82\0",
    ],
)
def test_a_message_that_makes_no_sense_is_dropped_and_the_next_is_read(forged: bytes) -> None:
    assert ControlReader().feed(forged + WHOLE) == READ


@pytest.mark.parametrize(
    "noise", [b"x", b"shadow\n", b"a\0", b"a\0b\0", b"a\0b\0c\0", b"a\0b\0c", b"result\0abc\0"]
)
def test_noise_costs_at_most_the_message_it_runs_into(noise: bytes) -> None:
    reader = ControlReader()
    assert reader.feed(noise + WHOLE)[-3:] == READ[1:]
    assert reader.feed(WHOLE) == READ, "out of step for good"


@pytest.mark.parametrize("piece", [b"x" * 1000, b"x" * 100_000])
def test_a_message_that_never_ends_is_an_error(piece: bytes) -> None:
    reader = ControlReader()
    with pytest.raises(ValueError, match="without an end"):
        for _ in range(100):
            reader.feed(piece)


def test_a_directory_of_the_greatest_length_is_no_error() -> None:
    directory = "/" + "d" * 4094
    assert ControlReader().feed(b"ready\0\0\0" + directory.encode() + b"\0") == [Ready(directory)]


def test_a_frame_is_the_command_between_its_ids() -> None:
    assert frame("0123456789abcdef", "écho\n'x'") == "0123456789abcdefécho\n'x'0123456789abcdef\0".encode()
