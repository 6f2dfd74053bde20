"""The program by which root starts its sandboxes as another user."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sandkasten.local.identity import ROOT_DROPS_TO, Identity
from sandkasten.local.images.built_in import find_images
from sandkasten.local.isolation import backend
from sandkasten.local.isolation.spawner import dropping
from sandkasten.local.limits.limits import machine_limits
from sandkasten.local.sessions.trial import try_a_sandbox

DROPS = Identity(ROOT_DROPS_TO, drops=True)
AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="only root becomes another user")


@pytest.fixture
def dropper(tmp_path: Path) -> str:
    return dropping.place_dropper(DROPS, tmp_path)[0]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


@only_root
def test_nothing_of_root_is_left(dropper: str) -> None:
    with_groups = [str(shutil.which("setpriv")), "--groups", "4,20"] if shutil.which("setpriv") else []
    done = run(*with_groups, dropper, "60777", "/bin/cat", "/proc/self/status")
    lines = (line.partition(":") for line in done.stdout.splitlines())
    fields = {name: rest.split() for name, _, rest in lines}
    assert fields["Uid"] == fields["Gid"] == ["60777"] * 4
    assert fields["Groups"] == []
    assert {int(fields[name][0], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0}


@pytest.mark.parametrize("user", ["0", "", "1x", "x", "4294967295", "4294967296", "99999999999999999999"])
def test_it_becomes_no_user_that_cannot_be_meant(dropper: str, user: str) -> None:
    done = run(dropper, user, "/bin/echo", "runs")
    assert (done.returncode, done.stdout) == (125, "")


def test_without_a_program_nothing_happens(dropper: str) -> None:
    assert run(dropper, "60777").returncode == 125


@pytest.mark.skipif(AS_ROOT, reason="root becomes anybody")
def test_who_cannot_become_another_user_runs_nothing(dropper: str) -> None:
    done = run(dropper, "60777", "/bin/echo", "runs")
    assert (done.returncode, done.stdout) == (126, "")
    assert "setgroups" in done.stderr


@only_root
def test_what_cannot_be_run_is_reported(dropper: str) -> None:
    done = run(dropper, "60777", "/nowhere", "x")
    assert (done.returncode, done.stderr) == (127, "/nowhere: No such file or directory\n")


@only_root
def test_only_root_runs_it(dropper: str) -> None:
    assert os.stat(dropper).st_mode & 0o7777 == 0o500


def test_where_there_is_none_python_does_it(tmp_path: Path) -> None:
    assert dropping.place_dropper(replace(DROPS, drops=False), tmp_path) == ()
    assert dropping.place_dropper(DROPS, tmp_path, "s390x") == ()
    assert list(tmp_path.iterdir()) == []


@only_root
def test_sandboxes_are_the_same_with_and_without_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    for directory in tmp_path.parents[:2]:
        directory.chmod(0o711)
    limits = machine_limits()
    made = backend.prepare(tmp_path, DROPS, find_images(), limits, bounded=())
    assert made.dropper == (str(tmp_path / "dropper"), "60777")
    assert platform.machine() in dropping._MACHINES

    def complaint(way: backend.Backend) -> str | None:
        return try_a_sandbox(way, tmp_path, DROPS, lambda _: None)

    for words, works in ((made.dropper, True), ((), True), (("/bin/false", "60777"), False)):
        assert (complaint(replace(made, dropper=words)) is None) is works
