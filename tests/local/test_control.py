"""The control channel: nothing that arrives there is trusted."""

from __future__ import annotations

import random

import pytest

from sandkasten.local.control import ControlReader, Ended, Ready, Result, frame


def said(kind: str, command_id: str = "", value: str = "", cwd: str | bytes = "") -> bytes:
    """A message, as the shell or the supervisor would write it."""
    directory = cwd if isinstance(cwd, bytes) else cwd.encode()
    return b"\0".join([kind.encode(), command_id.encode(), value.encode(), directory, b""])


MESSAGES = [
    (said("ready", cwd="/workspace"), Ready("/workspace")),
    (said("result", "abc", "0", "/a b/\né"), Result("abc", 0, "/a b/\né")),
    (said("result", "def", "255", b"/\xff"), Result("def", 255, "/\ufffd")),
    (said("ended", value="137"), Ended(137)),
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
        *(
            said("result", "abc", value, "/")
            for value in ("256", "-1", "+1", " 1", "1 ", "1_0", "", "one", "²", "٣", "1.0")
        ),
        said("result", "abc", "9" * 5000, "/"),
        said("ended"),
        said("ended", value="x"),
        said("unknown", "", "1", "/"),
        said(""),
        said("READY", cwd="/"),
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
    assert ControlReader().feed(said("ready", cwd=directory)) == [Ready(directory)]


def test_a_frame_is_the_command_between_its_ids() -> None:
    assert frame("0123456789abcdef", "écho\n'x'") == "0123456789abcdefécho\n'x'0123456789abcdef\0".encode()
