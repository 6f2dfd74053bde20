"""Values that come out of a sandbox, whatever the code there has made of them."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from sandkasten.notebook.errors import MagicError
from sandkasten.notebook.python.values import loaded

TABLE = {
    "kind": "DataFrame",
    "columns": ["a"],
    "index": [0],
    "data": [[1]],
    "dtypes": ["int64"],
    "index_dtype": "int64",
    "index_names": [None],
    "column_names": [None],
}


def _content(**rows: Any) -> bytes:
    return json.dumps(rows).encode()


def test_only_what_was_asked_for_comes() -> None:
    content = _content(a={"kind": "simple", "value": [1]}, b={"kind": "simple", "value": 2})
    assert loaded(content, ["a", "c"]) == {"a": [1]}
    assert loaded(_content(a=5), ["a"]) == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"a": '])
def test_what_is_no_json_is_one_sentence(content: bytes) -> None:
    with pytest.raises(MagicError, match="came broken"):
        loaded(content, ["a"])


def test_a_kind_that_is_unknown_is_not_brought_and_its_name_cannot_pretend_lines() -> None:
    with pytest.raises(MagicError, match="which cannot come out of the sandbox") as caught:
        loaded(_content(a={"kind": "none", "type": "Foo\nBar\x1b"}), ["a"])
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_table_needs_pandas_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MagicError, match="this notebook has no pandas"):
        loaded(_content(a=TABLE), ["a"])


def test_a_table_that_is_broken_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: name)
    for key in TABLE.keys() - {"kind"}:
        with pytest.raises(MagicError, match="the table a cannot be read"):
            loaded(_content(a={name: value for name, value in TABLE.items() if name != key}), ["a"])
