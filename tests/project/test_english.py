"""The check of the English catches each form that it is about, and leaves other sentences in peace."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_english", ROOT / "scripts/_english.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


english = _loaded()
Check = Callable[[str], Iterator[tuple[int, str]]]

BAD = {
    "what": "What a command printed.",
    "who": "Start it. Who waits for this does not wait for that.",
    "whom": "Whom sandboxes run as.",
    "which": "Return it. Which one, the daemon decides.",
    "whether": "Whether there is a directory.",
    "over lines": "Return it.\n\nWhether it is all, the\nsize decides.",
    "in a list": "Rules:\n\n- What is old is dropped.",
    "mend": "Return how to mend it.",
    "mends": "The command mends each gap.",
    "is none": "Raise if a session is none of the async package.",
    "but for": "Return all but for the last.",
    "tell": "Tell people something.",
    "told": "The user is told about it.",
    "in the making": "A file in the making.",
}
GOOD = (
    "Return what a command printed.",
    "Return whether there is a directory, or None if that is not known.",
    "What does it cost? Little.",
    "Return None if there is none.",
    "Nothing is None.",
    "Look, not but for pleasure.",
    "Return a text that tells two sessions apart.",
    "Call `mend()`, ``tell`` and `What` by their names.",
    "However it ended, and whatever came: see WhatIsThis.",
    "Args:\n    size: whether the size counts.",
)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_bad_form_is_caught_in_docstrings_and_pages(text: str) -> None:
    assert len(list(english.faults_of_docstring(text))) == 1
    assert len(list(english.faults_of_markdown(f"# What is here\n\n{text}\n"))) == 1


@pytest.mark.parametrize("text", GOOD)
def test_other_sentences_are_left_in_peace(text: str) -> None:
    assert list(english.faults_of_docstring(text)) == []
    assert list(english.faults_of_markdown(text)) == []


@pytest.mark.parametrize("text", ["How it ended.", "Where it is.", "Those of a command.", "If there is one."])
def test_a_docstring_begins_with_its_subject(text: str) -> None:
    [(_, fault)] = english.faults_of_docstring(text)
    assert "subject" in fault
    assert list(english.faults_of_markdown(text)) == []


def test_a_docstring_ends_its_first_sentence_with_a_period() -> None:
    [(_, fault)] = english.faults_of_docstring("Return the size\n\nIt is in bytes.")
    assert "period" in fault


def test_code_is_not_looked_at() -> None:
    assert list(english.faults_of_docstring("Say it::\n\n    What is this\n\nReturn it.")) == []
    assert list(english.faults_of_markdown("Say it:\n\n```python\nWhat\n```\n\n<!-- mend -->\n")) == []
    assert len(list(english.faults_of_docstring("Say it::\n\n    What is this\n\nWhat it is."))) == 1
    assert len(list(english.faults_of_markdown("```\nWhat\n```\n\nWhat it is.\n"))) == 1


def test_faults_have_their_lines() -> None:
    source = '"""Fine."""\n\n\ndef one() -> None:\n    """Return it.\n\n    What it is.\n    """\n'
    assert [line for line, _ in english.faults_of_python(source)] == [7]
    assert [line for line, _ in english.faults_of_markdown("Fine.\n\nFine. It mends it.\n")] == [3]
