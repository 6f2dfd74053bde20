"""The command line words the library's errors by their class and code, in terms of its own options."""

from __future__ import annotations

import inspect
import re

import pytest

from sandkasten import _codes, errors
from sandkasten.cli.output.failures import explain

CODES = [name for name in vars(_codes) if name.isupper()]


@pytest.mark.parametrize("code", CODES)
def test_no_hint_speaks_of_arguments_in_python(code: str) -> None:
    sentence, _ = explain(errors.SandkastenConnectionError("It failed.", "Pass base_url=.", code=code))
    assert sentence.startswith("It failed. ")
    assert ("base_url" in sentence) == (code in {"NO_ISOLATION", "ENDED"})  # whose hints name no argument


def test_a_code_wins_over_a_class() -> None:
    kind, code = errors.SandkastenTimeoutError, _codes.UNREACHABLE
    assert "sandkasten status" in explain(kind("It failed.", "Look."))[0]
    assert "sandkasten doctor" in explain(kind("It failed.", "Look.", code=code))[0]


def test_an_error_without_words_of_the_command_lines_keeps_its_own() -> None:
    assert (
        explain(errors.TooLargeError("It is large. Very.", "Make room."))[0]
        == "It is large. Very. Make room."
    )


def test_no_words_are_for_a_class_or_code_that_does_not_exist() -> None:
    from sandkasten.cli.output import failures  # noqa: PLC0415

    classes = {name for name, _ in inspect.getmembers(errors, inspect.isclass)}
    assert set(failures._HINTS) <= classes
    assert set(failures._HINTS_BY_CODE) <= set(CODES)
    assert not any(re.search(r"\w=", text) for text in failures._HINTS_BY_CODE.values())
