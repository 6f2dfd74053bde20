"""Chunks that readers make of events of output, without a connection."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from httpx_sse import ServerSentEvent

from sandkasten._processes.output import OutputReader
from sandkasten._python.output import PythonReader

READERS: dict[str, Callable[[], OutputReader | PythonReader]] = {
    "process": OutputReader,
    "python": lambda: PythonReader(1000),
}


def printed(data: bytes) -> ServerSentEvent:
    return ServerSentEvent("stdout", json.dumps({"base64": base64.b64encode(data).decode()}))


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
def test_halves_of_characters_on_both_sides_of_a_gap_make_none(
    make: Callable[[], OutputReader | PythonReader],
) -> None:
    reader = make()
    gap = ServerSentEvent("gap", '{"missed_bytes": 3}')
    chunks = [reader.read(event) for event in (printed(b"a\xc3"), gap, printed(b"\xa4b"))]
    assert [chunk and (chunk.text, chunk.missed_bytes) for chunk in chunks] == [
        ("a", 0),
        ("", 3),
        ("\ufffdb", 0),
    ]


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
def test_halves_in_two_pieces_make_one_character(make: Callable[[], OutputReader | PythonReader]) -> None:
    reader = make()
    chunks = [reader.read(printed(data)) for data in (b"a\xc3", b"\xa4b")]
    assert [chunk and chunk.text for chunk in chunks] == ["a", "\xe4b"]
