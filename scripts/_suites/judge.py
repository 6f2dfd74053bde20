"""The plugin of pytest that `scripts/suites` runs suites of others with.

It expects the failures that `expected.txt` lists, each with its reason, and prints the closing line.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

SUITE = os.environ["SUITE"]
FILE = Path(__file__).parent / SUITE / "expected.txt"

counts: Counter[str] = Counter()


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
        counts["expected" if hasattr(report, "wasxfail") else "skipped"] += 1
    elif report.failed:
        counts["failed"] += 1
    elif report.when == "call":
        counts["passed"] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the closing line."""
    failed = counts["failed"] + counts["expected"]
    known = f" ({counts['expected']} of them expected)" if counts["expected"] else ""
    line = f"{SUITE}: {counts['passed']} passed, {failed} failed{known}, {counts['skipped']} skipped"
    terminalreporter.write_line(line)
