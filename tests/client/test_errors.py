"""Errors say what happened, what to do, and which case it is; no program has to read the sentences."""

from __future__ import annotations

import base64
import errno
import inspect
import os
import re
import traceback

import httpx
import pytest

from sandkasten import _codes, errors
from sandkasten._brief import in_brief
from sandkasten._errorclasses import BY_ERROR_CODE
from sandkasten.errors import SandkastenAPIError, SandkastenError
from sandkasten.models import ExecResult

PLAIN = [
    kind
    for _name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SandkastenError)
    and not issubclass(kind, SandkastenAPIError | errors.CommandFailedError | errors.PythonError)
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


# They would put something on the clipboard of whoever looks at a traceback, or rewrite it.
ESCAPES = [
    "\x1b]52;c;ZXZpbA==\x07",
    "\x9d52;c;ZXZpbA==\x9c",
    "\x1b\x1b[31m]52;c;ZXZpbA==\x07",
    "\r\x1b[2K\x7f\x00",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_traceback_holds_nothing_that_a_terminal_obeys(escape: str) -> None:
    result = ExecResult(1, "/workspace", f"ok\n\twhy {escape} so\n")
    response = httpx.Response(404, request=httpx.Request("GET", "http://daemon/v1/x"))
    for error in (
        errors.CommandFailedError(result),
        errors.SandboxFileNotFoundError(
            f"There is no {escape}", response=response, error_code="FILE_NOT_FOUND"
        ),
        errors.SandkastenStreamError(f"It broke: {escape}"),
    ):
        shown = "".join(traceback.format_exception(error)) + "".join(in_brief(error, str(error)))
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown), shown
        assert repr(escape)[1:-1] in shown, "it is written out"
    assert errors.CommandFailedError(result).result.output == result.output


@pytest.mark.parametrize("code", BY_ERROR_CODE)
def test_a_daemons_error_has_its_code_and_the_hint_of_its_class(code: str) -> None:
    kind = BY_ERROR_CODE[code]
    response = httpx.Response(400, request=httpx.Request("GET", "http://daemon/v1/x"))
    error = kind("it failed", response=response, error_code=code)
    assert (error.what, error.hint, error.code) == ("it failed.", kind.hint, code)
    assert str(error).startswith(f"it failed. {kind.hint}".rstrip())


@pytest.mark.parametrize(
    ("kind", "own", "number"),
    [
        (errors.SandboxFileNotFoundError, FileNotFoundError, errno.ENOENT),
        (errors.SandboxIsDirectoryError, IsADirectoryError, errno.EISDIR),
        (errors.SandboxNotADirectoryError, NotADirectoryError, errno.ENOTDIR),
        (errors.SandboxFileExistsError, FileExistsError, errno.EEXIST),
        (errors.SandboxDirectoryNotEmptyError, OSError, errno.ENOTEMPTY),
        (errors.SandboxPermissionError, PermissionError, errno.EACCES),
        (errors.SandboxReadOnlyError, PermissionError, errno.EROFS),
    ],
)
def test_an_error_about_a_path_is_pythons_own(
    kind: type[SandkastenAPIError], own: type[OSError], number: int
) -> None:
    response = httpx.Response(400, request=httpx.Request("GET", "http://daemon/v1/x?path=a%2Fcaf%E9"))
    with pytest.raises(own) as caught:
        raise kind("it failed", response=response, details={"other_path": "b"})
    error = caught.value
    assert isinstance(error, httpx.HTTPStatusError)
    assert (error.errno, error.strerror) == (number, os.strerror(number))
    assert (error.filename, error.filename2) == ("a/caf\udce9", "b")
    assert str(error).startswith("it failed.")
    assert kind("it failed", response=response, details={"path": "c"}).filename == "c"  # type: ignore[attr-defined]
    encoded = {"path": "?", "path_base64": base64.b64encode(b"\xe9").decode()}
    assert kind("it failed", response=response, details=encoded).filename == "\udce9"  # type: ignore[attr-defined]


@pytest.mark.parametrize("details", [{"path": 5}, {"path_base64": "?"}, {"path": None}])
def test_a_path_of_an_error_that_makes_no_sense_is_not_known(details: dict[str, object]) -> None:
    response = httpx.Response(404, request=httpx.Request("GET", "http://daemon/v1/x"))
    assert errors.SandboxFileNotFoundError("no", response=response, details=details).filename is None


def test_each_code_of_the_library_is_documented() -> None:
    codes = [name for name in vars(_codes) if name.isupper()]
    documented = errors.__doc__ or ""
    assert len(codes) == 7
    assert all(getattr(_codes, name) == name and f"\n    {name} " in documented for name in codes)
