"""Attempts to fill the machine's memory with what takes no room in a file system in memory: names.

Each is real: where bubblewrap mounts the file systems, as it does under a control group that counts them as
the session's memory, the same program makes all its files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandkasten.local.files.rundir import run_dir
from sandkasten.local.identity import Identity
from sandkasten.local.isolation import mounttable
from sandkasten.local.isolation.policy import MEMORY, Launcher
from sandkasten.local.limits.cgroups import NoCgroups
from sandkasten.local.options import Options
from sandkasten.local.sessions import preparing
from tests.local.isolation.arena.lab import TMP_BYTES, Attempt, Lab
from tests.local.isolation.arena.registry import attempt

FILES = TMP_BYTES // 1024
KINDS = {
    "files": "os.close(os.open(name, os.O_CREAT))",
    "links": "os.symlink('x' * 100, name)",
    "names": "os.link(place + '/first', name)",
    "directories": "os.mkdir(name)",
}


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    identity = Identity.of_this_process()
    with run_dir(identity) as directory:
        identity.let_pass(directory)
        (found,) = mounttable.bounded_memory(directory, TMP_BYTES)
        yield found


@attempt("quota/names-in-memory")
@pytest.mark.parametrize("path", MEMORY)
@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_size_counts(laboratory: Lab, launcher: Launcher, path: str, kind: str) -> None:
    program = f"""
place = {path!r}
open(place + "/first", "w").close()
for number in range({FILES}):
    name = f"{{place}}/{{number}}".ljust(200, "x")
    {KINDS[kind]}
"""
    many = Attempt("quota/names-in-memory", program, "ENOSPC")
    assert laboratory.inside(many, launcher=launcher).strip() == "stopped: ENOSPC"
    assert laboratory.inside(many).strip() == "succeeded"


def test_ordinary_files_fill_the_room_before_their_number_is_used_up(
    laboratory: Lab, launcher: Launcher
) -> None:
    """The smallest that has content takes a page, of which there are fewer than the file system's names."""
    # Some names are those of places at which the arena mounts something.
    program = f"""
for number in range({TMP_BYTES // 4096} - 32):
    with open(f"/tmp/{{number}}", "w") as file: file.write("x")
"""
    assert laboratory.inside(Attempt("", program, ""), launcher=launcher).strip() == "succeeded"


def test_a_machine_without_control_groups_bounds_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "find_cgroups", lambda: NoCgroups(["none"]))
    identity = Identity.of_this_process()
    with run_dir(identity) as directory:
        settings = preparing.prepare(directory, identity, Options())
    assert settings.isolation.launcher.memory.keys() == MEMORY.keys()


def test_where_mounts_cannot_be_made_before_it_bubblewrap_makes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preparing, "find_cgroups", lambda: NoCgroups(["none"]))
    monkeypatch.setattr(mounttable, "_find", lambda program: "/bin/false")
    identity = Identity.of_this_process()
    with run_dir(identity) as directory:
        settings = preparing.prepare(directory, identity, Options())
    assert settings.isolation.launcher == Launcher()


def test_sizes_and_paths_are_written_as_tables_of_mounts_have_them(tmp_path: Path) -> None:
    place = tmp_path / "a #b"
    place.mkdir()
    (found,) = mounttable.bounded_memory(place, 1 << 30)
    lines = Path(found.words[-1]).read_text().splitlines()
    assert found == replace(found, memory={path: str(place / path.rpartition("/")[2]) for path in MEMORY})
    tmp = next(line for line in lines if line.split()[1].endswith("/tmp"))
    assert tmp.split()[1] == f"{tmp_path}/a\\040\\043b/tmp"
    assert "size=1073741824,nr_inodes=262144" in tmp.split()[3]
