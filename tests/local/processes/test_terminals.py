"""Processes with a terminal of their own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.local.processes.beside import Beside, Output

SIZE = {"columns": 97, "rows": 31}
BASH = ["bash", "--norc", "--noprofile", "-i"]


class Typist:
    """One who types into a terminal, and reads what it shows."""

    def __init__(
        self, beside: Beside, process: str, found: Iterator[tuple[str, int, dict[str, Any]]]
    ) -> None:
        self._beside = beside
        self._process = process
        self._found = found
        self._output = Output()
        self._typed = 0
        self._seen = 0

    def type(self, keys: bytes) -> None:
        """Press keys."""
        assert self._beside.feed(self._process, keys, self._typed).status_code == 200
        self._typed += len(keys)

    def sees(self, text: bytes) -> None:
        """Wait for a text after the last one that was seen."""
        while (at := self._output.data["stdout"].find(text, self._seen)) < 0:
            self._output.take(*next(self._found))
        self._seen = at + len(text)

    def closes(self) -> None:
        """Type the end of the input."""
        assert self._beside.feed(self._process, b"", self._typed, close=True).status_code == 200


@contextmanager
def typing(beside: Beside, *args: str, **more: Any) -> Generator[tuple[Typist, str]]:
    """A program in a terminal."""
    process = beside.start(args=list(args), terminal=SIZE, **more)
    with beside.reading(process) as found:
        yield Typist(beside, process, found), process


def test_size_and_kind_are_as_asked_and_change(beside: Beside) -> None:
    script = "stty size; echo $TERM ${PAGER-none}; trap 'stty size; exit' WINCH; echo on; sleep 60 & wait"
    with typing(beside, "bash", "-c", script) as (typist, process):
        typist.sees(b"31 97\r\nxterm-256color none\r\non\r\n")
        assert beside.client.post(
            f"{beside.url}/{process}/resize", json={"columns": 80, "rows": 24}
        ).json() == {"ok": True}
        typist.sees(b"24 80\r\n")
    assert beside.info(process)["terminal"] == {"columns": 80, "rows": 24}


def test_keys_interrupt_and_stop_what_is_in_the_foreground(beside: Beside) -> None:
    with typing(beside, *BASH, env={"PS1": "ready> "}) as (typist, process):
        typist.sees(b"ready> ")
        # The keys are for a program that is in the foreground by then.
        typist.type(b"sh -c 'echo r\\un; exec sleep 61'\n")
        typist.sees(b"run\r\n")
        typist.type(b"\x03")
        typist.sees(b"^C")
        typist.sees(b"ready> ")
        typist.type(b"sh -c 'echo r\\un; exec sleep 62'\n")
        typist.sees(b"run\r\n")
        typist.type(b"\x1a")
        typist.sees(b"Stopped")
        typist.type(b"kill %1; wait %1; tty >/dev/null && echo it is a t''ty\n")
        typist.sees(b"it is a tty\r\n")
        typist.closes()
    assert beside.wait(process)["end"] == "exited"


@pytest.mark.parametrize("typed", [b"", b"begun"])
def test_an_end_of_input_is_one_wherever_it_comes(beside: Beside, typed: bytes) -> None:
    with typing(beside, "sh", "-c", "echo on; cat; echo ended") as (typist, _process):
        typist.sees(b"on\r\n")
        if typed:
            typist.type(typed)
        typist.closes()
        typist.sees(typed + b"ended\r\n")


@pytest.mark.parametrize(
    "size",
    [
        {"columns": 0, "rows": 1},
        {"columns": 1, "rows": 10_001},
        {"columns": 1},
        {"columns": "1", "rows": 1},
        {"columns": True, "rows": 1},
        {},
    ],
)
def test_sizes_that_are_none_are_refused(beside: Beside, size: dict[str, Any]) -> None:
    body = {"id": "0" * 32, "args": ["true"], "terminal": size}
    assert beside.client.post(beside.url, json=body).status_code == 400
    process = beside.start(args=["true"], terminal=SIZE)
    assert beside.client.post(f"{beside.url}/{process}/resize", json=size).status_code == 400


def test_without_a_terminal_there_is_no_size(beside: Beside) -> None:
    process = beside.start(args=["true"])
    answer = beside.client.post(f"{beside.url}/{process}/resize", json=SIZE)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_REQUEST")
