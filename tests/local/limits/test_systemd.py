"""A daemon below the user's systemd; the trees are plain files, and systemd is played by `Systemd`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sandkasten.local.limits import systemd
from sandkasten.local.limits.cgroup_base import CgroupsError
from sandkasten.local.limits.cgroups import Cgroups, KernelCgroups, NoCgroups, find_cgroups

UID = 1234
MANAGER = f"user.slice/user-{UID}.slice/user@{UID}.service"


class Systemd:
    """A tree of version 2 with one group of the user's, and what the user's systemd does to it."""

    def __init__(self, directory: Path, own: str) -> None:
        self.tree = directory / "tree"
        self.proc = directory / "self"
        self.proc.mkdir()
        mount = f"41 31 0:38 / {self.tree} rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
        (self.proc / "mountinfo").write_text(mount)
        self.enter(own)
        self.delegated = ""
        self.asked: list[tuple[str, ...]] = []

    def enter(self, own: str) -> None:
        self.own = self.tree / own
        self.own.mkdir(parents=True)
        files = {"controllers": "cpu memory pids\n", "procs": "", "subtree_control": ""}
        for name, text in files.items():
            (self.own / f"cgroup.{name}").write_text(text)
        (self.proc / "cgroup").write_text(f"0::/{own}\n")

    def ask(self, program: str, *words: str) -> str:
        self.asked.append((program, *words))
        if program == "systemctl":
            return self.delegated
        name, mode = words[words.index("ssa(sv)a(sa(sv))") + 1 :][:2]
        assert mode == "fail"
        slice_name = words[words.index("Slice") + 2]
        self.enter(f"{self.own.relative_to(self.tree).parent.parent}/{slice_name}/{name}")
        return ""

    def find(self) -> Cgroups:
        found = find_cgroups(self.proc)
        found.close()
        return found


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: UID)


def started(monkeypatch: pytest.MonkeyPatch, directory: Path, own: str) -> Systemd:
    made = Systemd(directory, own)
    monkeypatch.setattr(systemd, "_ask", made.ask)
    return made


@pytest.mark.parametrize("name", ["terminal.scope", "app-org.kde.konsole@1f2e.service"])
def test_a_group_of_the_users_systemd_is_left_for_a_scope_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    manager = started(monkeypatch, tmp_path, f"{MANAGER}/app.slice/{name}")
    terminal = manager.own
    assert isinstance(manager.find(), KernelCgroups)
    assert manager.own.parent == terminal.parent
    assert manager.own.name.startswith(f"sandkasten-{os.getpid()}-")
    # In one write: one by one, the kernel allows cpu and pids where there are processes, and then not memory.
    assert (manager.own / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (terminal / "cgroup.subtree_control").read_text() == ""
    call = manager.asked[-1]
    properties = call[call.index("fail") + 2 : -1]
    assert properties[:4] == ("PIDs", "au", "1", str(os.getpid()))
    assert properties[4:7] == ("Delegate", "b", "true")
    assert call[call.index("fail") + 1] == "6"


def test_a_group_that_is_delegated_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = started(monkeypatch, tmp_path, f"{MANAGER}/app.slice/run-1.scope")
    manager.delegated = "yes"
    given = manager.own
    assert isinstance(manager.find(), KernelCgroups)
    assert manager.own == given
    assert (given / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert manager.asked == [("systemctl", "show", "--property=Delegate", "--value", "--", "run-1.scope")]


@pytest.mark.parametrize(
    ("own", "limits", "reason"),
    [
        (f"{MANAGER}/app.slice/a.scope", {"memory.max": "1000000\n"}, "limits that must not be left"),
        (f"{MANAGER}/app.slice/a.scope", {"cpu.max": "1000 100000\n"}, "limits that must not be left"),
        (f"{MANAGER}/app.slice/agent.service", {}, "a service that must not be left"),
        (f"user.slice/user-{UID}.slice/session-1.scope", {}, "not delegated"),
        ("user.slice/user-1.slice/user@1.service/app.slice/a.scope", {}, "not delegated"),
    ],
)
def test_what_bounds_it_or_outlives_the_users_systemd_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, limits: Mapping[str, str], reason: str
) -> None:
    manager = started(monkeypatch, tmp_path, own)
    given = manager.own
    for name, text in limits.items():
        (given / name).write_text(text)
    found = manager.find()
    assert isinstance(found, NoCgroups)
    assert reason in found.describe()
    assert "Delegate=yes" in found.describe()
    assert manager.own == given


def test_a_systemd_that_does_not_answer_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Systemd(tmp_path, f"{MANAGER}/app.slice/a.scope")
    monkeypatch.setattr(systemd, "_SECONDS", 0.3)
    found = manager.find()
    assert isinstance(found, NoCgroups)
    assert "busctl" in found.describe()
    monkeypatch.setattr(systemd, "_ask", lambda *_words: "")  # and no scope
    with pytest.raises(CgroupsError, match="no scope within"):
        systemd.move_to_own_scope(manager.own, manager.proc / "cgroup")


def test_who_may_dump_no_core_can_start_a_daemon() -> None:
    # Where security guides are followed, the hard limit is 0, and 1 cannot be had.
    script = (
        "import os, resource, sys\n"
        "from sandkasten.local.linux.inherited import _dump_no_core\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(60777); os.setuid(60777)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, int(sys.argv[1])))\n"
        "_dump_no_core()\n"
        "print(*resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    cases = {"0": b"0 0\n", "5": b"1 1\n"}
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        del cases["5"]  # here, too, they are followed
    for hard, becomes in cases.items():
        assert subprocess.check_output([sys.executable, "-c", script, hard]) == becomes
