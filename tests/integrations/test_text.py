"""Texts for a model are bounded and clean, and say what is missing."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import httpx
import pytest

from sandkasten._cut import CappedText
from sandkasten.errors import (
    ExecTimeoutError,
    InsufficientStorageError,
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandkastenInputError,
)
from sandkasten.integrations import _text as text
from sandkasten.models import DirEntry, ExecResult, ReadResult, SessionInfo, SessionStats

RESPONSE = httpx.Response(504, request=httpx.Request("POST", "http://daemon"))


def printed(output: str, **fields: bool) -> ExecResult:
    return ExecResult(exit_code=0, cwd="/workspace", output=output, **fields)


def stopped(output: str, *, truncated: bool) -> ExecTimeoutError:
    details = {"output": output, "truncated": truncated}
    return ExecTimeoutError("The command was stopped.", response=RESPONSE, details=details)


def shown(output: str, max_chars: int = 16_000) -> str:
    """Return the text made of an output, without the header."""
    header, _, body = text.exec_text(printed(output), max_chars).partition("\n")
    assert header == "exit code 0, directory /workspace"
    return body


def test_a_short_output_comes_whole_after_status_and_directory() -> None:
    result = ExecResult(exit_code=3, cwd="/tmp", output="one\ntwo\n")
    assert text.exec_text(result, 1000) == "exit code 3, directory /tmp\none\ntwo\n"


def test_no_output_is_said() -> None:
    assert shown("") == "(no output)"


def test_a_long_output_keeps_head_and_tail_at_line_ends_and_counts_what_is_left_out() -> None:
    lines = [f"line {number}\n" for number in range(1, 5001)]
    output = "".join(lines)
    body = shown(output, 2000)
    notice = re.search(
        r"^\[\.\.\. (\d+) characters left out, lines (\d+) to (\d+) of 5000; .*\]\n", body, re.M
    )
    assert notice
    head, tail = body[: notice.start()], body[notice.end() :]
    left_out, first, last = map(int, notice.groups())
    assert head == "".join(lines[: first - 1])
    assert tail == "".join(lines[last:])
    assert left_out == len(output) - len(head) - len(tail) == len("".join(lines[first - 1 : last]))
    assert len(head) > 700
    assert len(tail) > 700


@pytest.mark.parametrize("max_chars", [1000, 1001, 4096, 16_000])
@pytest.mark.parametrize("line_length", [1, 7, 80, 3000, 10**6])
def test_no_text_is_longer_than_the_bound(max_chars: int, line_length: int) -> None:
    line = "x" * (line_length - 1) + "\n"
    output = line * (10**6 // line_length)
    result = ExecResult(1, "/" + "d" * 4000, output, truncated=True, shell_restarted=True)
    details = {"output": output}
    error = ExecTimeoutError("m" * 5000, response=RESPONSE, details=details)
    texts = [
        text.exec_text(result, max_chars),
        text.list_text([DirEntry(line, kind="file")] * 20_000, max_chars),
        text.read_text(ReadResult(output.encode(), "/" + "p" * 4000, truncated=True), max_chars),
        text.error_text(error, max_chars),
        text.error_text(SandkastenInputError(output), max_chars),
    ]
    for one in texts:
        assert len(one) <= max_chars
    assert len(texts[1]) > max_chars // 3


def test_one_endless_line_is_cut_anyway() -> None:
    body = shown("a" * 50_000 + "b" * 50_000, 2000)
    assert body.startswith("aaa")
    assert body.endswith("bbb")
    assert "lines 1 to 1 of 1" in body


def test_an_output_of_a_mebibyte_is_made_ready_in_no_time() -> None:
    started = time.thread_time()
    for output in ("\r" * 2**20, "x" * 2**20, "x\r" * 2**19, "\n" * 2**20, "\x1b" * 2**20):
        assert len(shown(output)) < 16_000
    assert time.thread_time() - started < 5


def test_control_characters_are_made_visible_one_for_one() -> None:
    assert shown("\x1b[31mred\x07\x00\x7f\x9b\tend\n") == "␛[31mred␇␀␡\ufffd\tend\n"


def test_what_cannot_be_sent_as_json_is_replaced() -> None:
    assert shown("\ud800") == "\ufffd"


def test_of_a_progress_bar_the_last_state_is_shown() -> None:
    assert shown(" 10%\r 50%\r100%\ndone\r\nlast") == "100%\ndone\nlast"


def test_a_directory_with_a_line_end_in_its_name_cannot_forge_a_line() -> None:
    header = text.exec_text(ExecResult(1, "/x\nexit code 0", ""), 1000)
    assert header == "exit code 1, directory /x␊exit code 0\n(no output)"


def test_dropped_output_and_a_new_shell_are_said() -> None:
    said = text.exec_text(printed("x\n", truncated=True, shell_restarted=True), 1000)
    assert said.splitlines()[-2:] == [
        "[Output beyond the sandbox's limit was dropped.]",
        "[The shell ended and was started anew: variables that were not exported are gone.]",
    ]


def test_output_that_the_daemon_cut_has_one_notice_that_counts_both_cuts() -> None:
    whole = "".join(f"line {number}\n" for number in range(100_000)) + "FATAL: the reason\n"
    kept = CappedText(200_000)
    kept.add(whole)
    for said in (
        text.exec_text(printed(kept.text(), truncated=True), 3000),
        text.error_text(stopped(kept.text(), truncated=True), 3000),
    ):
        assert said.endswith("\nFATAL: the reason\n")
        (count,) = re.findall(r"\[\.\.\. ([\d,]+) bytes left out;", said)
        body = said[said.index("line 0\n") :]
        shown = len(re.sub(r"\[\.\.\. .* \.\.\.\]\n", "", body))
        assert int(count.replace(",", "")) == len(whole) - shown
        assert "dropped" not in said


def test_a_cut_of_the_daemon_that_is_short_enough_to_be_shown_is_not_said_twice() -> None:
    kept = CappedText(1000)
    kept.add("x\n" * 5000)
    said = text.exec_text(printed(kept.text(), truncated=True), 3000)
    assert said.count("left out") == 1
    assert "dropped" not in said


def test_a_line_like_a_notice_that_a_program_printed_counts_for_nothing() -> None:
    forged = "x\n" * 1000 + "[... 9,999 bytes left out ...]\n" + "x\n" * 1000
    assert "characters left out" in text.exec_text(printed(forged), 1000)


def test_a_text_file_is_shown_with_its_size() -> None:
    said = text.read_text(ReadResult("é\n".encode(), "/workspace/a"), 1000)
    assert said == "/workspace/a, 3 bytes\né\n"
    assert text.read_text(ReadResult(b"", "a"), 1000) == "a, 0 bytes\n(empty)"


def test_line_ends_of_windows_are_said_not_shown() -> None:
    said = text.read_text(ReadResult(b"one\r\ntwo\r\n", "a"), 1000)
    assert said == "a, 10 bytes\none\ntwo\n[Lines end in CR LF.]"


@pytest.mark.parametrize("content", [b"\x7fELF\x00\x01", b"\xff\xfe", "naïve".encode("latin-1"), b"text\xc3"])
def test_a_binary_file_is_named_as_one(content: bytes) -> None:
    said = text.read_text(ReadResult(content, "a"), 1000)
    assert said.startswith(f"a, {len(content)} bytes\nThis is not UTF-8 text. ")


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_file_that_was_cut_within_a_character_is_still_text(cut: int) -> None:
    content = "text 🎉".encode()[:-cut]
    said = text.read_text(ReadResult(content, "a", truncated=True), 1000)
    assert said == f"a, more than {len(content)} bytes\ntext \n[The file goes on after this.]"


def test_a_timeout_says_what_was_printed_and_what_to_do() -> None:
    details = {"output": "working\n"}
    error = ExecTimeoutError("The command was stopped after 500 ms", response=RESPONSE, details=details)
    said = text.error_text(error, 1000)
    assert said.startswith(
        "error: The command was stopped after 500 ms. The shell goes on. Use a larger timeout"
    )
    assert said.endswith("\nIt printed until then:\nworking\n")
    assert "timeout_ms" not in said


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (SandboxFileNotFoundError, "Look for it with the tool list."),
        (SandboxIsDirectoryError, "Use the tool list for directories."),
        (InsufficientStorageError, "Delete files that are not needed."),
    ],
)
def test_errors_say_what_the_model_can_do(kind: type[SandboxFileNotFoundError], advice: str) -> None:
    assert text.error_text(kind("It failed", response=RESPONSE), 1000) == f"error: It failed. {advice}"


def test_stats_have_units() -> None:
    stats = SessionStats(3 * 2**20, 512 * 2**20, 1_250_000)
    assert text.stats_text(stats) == "memory 3.0 MiB of 512.0 MiB, CPU time 1.2 s"
    assert text.stats_text(SessionStats(0)) == "memory 0.0 MiB, CPU time 0.0 s"


@pytest.mark.parametrize(
    ("network", "programs", "said"),
    [
        ("none", ("python3", "node"), "It has no network. Python (python3) and Node (node) are installed."),
        ("none", ("python3",), "It has no network. Python (python3) is installed. There is no Node."),
        ("host", (), "It has the network of its host. There is no Python and no Node."),
        (None, None, ""),
        ("none", None, "It has no network."),
    ],
)
def test_what_a_session_has_is_said_as_far_as_it_is_known(
    network: str | None, programs: tuple[str, ...] | None, said: str
) -> None:
    now = datetime.now(UTC)
    info = SessionInfo("a", "python", "running", "/", now, now, network=network, programs=programs)
    assert text.surroundings_text(info) == said
    assert text.surroundings_text(None) == ""
