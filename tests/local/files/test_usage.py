"""The measured disk usage of a session: with names and without, and whatever it does to hide it."""

from __future__ import annotations

import os
import signal
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandkasten.local.files import usage
from sandkasten.local.files.usage import Usage, _Walk, held_usage, tree_usage
from sandkasten.local.limits.limits import GIB

AS_ROOT = os.geteuid() == 0
MIB = 1024**2


def tree_bytes(path: Path, stop_at: int | None = None) -> int:
    """The size in bytes; all of it could be read."""
    found = tree_usage(path, stop_at)
    assert found.is_whole
    return found.size_bytes


def du(path: Path) -> int:
    said = subprocess.run(["du", "-s", "-B1", str(path)], capture_output=True, text=True, check=True).stdout
    return int(said.split()[0]) - path.stat().st_blocks * 512


def test_a_tree_is_measured_as_du_does(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_bytes(bytes(100_000))
    (tmp_path / "a" / "b" / "other").write_bytes(bytes(5_000))
    assert tree_bytes(tmp_path) == du(tmp_path) > 100_000


def test_a_hard_link_counts_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    for number in range(5):
        (tmp_path / f"link{number}").hardlink_to(tmp_path / "file")
    assert 1_000_000 <= tree_bytes(tmp_path) < 1_100_000


def test_a_hole_costs_nothing(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * GIB)
    assert tree_bytes(tmp_path) < 100_000


def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "usr").symlink_to("/usr")
    (tmp_path / "endless").symlink_to("endless")
    os.mkfifo(tmp_path / "pipe")
    assert tree_bytes(tmp_path) < 100_000
    link = tmp_path.with_name(f"{tmp_path.name}-link")
    link.symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|symbolic link"):
        tree_bytes(link)


def test_empty_files_do_not_come_for_free(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / str(number)).touch()
    assert tree_bytes(tmp_path) >= 512_000


def test_it_stops_when_it_is_enough(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).write_bytes(bytes(10_000))
    assert 100_000 <= tree_bytes(tmp_path, stop_at=100_000) < 130_000


