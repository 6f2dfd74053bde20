"""From a terminal's bytes to text."""

from __future__ import annotations

import random
import time

import pytest

from sandkasten.local.transcript import CappedText, Transcript


def cleaned(*pieces: bytes, raw: bool = False) -> str:
    transcript = Transcript(raw=raw)
    return "".join([*map(transcript.feed, pieces), transcript.finish()])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\n", "plain\n"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b[38;5;196;48:2:1mx\x1b[?25l\x1b[2 q", "x"),
        (b"\x1b]0;title\x07x", "x"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1bP1;2|data\x1b\\x\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\", "x"),
        (b"\x1b(Bx\x1b)0\x1b%G", "x"),
        (b"\x1b7x\x1b8\x1bM\x1b=\x1b>\x1bc", "x"),
        (b"a\r\nb\r\n", "a\nb\n"),
        (b"10%\r20%\r\n", "10%\r20%\n"),
        (b"a\rb\r", "a\rb\r"),
        (b"\r\r\n", "\r\n"),
        ("äß€😀".encode(), "äß€😀"),
        (b"a\xffb\xc3", "a\ufffdb\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\x1b[31", ""),
        (b"x\x1b", "x"),
        (b"", ""),
        (b"\x00\x07\x08", "\x00\x07\x08"),
    ],
)
def test_escapes_go_and_text_stays(data: bytes, text: str) -> None:
    assert cleaned(data) == text


PARTS = [
    b"\x1b[31m",
    b"\x1b[0m",
    b"\x1b[?2004h",
    b"\x1b[1;2H",
    b"\x1b[",
    b"\x1b",
    b"\x1b]0;t\x07",
    b"\x1b]8;;u\x1b\\",
    b"\x1b]0;unended",
    b"\x1bPq\x1b\\",
    b"\x1b(B",
    b"\x1b%G",
    b"\x1b7",
    b"\x1b=",
    b"\x1b#8",
    b"\r\n",
    b"\r",
    b"\n",
    b"\r\r\n",
    b"text",
    b" ",
    b"\\",
    b"\x07",
    b";",
    b"m",
    "ä".encode(),
    "€".encode(),
    "😀".encode(),
    b"\xff",
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\x80",
    b"\xed\xa0\x80",
    b"\x1b\xc3\xa4",
    b"\x1b[3\xff1m",
    b"\x1b]\xe2\x82\xac\x07",
    b"\x00",
]


@pytest.mark.parametrize("raw", [False, True])
def test_the_joined_text_does_not_depend_on_the_cuts(raw: bool) -> None:
    rng = random.Random(5)
    for _ in range(3000):
        data = b"".join(rng.choices(PARTS, k=rng.randint(1, 12)))
        pieces, rest = [], data
        while rest:
            size = rng.randint(1, 1 + rng.choice((0, 1, 6)))
            pieces.append(rest[:size])
            rest = rest[size:]
        assert cleaned(*pieces, raw=raw) == cleaned(data, raw=raw), pieces


def test_every_single_cut_of_a_long_string_gives_the_same() -> None:
    data = b"".join(PARTS) + b"end\r\n"
    whole = cleaned(data)
    for cut in range(len(data) + 1):
        assert cleaned(data[:cut], data[cut:]) == whole


@pytest.mark.parametrize("start", [b"\x1b]0;", b"\x1bP", b"\x1b_", b"\x1b^", b"\x1bX", b"\x1b["])
@pytest.mark.parametrize("size", [1, 100, 5000, 20_000])
def test_a_sequence_without_an_end_neither_eats_nor_holds_back_output_for_ever(
    start: bytes, size: int
) -> None:
    transcript = Transcript(raw=False)
    text = [transcript.feed(b"before" + start)]
    filling = b"7" * size
    for _ in range(0, 20_000, size):
        text.append(transcript.feed(filling))
    shown = "".join(text)
    assert shown.startswith("before")
    assert len(shown) >= 15_000, "held back for ever"


def test_an_unended_sequence_at_the_end_costs_nothing_before_it() -> None:
    assert cleaned(b"all of this\n\x1b]0;no end") == "all of this\n"


def test_text_that_is_certain_comes_at_once() -> None:
    transcript = Transcript(raw=False)
    assert transcript.feed(b"abc\xe2\x82") == "abc"
    assert transcript.feed(b"\xac\r") == "€"
    assert transcript.feed(b"\nx\x1b[3") == "\nx"
    assert transcript.feed(b"1my") == "y"


def test_raw_keeps_everything() -> None:
    data = b"\x1b[31m\r\n\x1b]0;t\x07\r\x1b"
    assert cleaned(data, raw=True) == data.decode()


def test_cleaning_takes_time_in_proportion_to_the_output() -> None:
    for evil in (
        b"\x1b]" * 300_000,
        b"\x1b[" * 300_000,
        b"\x1b" * 600_000,
        b"\r" * 600_000,
        b"\x1b]0;x" + b"y" * 600_000,
    ):
        started = time.monotonic()
        transcript = Transcript(raw=False)
        for start in range(0, len(evil), 4096):
            transcript.feed(evil[start : start + 4096])
        transcript.finish()
        assert time.monotonic() - started < 3, evil[:6]


def capped(limit: int, *texts: str) -> tuple[str, bool]:
    collected = CappedText(limit)
    for text in texts:
        collected.add(text)
    return collected.text(), collected.truncated


@pytest.mark.parametrize(
    ("texts", "result"),
    [
        (("abc", "de"), ("abcde", False)),
        (("abc", "def"), ("abcde", True)),
        (("abcdef",), ("abcde", True)),
        (("abcde", ""), ("abcde", False)),
        (("abcde", "f", "g"), ("abcde", True)),
        (("abcd", "ä"), ("abcd", True)),
        (("abc", "ä"), ("abcä", False)),
        (("abcd", "ä", "e"), ("abcd", True)),
        (("ab", "😀"), ("ab", True)),
        (("😀x",), ("😀x", False)),
        (("", ""), ("", False)),
    ],
)
def test_text_is_capped_in_bytes_and_never_within_a_character(
    texts: tuple[str, ...], result: tuple[str, bool]
) -> None:
    assert capped(5, *texts) == result
