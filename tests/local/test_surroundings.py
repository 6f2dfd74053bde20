"""The embedded daemon in surroundings that people have: it works there, or says in a sentence why not, soon.

`programs/surroundings.py` has the cases. A program in the sandbox sees nothing of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).parent / "programs" / "surroundings.py"

# How much longer than a plain start in the same run it may take until it works or has failed.
MORE_SECONDS = 3.0

WORKS = [
    "ignored_signals",
    "ignored_sigchld",
    "blocked_signals",
    "default_sigpipe",
    "many_descriptors",
    "few_descriptors",
    "low_soft_limits",
    "odd_umask",
    "without_standard_streams",
    "other_locale",
    "preloaded_library",
    "strange_environment",
    "no_environment",
    "proxies",
    "broken_certificates",
    "no_home",
    "read_only_home",
    "home_in_the_data_dir",
    "no_temporary_directory_of_the_clients",
    "odd_temporary_directory",
    "current_directory_gone",
    "no_executable",
    "executable_of_another_program",
]
FAILS = {
    "relative_data_dir_gone": "data_dir 'relative' is seen from the current directory, which is gone. Give",
    "no_python_at_all": "needs a Python program, and sys.executable is ''. Set it",
}
POOLS = ["pool_by_fork", "pool_by_forkserver", "pool_by_spawn"]
PROCESSES = [
    *POOLS,
    "two_loops",
    "forked_child_lives_on",
    "owner_ends_with_forks",
    "owners_thread_ends",
    "child_uses_and_drops_the_client",
    "prefork",
    "two_daemons_on_one_directory",
]


class Outcomes:
    """The outcome of each case; reading one waits until the program has come to it."""

    def __init__(self, process: subprocess.Popen[str], complaints: IO[str]) -> None:
        self._process, self._complaints = process, complaints
        self._read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        assert self._process.stdout is not None
        while name not in self._read:
            line = self._process.stdout.readline()
            assert line, self._last_words()
            case, outcome = json.loads(line)
            self._read[case] = outcome
        return self._read[name]

    def _last_words(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read()[-3000:]


@pytest.fixture(scope="module")
def found(data_dir: Path) -> Iterator[Outcomes]:
    """One run of all cases, beside the tests: each test waits only for the cases that it is about."""
    directory = data_dir / "surroundings"
    directory.mkdir(mode=0o711)
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [sys.executable, PROGRAM, directory, "plain", *WORKS, *FAILS, *PROCESSES],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        yield Outcomes(process, complaints)
        assert process.stdout is not None
        process.stdout.close()  # the program ends at its next line, if it has one left


@pytest.mark.parametrize("name", WORKS)
def test_it_works(found: Outcomes, name: str) -> None:
    assert found[name]["outcome"] == "works"
    assert found[name]["exit_code"] == 3
    assert found[name]["printed"] == "printed\n"


@pytest.mark.parametrize("name", FAILS)
def test_it_says_in_a_sentence_why_not(found: Outcomes, name: str) -> None:
    assert found[name]["outcome"].startswith("LocalDaemonError: ")
    assert FAILS[name] in found[name]["outcome"]


@pytest.mark.parametrize("name", [*WORKS, *FAILS])
def test_it_takes_no_longer_than_elsewhere(found: Outcomes, name: str) -> None:
    # The machine may have become slower meanwhile, so more than what a plain start took is allowed.
    assert found[name]["seconds"] < 3 * found["plain"]["seconds"] + MORE_SECONDS


@pytest.mark.parametrize("name", WORKS)
def test_nothing_of_it_reaches_the_daemon_or_the_sandbox(found: Outcomes, name: str) -> None:
    plain = found["plain"]
    inside = plain["inside"]
    if name == "few_descriptors":  # more than there are, nobody has
        inside = inside.replace("\n1024\n", "\n64\n")
    assert found[name]["inside"] == inside
    assert found[name]["daemon"] == plain["daemon"]


def test_what_is_plain_is_plain(found: Outcomes) -> None:
    nothing = "0" * 16
    assert found["plain"]["daemon"]["SigBlk"] == nothing
    assert found["plain"]["daemon"]["loader"] == "[]"
    for line in (f"SigBlk:\t{nothing}", f"SigIgn:\t{nothing}"):
        assert line in found["plain"]["inside"]


def test_a_tilde_is_the_home(found: Outcomes) -> None:
    assert found["home_in_the_data_dir"]["made"]
    assert not found["home_in_the_data_dir"]["odd"]


def test_a_daemon_ends_at_once_though_a_forked_child_holds_all_that_its_owner_had(
    found: Outcomes,
) -> None:
    case = found["forked_child_lives_on"]
    assert case["outcome"] == "works"
    assert case["closed"]
    assert case["child"], "the child was there all the time"
    assert case["seconds"] < 3 * found["plain"]["seconds"] + MORE_SECONDS


def test_a_daemon_ends_with_its_owner_though_forked_children_live(found: Outcomes) -> None:
    assert found["owner_ends_with_forks"] == {"outcome": "works", "ended": True, "children": True}


def test_a_daemon_outlives_the_thread_that_started_it(found: Outcomes) -> None:
    assert found["owners_thread_ends"] == {"outcome": "works", "printed": "printed\n"}


def test_a_forked_child_cannot_end_its_parents_daemon(found: Outcomes) -> None:
    case = found["child_uses_and_drops_the_client"]
    assert case["outcome"] == "works"
    assert "before the fork" in case["said"]
    assert case["printed"] == "printed\n"


def test_workers_that_were_forked_use_the_client_of_before(found: Outcomes) -> None:
    assert found["prefork"] == {"outcome": "works", "printed": "printed\nprinted\n"}


@pytest.mark.parametrize("name", POOLS)
def test_an_error_comes_whole_out_of_a_pool_of_processes(found: Outcomes, name: str) -> None:
    assert found[name] == {"outcome": "works", "error": "CommandFailedError", "printed": "printed\n"}


def test_a_client_in_a_second_loop_says_so_and_can_be_closed_in_a_third(found: Outcomes) -> None:
    case = found["two_loops"]
    assert (case["outcome"], case["printed"], case["closed"]) == ("works", "printed\n", True)
    assert "in another event loop" in case["said"]
    assert "Make a new SandboxClient" in case["said"]


def test_two_daemons_share_a_data_directory(found: Outcomes) -> None:
    assert found["two_daemons_on_one_directory"] == {"outcome": "works", "printed": "printed\nprinted\n"}
