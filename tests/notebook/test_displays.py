"""Results and tables as they are shown; what a command printed is hostile."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.formatters import DisplayFormatter

from sandkasten._cut import CappedText
from sandkasten.models import (
    DirEntry,
    ExecResult,
    Health,
    ReadResult,
    Rows,
    SessionInfo,
    SessionStats,
    WorkspaceInfo,
)
from sandkasten.notebook.displays import register_displays, unregister_displays
from sandkasten.notebook.running import CappedOutput
from sandkasten.notebook.text import duration, one_line, size, visible

WHEN = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
HOSTILE = "</pre><script>alert('1')</script>\x1b[2J\x9b2J\x07\x00\b"
INFO = SessionInfo(HOSTILE, HOSTILE, "running", "/workspace/<b>", WHEN, WHEN)


@pytest.fixture(scope="module")
def shell() -> Any:
    """As much of an IPython as shows values."""
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    register_displays(shell)
    return shell


def shown(shell: Any, value: Any) -> dict[str, str]:
    data, _metadata = shell.display_formatter.format(value)
    return data


def test_a_result_is_its_output_with_the_status_below(shell: Any) -> None:
    data = shown(shell, ExecResult(3, "/workspace", "one\ntwo\n", duration_ms=1234))
    assert data["text/plain"] == "one\ntwo\n[status 3 · 1.2 s · /workspace]"
    assert "one\ntwo</pre>" in data["text/html"]
    assert "status 3 · 1.2 s · /workspace" in data["text/html"]


def test_a_result_without_output_is_its_status(shell: Any) -> None:
    data = shown(shell, ExecResult(0, "/", "", truncated=True, shell_restarted=True))
    assert data["text/plain"] == "[status 0 · 0 ms · / · output truncated · the shell was restarted]"


@pytest.mark.parametrize(
    "value",
    [
        ExecResult(1, HOSTILE, HOSTILE),
        INFO,
        [INFO, INFO],
        SessionStats(5_000_000, 8_000_000_000, 1_500_000),
        Health(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,)),
        WorkspaceInfo(HOSTILE, WHEN, {HOSTILE: HOSTILE}),
        DirEntry(HOSTILE),
        [DirEntry(HOSTILE, is_dir=True), DirEntry("b")],
    ],
    ids=lambda value: type(value).__name__,
)
def test_hostile_text_is_text_on_a_page_and_in_a_terminal(shell: Any, value: Any) -> None:
    data = shown(shell, value)
    assert "<script" not in data["text/html"]
    assert data["text/html"].count("</pre>") == data["text/html"].count("<pre")
    for control in "\x1b\x9b\x07\x00\b":
        assert control not in data["text/html"]
        assert control not in data["text/plain"]


def test_other_lists_are_shown_as_ever(shell: Any) -> None:
    for value in ([], [1, 2], [INFO, 1], [INFO, DirEntry("a")]):
        assert "text/html" not in shown(shell, value)


def test_within_a_list_a_result_is_its_repr(shell: Any) -> None:
    result = ExecResult(0, "/workspace", "a\n")
    assert shown(shell, [result])["text/plain"] == repr([result])


def test_a_large_output_is_shown_from_its_end(shell: Any) -> None:
    data = shown(shell, ExecResult(0, "/", "x" * 50_000 + "end\n"))
    assert data["text/plain"].startswith("[30004 characters before this are not shown]\nxxx")
    assert "xend\n[status 0" in data["text/plain"]


def test_a_file_is_not_poured_onto_the_page(shell: Any) -> None:
    data = shown(shell, ReadResult(b"x" * 5000, "a\x1bb", truncated=True))
    assert data == {"text/plain": "<a\\x1bb, 5.0 kB, truncated>"}


def test_what_was_registered_can_be_taken_away(shell: Any) -> None:
    unregister_displays(shell)
    assert shown(shell, INFO)["text/plain"] == repr(INFO)
    assert set(shown(shell, [INFO])) == {"text/plain"}
    register_displays(shell)
    assert "<table" in shown(shell, INFO)["text/html"]


@pytest.mark.parametrize(
    "value",
    [
        INFO,
        ExecResult(1, HOSTILE, HOSTILE),
        SessionStats(5_000_000),
        Health(HOSTILE),
        WorkspaceInfo(HOSTILE),
        DirEntry(HOSTILE),
        Rows([INFO, INFO]),
        Rows([DirEntry(HOSTILE)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_models_are_tables_without_the_extension(value: Any) -> None:
    data, _ = DisplayFormatter().format(value)
    assert "<div>" in data["text/html"]
    assert "<script" not in data["text/html"]
    assert type(value).__name__ in data["text/plain"] or isinstance(value, Rows)


def test_an_empty_list_and_a_list_of_other_things_are_what_they_are() -> None:
    for value in (Rows[SessionInfo]([]), Rows([1, 2])):
        data, _ = DisplayFormatter().format(value)
        assert set(data) == {"text/plain"}


def test_of_output_beyond_the_limit_head_and_tail_are_shown_and_the_cut_is_said_once() -> None:
    written: list[str] = []
    output, kept = CappedOutput(written.append, max_bytes=1064), CappedText(1064)
    for piece in ("a" * 499, "bcd", "x" * 10_000, "y" * 499 + "z"):
        output.add(piece)
        kept.add(piece)
    assert written == ["a" * 499, "b"]
    output.end()
    cut = "\n[... 10,002 bytes left out ...]\n"
    assert written[2:] == [cut + "y" * 499 + "z"]
    assert "".join(written) == kept.text()  # which is what the result has


def test_output_that_fits_is_shown_whole_whether_or_not_it_is_more_than_a_head() -> None:
    written: list[str] = []
    output = CappedOutput(written.append, max_bytes=1064)
    for piece in ("a" * 700, "b" * 364):
        output.add(piece)
    output.end()
    assert "".join(written) == "a" * 700 + "b" * 364


def test_output_is_shown_without_control_characters() -> None:
    written: list[str] = []
    output = CappedOutput(written.append)
    output.add("50%\r100%\ta\x1b[2J\n")
    assert written == ["50%\r100%\ta\\x1b[2J\n"]


def test_small_texts() -> None:
    assert [size(n) for n in (0, 999, 1000, 999_499, 1_000_000, 12_345_678)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "999 kB",
        "1.0 MB",
        "12 MB",
    ]
    assert [duration(n) for n in (0, 999, 1000, 61_000)] == ["0 ms", "999 ms", "1.0 s", "61.0 s"]
    assert one_line("a\nb\u202ec") == "a\\nb\\u202ec"
    assert one_line("x" * 300) == "x" * 199 + "…"
    assert visible("größe\n\t漢") == "größe\n\t漢"
