"""One interpreter for many tests, and a new one for those that break theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.interpreters.talking import Interpreter


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter]:
    """An interpreter that all tests of a module share."""
    interpreter = Interpreter(tmp_path_factory.mktemp("interpreter"))
    yield interpreter
    interpreter.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Interpreter]:
    """An interpreter that a test may break."""
    interpreter = Interpreter(tmp_path)
    yield interpreter
    interpreter.close()
