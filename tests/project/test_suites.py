"""The rules by which `scripts/suites` judges suites of others, and the table that says what came out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITES = ROOT / "scripts" / "_suites"
PAGE = (ROOT / "docs" / "harnesses.md").read_text("utf-8")
# The tools of the suites themselves.
TOOLS = {"pytest", "pytest-asyncio", "starlette", "trio", "uvicorn"}

TESTS = """
import pytest

def test_passes(): pass
def test_fails(): assert False
@pytest.mark.skip(reason="for no reason")
def test_is_skipped(): pass
"""


def judged(folder: Path, expected: str) -> subprocess.CompletedProcess[str]:
    """Run a small suite, of whose tests some are expected to fail."""
    shutil.copy(SUITES / "judge.py", folder)
    (folder / "one" / "1.0").mkdir(parents=True)
    (folder / "one" / "1.0" / "expected.txt").write_text(expected)
    (folder / "one" / "test_one.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "judge", "-p", "no:cacheprovider", "one"],
        cwd=folder,
        env={**os.environ, "SUITE": "one/1.0", "PYTHONPATH": ".", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_failure_that_is_listed_is_counted_and_fails_no_run(tmp_path: Path) -> None:
    done = judged(tmp_path, "# TEST: reason\ntest_fails: it is not meant for us\n")
    assert done.returncode == 0, done.stdout
    assert "one/1.0, test_one.py: 1 passed, 1 failed (1 of them expected), 1 skipped\n" in done.stdout


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("test_passes: it did not pass once\ntest_fails: likewise", "XPASS(strict)] it did not pass once"),
        ("", "1 passed, 1 failed, 1 skipped"),
        ("test_absent: it was there once", "lists tests that are not there: test_absent."),
        ("test_fails:", "these lines have no reason: test_fails:. Write TEST: reason."),
    ],
)
def test_a_list_that_is_not_true_fails_the_run(tmp_path: Path, expected: str, said: str) -> None:
    done = judged(tmp_path, expected)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_the_table_has_the_versions_that_are_tested() -> None:
    files = list(SUITES.glob("*/*/requirements.txt"))
    assert len(files) >= 11
    rows = "".join(line for line in PAGE.splitlines() if line.startswith("|"))
    for file in files:
        pins = [
            line.split("==") for line in file.read_text("utf-8").splitlines() if not line.startswith("-e ")
        ]
        for name, version in pins:
            assert name in TOOLS or version in rows, f"docs/harnesses.md does not have {name} {version}"


def test_ci_runs_the_newest_of_these_versions() -> None:
    newest: dict[str, str] = {}
    for file in sorted(SUITES.glob("*/*/requirements.txt")):
        newest |= dict(line.split("==") for line in file.read_text("utf-8").splitlines() if "==" in line)
    for line in (SUITES / "ci.txt").read_text("utf-8").splitlines()[1:]:
        name, version = line.split("==")
        assert newest[name] == version
        if name not in TOOLS | {"langchain-tests"}:
            folder = f"{name.removesuffix('-slim')}/{'.'.join(version.split('.')[:2])}"
            assert f"run_tests {folder} " in (ROOT / "scripts" / "suites").read_text("utf-8")
