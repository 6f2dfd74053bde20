"""From a terminal's bytes to text."""

from __future__ import annotations

import random
import re
import time

import pytest

from sandkasten._cut import CappedText, find_mark, mark
from sandkasten.local.sessions.transcript import Transcript


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
        (b"\x00\x07\x08\t\n\x0b\x0c\x1a\x7f", "\x00\x07\x08\t\n\x0b\x0c\x1a\x7f"),
        (b"a\x0eb\x0fc\x05d", "abcd"),
        (b"\x1b]0;no end\nnext", "\nnext"),
        (b"\x1b]0;no end\r\nnext", "\nnext"),
        (b"\x1b]0;no end\x0bnext", "\x0bnext"),
        (b"\x1b_\nnext\n\x07end", "\nnext\n\x07end"),
        (b"\x1bPq\x1b[31mred", "red"),
        (b"\x1b]0;a\x1b]0;b\x07c", "c"),
        (b"\x1bXsos\x18after", "\x18after"),
        (b"\x1b[31\nnext", "\nnext"),
        (b"\x1b[31\xc3\xa4m", "äm"),
        (b"\x1b\nnext", "\nnext"),
        (b"\x1b\xc3\xa4", "ä"),
        (b"\x1b (next", "ext"),
        # An 8-bit escape, as UTF-8 has it.
        ("a\x9b31mred\x9b0m".encode(), "ared"),
        ("\x9d0;title\x9cx\x9d0;title\x07y\x90q\x1b\\z".encode(), "xyz"),
        ("\x9d0;no end\nnext\x80\x85\x9c".encode(), "\nnext"),
        # What is left closes up to nothing.
        (b"\x1b\x1b[31m]52;c;aGk=\x07", "]52;c;aGk=\x07"),
        (b"\x1b\x1b]0;t\x07]52;c;aGk=\x07", "]52;c;aGk=\x07"),
        ("\x1b\x9b31m]52;c;aGk=\x07".encode(), "]52;c;aGk=\x07"),
        (b"\x1b\x0e[31mred", "[31mred"),
        (b"\x1b[\x1b[0m31mred", "31mred"),
        (b"\r\x1b\x0f\n", "\n"),
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
    "\x9b".encode(),
    "\x9d0;t".encode(),
    "\x9c".encode(),
    b"\x0e",
    b"\x0c",
    b"\x18",
    b"\x1b" + b" " * 16,
    b"\x00",
]


LONG_PARTS = [*PARTS, b"x" * 70, b"\x1b[" + b"1" * 254, b"\x1b]" + b"x" * 4700, b"\x1bP" + b"y" * 4799]


def test_neither_does_that_of_sequences_about_as_long_as_they_may_be() -> None:
    rng = random.Random(9)
    for _ in range(300):
        data = b"".join(rng.choices(LONG_PARTS, [1] * len(PARTS) + [20] * 4, k=rng.randint(1, 12)))
        cuts = sorted(rng.choices(range(len(data) + 1), k=rng.randint(0, 9)))
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert cleaned(*pieces) == cleaned(data), pieces


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


def test_plain_text_holds_no_escapes_whatever_was_printed() -> None:
    rng = random.Random(11)
    alphabet = [
        "\x1b",
        "[",
        "]",
        "P",
        "_",
        "\\",
        "\x07",
        "\x9b",
        "\x9c",
        "\x9d",
        "5",
        ";",
        "m",
        "\n",
        "\r",
        "\x0e",
    ]
    for _ in range(20_000):
        data = "".join(rng.choices(alphabet, k=rng.randint(1, 14))).encode()
        text = cleaned(data)
        assert not re.search("[\x05\x0e\x0f\x1b\x80-\x9f]", text), data
        assert text.count("\n") == data.count(b"\n"), "a line was swallowed"


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
        b"\x1b" + b" " * 600_000,
        b"\x1b[" + b"1" * 600_000,
        (b"\x1b]" + b"x" * 4000 + b"\x1b") * 150,
        "\x9d".encode() * 300_000,
        "\x9b".encode() * 300_000,
        b"\r\x1b[" * 150_000,
    ):
        started = time.thread_time()
        transcript = Transcript(raw=False)
        for start in range(0, len(evil), 4096):
            transcript.feed(evil[start : start + 4096])
        transcript.finish()
        assert time.thread_time() - started < 3, evil[:6]


def capped(limit: int, *texts: str) -> tuple[str, bool]:
    collected = CappedText(limit)
    for text in texts:
        collected.add(text)
    return collected.text(), collected.truncated


@pytest.mark.parametrize("texts", [("abc", "de"), ("abcde", ""), ("abc", "ä"), ("😀x",), ("", ""), ("",) * 3])
def test_text_that_fits_is_kept_whole(texts: tuple[str, ...]) -> None:
    assert capped(5, *texts) == ("".join(texts), False)


@pytest.mark.parametrize(("whole", "left_out"), [("abcdef", 4), ("äbcdeä", 8), ("😀😀", 8), ("xy" * 9, 16)])
def test_however_small_the_limit_no_character_is_cut(whole: str, left_out: int) -> None:
    text, truncated = capped(5, *whole)
    head, _, tail = text.partition(f"[... {left_out} bytes left out ...]\n")
    assert truncated
    assert whole.startswith(head.rstrip("\n"))
    assert whole.endswith(tail)
    assert len((head.rstrip("\n") + tail).encode()) == len(whole.encode()) - left_out


@pytest.mark.parametrize("line", ["x" * 10, "ä€😀" * 5, "y" * 30_000, "z" * 4095])
@pytest.mark.parametrize("lines", [1, 3, 1000])
def test_head_and_tail_and_the_count_between_them_are_the_whole(line: str, lines: int) -> None:
    whole = "".join(f"{number} {line}\n" for number in range(lines)) + "no end"
    text, truncated = capped(10_000, whole)
    assert len(text.encode()) <= 10_000
    assert truncated == (len(whole.encode()) > 10_000)
    if not truncated:
        assert text == whole
        return
    head, _, rest = text.partition("[... ")
    count, _, tail = rest.partition(" bytes left out ...]\n")
    if not whole.startswith(head):
        head = head.removesuffix("\n")  # which was added before the mark
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert int(count.replace(",", "")) == len(whole.encode()) - len(head.encode()) - len(tail.encode())


def test_what_is_kept_does_not_depend_on_the_cuts_and_stays_small() -> None:
    rng = random.Random(7)
    whole = "".join(f"{number} ä€😀" + "\n" * (number % 3 == 0) for number in range(3000))
    expected = capped(10_000, whole)
    for longest in (1, 3, 1000, 50_000):
        collected, rest, shown = CappedText(10_000), whole, ""
        while rest:
            size = rng.randint(1, longest)
            shown += collected.add(rest[:size])
            rest = rest[size:]
            assert collected.size_bytes <= 10_000 * 3 + 4 * size
        assert (collected.text(), collected.truncated) == expected
        assert whole.startswith(shown)
        assert (shown + collected.rest()).count("bytes left out") == 1


def test_of_several_lines_like_a_mark_the_middle_one_is_the_mark() -> None:
    forged = "[... 7 bytes left out ...]\n"
    text, _ = capped(1000, forged + "x\n" * 5000 + forged)
    found = find_mark(text)
    assert found is not None
    assert found[1] == len(forged) * 2 + 10_000 - (len(text) - len(mark(found[1])))
    assert find_mark("nothing") is None
