"""Errors say what happened, what to do, and which case it is; no program has to read the sentences."""

from __future__ import annotations

import inspect

import httpx
import pytest

from sandkasten import _codes, errors
from sandkasten.errors import BY_ERROR_CODE, SandkastenAPIError, SandkastenError

PLAIN = [
    kind
    for _name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SandkastenError)
    and not issubclass(kind, SandkastenAPIError | errors.CommandFailedError)
    and kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.__name__)
def test_the_text_is_the_sentence_and_the_hint(kind: type[SandkastenError]) -> None:
    error = kind("It failed.", "Do this.")
    assert (error.what, error.hint, error.code, str(error)) == (
        "It failed.",
        "Do this.",
        None,
        "It failed. Do this.",
    )
    assert (str(kind("It failed.")), kind("It failed.").hint) == ("It failed.", "")


@pytest.mark.parametrize("code", BY_ERROR_CODE)
def test_a_daemons_error_has_its_code_and_the_hint_of_its_class(code: str) -> None:
    kind = BY_ERROR_CODE[code]
    response = httpx.Response(400, request=httpx.Request("GET", "http://daemon/v1/x"))
    error = kind("it failed", response=response, error_code=code)
    assert (error.what, error.hint, error.code) == ("it failed.", kind.hint, code)
    assert str(error).startswith(f"it failed. {kind.hint}".rstrip())


def test_each_code_of_the_library_is_documented() -> None:
    codes = [name for name in vars(_codes) if name.isupper()]
    documented = errors.__doc__ or ""
    assert len(codes) == 7
    assert all(getattr(_codes, name) == name and f"\n    {name} " in documented for name in codes)
