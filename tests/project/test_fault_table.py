"""The table of faults is whole, and the page that shows it is up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandkasten import errors
from tests.faults import OK, TABLE, VERBS, Never, Row

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_made_of_the_table() -> None:
    argv = [sys.executable, str(ROOT / "scripts/fault_table.py"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_every_verb_has_a_result_an_error_or_a_reason(row: Row) -> None:
    assert row.cells.keys() == set(VERBS)
    for cell in row.cells.values():
        for outcome in (cell.able, cell.plain):
            if isinstance(outcome, Never):
                assert outcome.reason
            elif outcome != OK:
                assert issubclass(getattr(errors, outcome), errors.SandkastenError)
