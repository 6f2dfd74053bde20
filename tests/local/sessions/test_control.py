"""The control channel: nothing that arrives there is trusted."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from sandkasten.local.sessions import control
from sandkasten.local.sessions.control import (
    RESUMPTION,
    ControlChannel,
    ControlReader,
    Ended,
    Ready,
    Result,
    frame,
    question,
    shell_name,
)
from tests.local.box import Box, until
from tests.local.isolation.spawner.beside import Beside, beside, soon


def said(kind: str, command_id: str = "", value: str = "", cwd: str | bytes = "") -> bytes:
    """A message, as the shell or the supervisor would write it."""
    directory = cwd if isinstance(cwd, bytes) else cwd.encode()
    return b"\0".join([kind.encode(), command_id.encode(), value.encode(), directory, b""])


MESSAGES = [
    (said("ready", cwd="/workspace"), Ready("", "/workspace")),
    (said("result", "abc", "0", "/a b/\né"), Result("abc", 0, "/a b/\né")),
    (said("result", "def", "255", b"/\xff"), Result("def", 255, "/\ufffd")),
    (said("ended", "next", value="137"), Ended("next", 137)),
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
    assert ControlReader().feed(said("ready", cwd=directory)) == [Ready("", directory)]


def test_a_frame_is_for_one_shell_and_ends_as_it_began() -> None:
    name = shell_name("01234567-89ab")
    assert frame(name, "0123456789abcdef", "traps", "écho €\n'x'") == (
        "012345670123456789abcdef000000035traps\nécho €\n'x'0123456789abcdef   \0".encode()
    )
    assert question(name, "0123456789abcdef") == RESUMPTION + frame(name, "0123456789abcdef", "", "")
    assert shell_name("") == "00000000"


def test_traps_come_in_front_of_the_result_wherever_the_pieces_are_cut() -> None:
    said = b"\0result\0id\0000\0/w\0trap -- 'echo D\nx' DEBUG\n\0result\0id\0001\0/w\0"
    for cut in range(len(said)):
        reader = ControlReader()
        assert reader.feed(said[:cut]) + reader.feed(said[cut:]) == [
            Result("id", 0, "/w"),
            Result("id", 1, "/w", "trap -- 'echo D\nx' DEBUG\n"),
        ]


INIT, SHELL, OTHER = 10, 11, 12


def started() -> ControlChannel:
    """A channel whose first shell is ready."""
    channel = ControlChannel()
    assert channel.feed(said("ready", cwd="/workspace"), SHELL, INIT) == [Ready("", "/workspace")]
    return channel


def test_the_shell_alone_says_what_became_of_a_command() -> None:
    channel, result = started(), said("result", "abc", "0", "/")
    assert channel.feed(result, OTHER, INIT) == channel.feed(result, INIT, INIT) == []
    assert channel.feed(result, SHELL, INIT) == [Result("abc", 0, "/")]


def test_process_1_alone_says_that_a_shell_ended() -> None:
    channel, ended = started(), said("ended", "next", "1")
    assert channel.feed(ended, OTHER, INIT) == channel.feed(ended, SHELL, INIT) == []
    assert channel.feed(ended, INIT, INIT) == [Ended("next", 1)]


def test_a_later_shell_is_the_process_that_has_the_id() -> None:
    channel = started()
    channel.feed(said("ended", "next", "1"), INIT, INIT)
    for shell_id in ("", "other"):
        for pid in (SHELL, OTHER, INIT):
            assert channel.feed(said("ready", shell_id, cwd="/forged"), pid, INIT) == []
    assert channel.feed(said("ready", "next", cwd="/"), 13, INIT) == [Ready("next", "/")]
    assert channel.feed(said("ready", "next", cwd="/forged"), OTHER, INIT) == []
    assert channel.feed(said("result", "abc", "0", "/"), SHELL, INIT) == []
    assert channel.feed(said("result", "abc", "0", "/"), 13, INIT) == [Result("abc", 0, "/")]


def test_without_an_id_there_is_no_later_shell() -> None:
    channel = started()
    channel.feed(said("ended", "", "1"), INIT, INIT)
    assert channel.feed(said("ready", cwd="/"), OTHER, INIT) == []


def test_what_others_write_in_between_tears_no_message() -> None:
    channel, result = started(), said("result", "abc", "0", "/")
    assert channel.feed(result[:9], SHELL, INIT) == channel.feed(b"\0x\0result\0", OTHER, INIT) == []
    assert channel.feed(result[9:], SHELL, INIT) == [Result("abc", 0, "/")]


def test_while_a_shell_starts_the_number_of_those_who_are_heard_is_bounded() -> None:
    channel = started()
    channel.feed(said("ended", "next", "1"), INIT, INIT)
    tracemalloc.start()
    for pid in range(100, 2100):
        channel.feed(bytes([pid % 251 + 1]) * 10_000, pid, INIT)
    kept, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2_000_000


FLOODS = {
    "NULs": b"\0" * 65536,
    "fields": b"a\0" * 32768,
    "broken messages": said("result", "abc", "x", "/") * 2000,
    "results of no command": said("result", "abc", "0", "/") * 2000,
    "messages of process 1": said("ended", "next", "1") * 2000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_shell_that_floods_the_channel_is_given_up(flood: bytes) -> None:
    channel = started()
    with pytest.raises(ValueError, match="flooded"):
        for _ in range(100):
            channel.feed(flood, SHELL, INIT)


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_what_others_flood_it_with_is_not_even_read(flood: bytes) -> None:
    channel = started()
    for _ in range(100):
        assert channel.feed(flood, OTHER, INIT) == []
    assert channel.feed(said("result", "abc", "0", "/"), SHELL, INIT) == [Result("abc", 0, "/")]


def test_commands_without_end_are_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_MAX_NOISE_BYTES", 100)
    channel = started()
    for number in range(1000):
        answer = b"\0" + said("result", str(number), "0", "/")
        assert channel.feed(answer, SHELL, INIT) == [Result(str(number), 0, "/")]


def test_a_session_whose_shell_floods_the_daemon_ends_and_others_go_on(make_box: Callable[..., Box]) -> None:
    one, other = make_box(), make_box()
    # The channel is one of these; before it only such that the shell can write to without waiting.
    flood = "for fd in {14..10}; do for n in {1..1000}; do printf $nuls >&$fd; done; done"
    waiting = one.exec_in_background(f"nuls=$(printf '\\\\0%.0s' {{1..4000}}); {flood}")
    until(lambda: one.client.get(one.url).status_code == 404)
    assert waiting.answer().status_code >= 400
    assert other.run("echo here") == "here\n"


# --- frames as a real shell reads them: torn anywhere, in every locale, of any length

NAME = control.shell_name("")
ID = "0123456789abcdef"


@pytest.fixture(scope="module")
async def box(anyio_backend: str) -> AsyncIterator[Beside]:
    """One shell for all tests, which leave it as it was."""
    async with beside() as made:
        yield made


def ask_behind(box: Beside, rest: bytes, number: int) -> str:
    """Send what is left of a frame, and a question behind it; return the question's id."""
    question_id = f"{number:016}"
    box.sandbox.control.send(rest + control.question(NAME, question_id))
    box.sandbox.tokens.send(control.TOKEN)
    return question_id


