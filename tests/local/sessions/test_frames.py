"""Frames as the shell reads them: torn anywhere, in every locale, of any length."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from sandkasten.local.sessions import control
from tests.local.isolation.spawner.beside import Beside, beside, soon

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
