"""Write docs/faults.md from the table in tests/faults.py, which the tests of all faults are made of.

Usage: `python scripts/fault_table.py` writes the page, with `--check` it only compares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/faults.md"
sys.path.insert(0, str(ROOT))

from tests.faults import CUT, FULL, GONE, LOST, NONSENSE, OK, REFUSED, SILENT, TABLE, VERBS, Cell, Never  # noqa: E402

# What stands in the table, and what it means.
SIGNS = {
    OK: ("✓", "the right result, if need be after another attempt"),
    LOST: ("lost", f"`{LOST}`: the daemon was not reached, or the connection was lost before the answer"),
    SILENT: ("silent", f"`{SILENT}`: nothing came for as long as the call may take"),
    NONSENSE: ("nonsense", f"`{NONSENSE}`: an answer that cannot be read"),
    CUT: ("cut", f"`{CUT}`: a stream without its end; `output` has what came"),
    REFUSED: ("refused", f"`{REFUSED}`, with the `status_code`"),
    FULL: ("full", f"`{FULL}`, with `retry_after_seconds`"),
    GONE: ("gone", f"`{GONE}`: the session ended with its daemon"),
}

INTRODUCTION = """\
# What becomes of faults

<!-- Made from tests/faults.py by scripts/fault_table.py: change the former, and run the latter. -->

Each fault in each verb of the client ends in the right result or in one class of errors, within the call's
time limit. Every cell of this table is a test, in both twins, against real daemons. Left of a slash stands
what happens on a daemon with the extensions `idempotency`, `resume`, `files`, `processes`, `python` and
`packages`, such as the embedded one; right of it, what happens on one without. "follow" is a loop over a
process, "feed" its `write`, "wait" its `wait` and "signal" its `send_signal`; `mkdir`, `remove` and `copy`
are as "move", and `list`, `glob` and `search` as "stat". Whatever the cell says, no command or code runs
twice and no session is made twice.
"""

RULES = """\
A call is repeated only where that does no harm: reads, writes, uploads, `start`, following, feeding, waiting,
`install` and `destroy` always, and so `chmod`, `remove` with `missing_ok`, `mkdir` with `exist_ok` and
`copy` with `overwrite`; `exec`, streams, `run`, `python` and `create_session` where the daemon knows
repetitions by their key. After "lost" the call may have taken effect: look before you repeat it. With
`max_retries=0` nothing is repeated, and what happened the first time is what you get. A time limit that has
passed is never tried again.
"""


def page() -> str:
    """The whole page."""
    head = ["fault", *VERBS]
    rows = [[row.text, *(shown(row.cells[verb]) for verb in VERBS)] for row in TABLE.values()]
    table = [head, ["---"] * len(head), *rows]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    signs = [f"- {sign}: {meaning}." for sign, meaning in SIGNS.values()]
    notes = [f"- {mark(reason)}: {reason}." for reason in reasons()]
    return "\n".join([INTRODUCTION, *lines, "", *signs, *notes, "", RULES])


def shown(cell: Cell) -> str:
    """One cell; both sides, if they differ."""
    able, plain = sign(cell.able), sign(cell.plain)
    return able if able == plain else f"{able} / {plain}"


def sign(outcome: str | Never) -> str:
    """Return the sign of an outcome."""
    return mark(outcome.reason) if isinstance(outcome, Never) else SIGNS[outcome][0]


def mark(reason: str) -> str:
    """The sign of what cannot occur: a dash, and the number of its reason."""
    return f"—{'¹²³⁴⁵⁶⁷'[reasons().index(reason)]}"


def reasons() -> list[str]:
    """Reasons why some faults cannot occur in some verbs."""
    return list(dict.fromkeys(all_reasons()))


def all_reasons() -> Iterator[str]:
    """The same, each as often as it stands in the table."""
    for row in TABLE.values():
        for cell in row.cells.values():
            for outcome in (cell.able, cell.plain):
                if isinstance(outcome, Never):
                    yield outcome.reason


def main() -> int:
    """Write the page or check it; the exit code is 0 if it is then up to date."""
    parser = argparse.ArgumentParser(description="Make docs/faults.md from the table of faults.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if the page is stale")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    if PAGE.read_text("utf-8") != page():
        sys.exit("docs/faults.md is stale: run `python scripts/fault_table.py`.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