@pytest.mark.parametrize(
    "frame",
    [
        control.frame(NAME, ID, "", "echo torn >>/workspace/log"),
        control.frame(NAME, ID, ":", "echo é€😀 >>/workspace/log"),
        control.question(NAME, ID).removeprefix(control.RESUMPTION),
    ],
    ids=["command", "not ASCII", "question"],
)
async def test_a_question_is_answered_behind_whatever_is_left_of_a_frame(
    box: Beside, frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = set[str]()
    shell = cast("Any", box.session)._shell
    monkeypatch.setattr(shell, "_on_result", lambda result: heard.add(result.command_id))
    asked = {ask_behind(box, frame[cut:], cut) for cut in range(1, len(frame) + 1)}
    await soon(lambda: asked <= heard)
    monkeypatch.undo()
    assert await box.shell("cat log 2>&1; echo own") == "cat: log: No such file or directory\nown\n"


async def test_frames_of_another_shell_are_passed_over(box: Beside) -> None:
    other = control.shell_name("fedcba98")
    for text in ("echo x >>log", "echo é >>log", "y" * 100_000):
        box.sandbox.control.send(control.frame(other, ID, "", text) + control.question(other, ID))
    box.sandbox.control.send(control.RESUMPTION)  # as after each end of a shell
    assert await box.shell("cat log 2>&1; echo own") == "cat: log: No such file or directory\nown\n"


TEXTS: dict[str, Callable[[int], str]] = {
    "ASCII": lambda length: "x" * length,
    "two bytes": lambda length: "é" * length,
    "all lengths": lambda length: "aé€😀" * (length // 4),
    "the last only": lambda length: "x" * length + "😀",
}


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "C.utf8", "xx_YY.nope", "de_DE.ISO-8859-1"])
@pytest.mark.parametrize("text", TEXTS)
async def test_a_text_arrives_whole_in_every_locale(box: Beside, text: str, locale: str) -> None:
    await box.shell(f"LC_ALL={locale}")
    for length in (0, 1, 4, 5000):
        words = TEXTS[text](length)
        digest = hashlib.sha256(f"{words}\n".encode()).hexdigest()
        assert await box.shell(f"sha256sum <<'X'\n{words}\nX") == f"{digest}  -\n"
    assert await box.shell("unset LC_ALL") == ""
