"""The plugin of pytest that `scripts/suites` runs suites of others with.

It expects the failures that `expected.txt` lists, each with its reason, and prints the closing lines.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

SUITE = os.environ["SUITE"]
FILE = Path(__file__).parent / SUITE / "expected.txt"

counts: dict[str, Counter[str]] = {}  # of each file


def expected() -> dict[str, str]:
    """Return the tests that fail, by their names behind the file's, with the reasons."""
    if not FILE.exists():
        return {}
    lines = [line.strip() for line in FILE.read_text("utf-8").splitlines()]
    pairs = [line.split(": ", 1) for line in lines if line and not line.startswith("#")]
    if bad := [pair[0] for pair in pairs if len(pair) < 2 or not pair[1].strip()]:
        raise pytest.UsageError(f"{FILE}: these lines have no reason: {', '.join(bad)}. Write TEST: reason.")
    return dict(pairs)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that fail; a listed test that passes fails the run, as does one that is not there."""
    reasons = expected()
    found = set()
    for item in items:
        name = item.nodeid.split("::", 1)[-1]
        if name in reasons:
            found.add(name)
            item.add_marker(pytest.mark.xfail(reason=reasons[name], strict=True))
    if absent := reasons.keys() - found:
        raise pytest.UsageError(f"{FILE} lists tests that are not there: {', '.join(sorted(absent))}.")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test once: by its call, or where its setup or its end fails or it is skipped."""
    if report.skipped:
        outcome = "expected" if hasattr(report, "wasxfail") else "skipped"
    elif report.failed:
        outcome = "failed"
    elif report.when == "call":
        outcome = "passed"
    else:
        return
    counts.setdefault(report.nodeid.split("::", 1)[0], Counter())[outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a closing line for each file: theirs, and ours if there are any."""
    for file, count in sorted(counts.items()):
        failed = count["failed"] + count["expected"]
        known = f" ({count['expected']} of them expected)" if count["expected"] else ""
        line = f"{count['passed']} passed, {failed} failed{known}, {count['skipped']} skipped"
        terminalreporter.write_line(f"{SUITE}, {Path(file).name}: {line}")