def make_deep(directory: Path, levels: int) -> None:
    """Each level has a file of 8 KiB and a side arm; the whole is longer than any path may be."""
    here = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.write(file, bytes(8192))
        os.close(file)
        os.mkdir("a", dir_fd=here)
        os.mkdir("z", dir_fd=here)
        below = os.open("z", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "deep"
    # pytest's own removal follows paths, and these are too long for it.
    subprocess.run(["rm", "-rf", str(tmp_path / "deep")], check=True, timeout=20)


def test_a_deep_tree_costs_few_descriptors(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep.mkdir()
    make_deep(deep, 3000)
    before = set(os.listdir("/proc/self/fd"))
    highest = 0
    real_open = os.open

    def watched(*args: Any, **kwargs: Any) -> int:
        nonlocal highest
        descriptor = real_open(*args, **kwargs)
        highest = max(highest, descriptor)
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", watched)
        measured = tree_bytes(deep)
    assert measured == du(deep)
    assert highest < max(map(int, before)) + 80
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_tree_that_moves_does_not_lead_outside(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is being measured, what is 200 levels down is moved to the top, where `..` leads outside."""
    tree = deep / "tree"
    tree.mkdir(parents=True)
    (deep / "outside").write_bytes(bytes(50_000_000))
    make_deep(tree, 300)
    real_enter: Callable[..., None] = _Walk._enter

    def enter(walk: Any, descriptor: int) -> None:
        real_enter(walk, descriptor)
        if len(walk._levels) == 200:
            above = os.open("..", os.O_RDONLY, dir_fd=descriptor)
            name = next(name for name in ("z", "a") if os.path.sameopenfile(descriptor, _opened(name, above)))
            os.rename(name, str(tree / "moved"), src_dir_fd=above)
            os.close(above)

    def _opened(name: str, directory: int) -> int:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
        to_close.append(descriptor)
        return descriptor

    to_close: list[int] = []
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(_Walk, "_enter", enter)
        measured = tree_usage(tree)
    for descriptor in to_close:
        os.close(descriptor)
    assert (tree / "moved").is_dir()
    assert measured.size_bytes <= 2 * du(tree) < 50_000_000
    assert not measured.is_whole, "what it lost counts as too much"
    assert len(os.listdir("/proc/self/fd")) == before


# --- what is hidden


@pytest.mark.skipif(AS_ROOT, reason="root reads everything")
@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o300, 0o400, 0o600])
@pytest.mark.parametrize("place", ["top", "below"])
def test_what_its_owner_cannot_read_is_missed_once_and_read_when_it_is_insisted_on(
    tmp_path: Path, mode: int, place: str
) -> None:
    top = tmp_path / "top"
    closed = top if place == "top" else top / "a" / "below"
    (closed / "deeper").mkdir(parents=True)
    (closed / "deeper" / "file").write_bytes(bytes(MIB))
    closed.chmod(mode)
    assert not tree_usage(top).is_whole
    found = tree_usage(top, insist=True)
    assert found.is_whole
    assert found.size_bytes >= MIB


def test_too_deep_a_tree_is_not_read_to_its_end(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep.mkdir()
    make_deep(deep, 100)
    monkeypatch.setattr(usage, "_MAX_DEPTH", 90)
    assert not tree_usage(deep).is_whole


def test_too_many_names_far_below_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_OPEN_LEVELS", 1)
    monkeypatch.setattr(usage, "_MAX_PENDING", 50)
    for number in range(60):
        (tmp_path / "wide" / str(number)).mkdir(parents=True)
    assert not tree_usage(tmp_path).is_whole
    monkeypatch.setattr(usage, "_MAX_PENDING", 60)
    assert tree_usage(tmp_path).is_whole


@pytest.mark.parametrize("shape", ["wide", "linked"])
def test_measuring_takes_no_memory_for_each_entry(tmp_path: Path, shape: str) -> None:
    for number in range(5000):
        path = tmp_path / f"{number:0200d}"
        if shape == "wide":
            path.mkdir()
        else:
            path.touch()
            (tmp_path / f"{number}").hardlink_to(path)
    tracemalloc.start()
    tree_usage(tmp_path)
    _kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000  # 40 bytes each


HOLDERS = {
    "deleted": "f = open('x', 'wb+'); f.write(b'1' * SIZE); f.flush(); os.unlink('x')",
    "never named": "f = os.open('.', os.O_TMPFILE | os.O_RDWR); os.write(f, b'1' * SIZE)",
    "duplicated": "f = open('x', 'wb+'); f.write(b'1' * SIZE); f.flush(); os.unlink('x'); os.dup(f.fileno())",
    "mapped": (
        "f = open('x', 'wb+'); f.write(b'1' * SIZE); f.flush(); os.unlink('x');"
        "m = mmap.mmap(f.fileno(), SIZE); f.close()"
    ),
    "of a thread": (
        "libc = ctypes.CDLL(None)\n"
        "def work():\n"
        "    assert libc.unshare(0x400) == 0\n"
        "    f = open('x', 'wb+'); f.write(b'1' * SIZE); f.flush(); os.unlink('x')\n"
        "    print('held', flush=True); time.sleep(60)\n"
        "threading.Thread(target=work).start(); time.sleep(60)"
    ),
}
HOLDER = """
import ctypes, mmap, os, threading, time
SIZE = {size}
{program}
print('held', flush=True)
time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Start a process that holds 2 MiB of a file without a name; its number."""
    started: list[subprocess.Popen[bytes]] = []

    def hold(program: str) -> int:
        code = HOLDER.format(size=2 * MIB, program=program)
        process = subprocess.Popen(["/usr/bin/python3", "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        return process.pid

    yield hold
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("program", HOLDERS.values(), ids=HOLDERS)
def test_a_file_without_a_name_counts_once_as_long_as_it_is_held(
    tmp_path: Path, hold: Callable[[str], int], program: str
) -> None:
    pid = hold(program)
    assert tree_bytes(tmp_path) < MIB, "it has no name"
    found = held_usage([pid, pid], tmp_path, os.geteuid())
    assert found.is_whole
    assert 2 * MIB <= found.size_bytes < 3 * MIB


def test_a_program_that_was_deleted_counts_as_long_as_it_runs(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/usr/bin/sleep").read_bytes() + bytes(2 * MIB))
    program.chmod(0o755)
    with subprocess.Popen([program, "60"]) as process:
        program.unlink()
        found = held_usage([process.pid], tmp_path, os.geteuid())
        process.kill()
    assert found.size_bytes >= 2 * MIB


def test_only_files_of_the_sandboxes_user_on_the_workspaces_disk_count(
    tmp_path: Path, hold: Callable[[str], int]
) -> None:
    pid = hold(HOLDERS["deleted"])
    assert held_usage([pid], tmp_path, os.geteuid() + 1) == Usage(0)
    assert held_usage([pid], "/dev/shm", os.geteuid()) == Usage(0)
    assert held_usage([2**22 + 1], tmp_path, os.geteuid()) == Usage(0), "there is no such process"


@pytest.mark.skipif(AS_ROOT, reason="root may examine every process")
def test_a_process_that_may_not_be_examined_makes_it_incomplete(tmp_path: Path) -> None:
    assert not held_usage([os.getpid(), 1], tmp_path, os.geteuid()).is_whole
    # A daemon that may not examine what it started itself has no such right, and would end all sessions.
    assert held_usage([1, os.getpid()], tmp_path, os.geteuid()) == Usage(0)
