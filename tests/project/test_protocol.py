"""The wire's numbers, names and codes stand in one place, and the stand-in has its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandkasten import _protocol as protocol
from sandkasten._errorclasses import BY_ERROR_CODE
from sandkasten._protocol import Code, Extension

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = sorted((ROOT / "sandkasten/testing").glob("*.py"))
DAEMON = sorted((ROOT / "sandkasten/local").rglob("*.py"))
CODES = {value for name, value in vars(Code).items() if name.isupper()}


def codes_in(tree: ast.AST) -> Iterator[str]:
    """Yield the codes that errors of the daemon are made with, where they are written out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ApiError" and len(node.args) > 1:
            found = [each.value for each in ast.walk(node.args[1]) if isinstance(each, ast.Constant)]
            yield from (value for value in found if isinstance(value, str) and value.isupper())


def test_every_code_of_the_daemon_is_one_of_the_protocol() -> None:
    used = {code for path in DAEMON for code in codes_in(ast.parse(path.read_text("utf-8")))}
    assert len(used) > 10
    assert used <= CODES


def test_every_code_that_has_a_class_is_one_of_the_protocol() -> None:
    assert BY_ERROR_CODE.keys() <= CODES


def test_all_extensions_are_listed_in_order() -> None:
    names = [value for name, value in vars(Extension).items() if name.isupper()]
    assert sorted(names) == list(protocol.EXTENSIONS)


@pytest.mark.parametrize("path", STAND_IN, ids=lambda path: path.name)
def test_the_stand_in_does_not_take_its_numbers_from_the_protocol(path: Path) -> None:
    assert "_protocol" not in path.read_text("utf-8")


def test_the_protocol_imports_nothing_but_the_standard_library() -> None:
    tree = ast.parse((ROOT / "sandkasten/_protocol.py").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["from __future__ import annotations", "import re"]
