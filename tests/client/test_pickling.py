"""Errors and models go to other processes and back: pools, queues, copies."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from typing import Any

import attrs
import httpx
import pytest

import sandkasten
from sandkasten import errors, models
from sandkasten._python import values
from sandkasten._python.values import PythonFault, PythonResult
from sandkasten.errors import CommandFailedError, PythonError, SandkastenAPIError, SandkastenError

KEY = "the-key-of-the-daemon"
PYTHON_RESULT = PythonResult(
    "out", "", error=PythonFault("ValueError", "no", "Traceback ...\nValueError: no")
)
RESULT = models.ExecResult(exit_code=1, cwd="/workspace", output="no\n", truncated=False, duration_ms=3)
ERRORS = [
    kind
    for _name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SandkastenError) and kind.__module__ == errors.__name__
]
MODELS = [
    kind
    for module in (models, values)
    for _name, kind in inspect.getmembers(module, inspect.isclass)
    if attrs.has(kind) and kind.__module__ == module.__name__
]
WAYS = {
    **{
        f"pickle {n}": lambda x, n=n: pickle.loads(pickle.dumps(x, n))
        for n in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def _response(status: int) -> httpx.Response:
    request = httpx.Request("POST", "http://daemon/v1/x", headers={"Authorization": f"Bearer {KEY}"})
    return httpx.Response(
        status, headers={"X-Request-ID": "r1", "Retry-After": "7"}, json={"message": "no"}, request=request
    )


def _made(kind: type[SandkastenError]) -> SandkastenError:
    if issubclass(kind, PythonError):
        return kind(PYTHON_RESULT)
    if issubclass(kind, CommandFailedError):
        return kind(RESULT)
    if issubclass(kind, SandkastenAPIError):
        details = {"output": "so far", "truncated": True}
        return kind("no", response=_response(504), error_code="COMMAND_TIMEOUT", details=details)
    error = kind("It failed. Do this.")
    error.request_id = "r2"
    error.add_note("of item 3")
    return error


def _facts(error: SandkastenError) -> dict[str, Any]:
    names = [name for name in dir(error) if not name.startswith("_") and name not in {"request", "response"}]
    values = {name: getattr(error, name, None) for name in names}  # an OSError has one that it may not give
    return {name: value for name, value in values.items() if not callable(value)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after(kind: type[SandkastenError], way: str) -> None:
    error = _made(kind)
    again = WAYS[way](error)
    assert type(again) is kind
    assert (str(again), again.args, _facts(again)) == (str(error), error.args, _facts(error))
    if isinstance(error, SandkastenAPIError):
        assert again.response.status_code == 504
        assert again.response.json() == {"message": "no"}
        assert again.request.url == error.request.url


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_the_key_does_not_go_along(kind: type[SandkastenError]) -> None:
    assert KEY.encode() not in pickle.dumps(_made(kind))


def test_an_error_of_a_stream_goes_along_without_its_connection() -> None:
    request = httpx.Request("POST", "http://daemon/v1/x")
    unread = httpx.Response(504, stream=httpx.ByteStream(b"x"), request=request)
    again = pickle.loads(pickle.dumps(errors.ExecTimeoutError("late", response=unread)))
    assert (again.status_code, again.response.status_code) == (504, 504)


def _value(kind: Any, name: str) -> Any:
    text = str(kind)
    if "datetime" in text:
        return datetime(2026, 1, 2, tzinfo=UTC)
    if "int" in text or "float" in text:
        return 5
    if "bool" in text:
        return True
    return name if "str" in text else None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_a_model_is_the_same_after(kind: type[Any], way: str) -> None:
    model = kind(**{field.name: _value(field.type, field.name) for field in attrs.fields(kind)})
    again = WAYS[way](model)
    assert type(again) is kind
    assert again == model


def test_every_public_error_and_model_is_looked_at() -> None:
    public = {getattr(sandkasten, name) for name in sandkasten.__all__}
    assert {kind for kind in public if inspect.isclass(kind) and issubclass(kind, Exception)} <= set(ERRORS)
    homes = {models.__name__, values.__name__}
    assert {kind for kind in public if attrs.has(kind) and kind.__module__ in homes} <= set(MODELS)


def _fail() -> None:
    raise _made(errors.ExecTimeoutError)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_an_error_of_a_worker_reaches_whoever_waits_for_it(method: str) -> None:
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool,
        pytest.raises(errors.ExecTimeoutError) as caught,
    ):
        pool.submit(_fail).result(50)
    assert caught.value.output == "so far"
