"""Limits: what they are, and that the kernel keeps them. All load here is bounded in number and time."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandkasten.errors import SandkastenInputError
from sandkasten.local.launch import LocalOptions
from sandkasten.local.limits.cgroup_kernel import settings
from sandkasten.local.limits.cgroups import (
    Cgroups,
    Group,
    KernelCgroups,
    NoCgroups,
    find_cgroups,
    read_hierarchies,
)
from sandkasten.local.limits.limits import (
    GIB,
    MIB,
    OF_A_USER,
    OOM_SCORE_SANDBOX,
    Limits,
    Rlimit,
    clamped,
    machine_limits,
    rlimits,
    ulimit_command,
)
from sandkasten.local.limits.values import LimitsError
from sandkasten.local.linux.kernel import kernel_version
from tests.local.box import until
from tests.soon import soon

NONE = Limits(None, None, None, None, None, None, MIB)
UNIFIED = Path("/sys/fs/cgroup/unified")

# --- the numbers


def test_defaults_leave_the_machine_half_of_its_memory() -> None:
    assert Limits.for_machine(2 * GIB, 2).memory_bytes == GIB
    assert Limits.for_machine(256 * GIB, 64).memory_bytes == 8 * GIB
    assert Limits.for_machine(2 * GIB, 2).cpus == 2.0
    assert Limits.for_machine(2 * GIB, 64).cpus == 4.0
    assert machine_limits().processes == 512


@pytest.mark.parametrize("total_bytes", [MIB, GIB, 1000 * GIB])
def test_full_file_systems_in_memory_leave_some_for_programs(total_bytes: int) -> None:
    limits = Limits.for_machine(total_bytes, 1)
    assert limits.tmp_bytes is not None
    assert limits.memory_bytes is not None
    assert limits.tmp_bytes * 3 < limits.memory_bytes


def test_a_mapping_overrides_and_takes_away() -> None:
    defaults = Limits.for_machine(8 * GIB, 2)
    limits = Limits.from_mapping({"memory_bytes": 64 * MIB, "cpus": 0.5, "processes": "unlimited"}, defaults)
    assert limits == replace(defaults, memory_bytes=64 * MIB, cpus=0.5, processes=None)
    assert Limits.from_mapping({}, defaults) == defaults


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"memory": 1}, "no limit 'memory'"),
        ({"memory_bytes": "64 apples"}, "memory_bytes must be a whole number"),
        ({"memory_bytes": "-1g"}, "memory_bytes must be a whole number"),
        ({"memory_bytes": "1m"}, "memory_bytes must be from"),
        ({"processes": "1k"}, "processes must be a whole number"),
        ({"memory_bytes": 1.5e9}, "memory_bytes must be a whole number"),
        ({"memory_bytes": 1}, "memory_bytes must be from"),
        ({"memory_bytes": 2**63}, "memory_bytes must be from"),
        ({"processes": True}, "processes must be a whole number"),
        ({"processes": -1}, "processes must be from 8"),
        ({"cpus": float("nan")}, "cpus must be from"),
        ({"cpus": float("inf")}, "cpus must be from"),
        ({"cpus": []}, "cpus must be a number"),
        ({"output_bytes": "unlimited"}, "output_bytes needs a number"),
    ],
)
def test_errors_name_the_key(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LimitsError, match=complaint):
        Limits.from_mapping(settings, NONE)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1g", GIB),
        ("512M", 512 * MIB),
        ("1.5 GiB", 3 * GIB // 2),
        ("65536k", 64 * MIB),
        ("67108864", 64 * MIB),
        ("1TB", 1024 * GIB),
        (" 1gb ", GIB),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size_bytes: int) -> None:
    assert Limits.from_mapping({"memory_bytes": text}, NONE).memory_bytes == size_bytes


@pytest.mark.parametrize("limits", [{"memory": 1}, {"memory_bytes": "much"}, {"cpus": 0}, ["1g"], None, 7])
def test_options_refuse_limits_that_make_no_sense_before_anything_starts(limits: Any) -> None:
    with pytest.raises(SandkastenInputError):
        LocalOptions(limits=limits)


def test_kernel_versions_are_read() -> None:
    assert kernel_version("5.15.0-91-generic") == (5, 15)
    assert kernel_version("6.1-rc3") == (6, 1)
    assert kernel_version("6.18+") == (6, 18)
    assert kernel_version() > (4, 0)


def test_rlimits_do_what_control_groups_do_not() -> None:
    limits = replace(NONE, memory_bytes=GIB, processes=100, file_bytes=MIB)
    bare = rlimits(limits, (), (6, 1))
    assert bare[resource.RLIMIT_DATA] == Rlimit(GIB, GIB)
    assert bare[resource.RLIMIT_NPROC] == Rlimit(100, 100)
    grouped = rlimits(limits, ("memory", "pids"), (6, 1))
    assert set(grouped) == {
        resource.RLIMIT_NOFILE,
        resource.RLIMIT_FSIZE,
        resource.RLIMIT_RTPRIO,
        resource.RLIMIT_NICE,
        *OF_A_USER,
    }
    assert grouped[resource.RLIMIT_RTPRIO] == grouped[resource.RLIMIT_NICE] == Rlimit(0, 0)


def test_processes_are_not_counted_where_sandboxes_would_share_the_count() -> None:
    assert resource.RLIMIT_NPROC not in rlimits(replace(NONE, processes=100), (), (5, 13))


def test_the_ulimit_command_speaks_in_bash_units() -> None:
    command = ulimit_command(
        {resource.RLIMIT_FSIZE: Rlimit(MIB, MIB), resource.RLIMIT_NOFILE: Rlimit(10, 20)}
    )
    assert command == "ulimit -S -f 1024 && ulimit -H -f 1024 && ulimit -S -n 10 && ulimit -H -n 20"
    assert ulimit_command({}) == ":"


def test_no_rlimit_goes_above_our_own() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert clamped({resource.RLIMIT_NOFILE: Rlimit(hard + 1, hard + 2)})[resource.RLIMIT_NOFILE] == Rlimit(
        hard, hard
    )


# --- rlimits, as a sandbox's process 1 sets them


def limited(limits: Limits, *command: str) -> subprocess.CompletedProcess[str]:
    script = f'{ulimit_command(clamped(rlimits(limits, (), (0, 0))))} && exec "$@"'
    return subprocess.run(
        ["/bin/bash", "--norc", "-c", script, "bash", *command],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def limited_python(limits: Limits, program: str) -> subprocess.CompletedProcess[str]:
    return limited(limits, sys.executable, "-c", textwrap.dedent(program))


def test_every_rlimit_arrives() -> None:
    limits = replace(NONE, memory_bytes=GIB, file_bytes=4 * GIB)
    said = limited_python(
        limits,
        """
        import resource
        for name in ("NOFILE", "FSIZE", "DATA", "RTPRIO", "NICE"):
            print(name, *resource.getrlimit(getattr(resource, f"RLIMIT_{name}")))
        """,
    )
    assert said.stdout.splitlines() == [
        "NOFILE 1024 4096",
        f"FSIZE {4 * GIB} {4 * GIB}",
        f"DATA {GIB} {GIB}",
        "RTPRIO 0 0",
        "NICE 0 0",
    ]


def test_a_file_ends_at_its_limit(tmp_path: Path) -> None:
    limits = replace(NONE, file_bytes=MIB)
    path = tmp_path / "big"
    assert (
        limited(limits, "head", "-c", "3000000", "/dev/zero").stdout.count("\0") == 3_000_000
    )  # a pipe has none
    ended = limited(limits, "/bin/bash", "-c", f'exec head -c 3000000 /dev/zero >"{path}"')
    assert ended.returncode == -signal.SIGXFSZ
    assert path.stat().st_size == MIB
    said = limited_python(
        limits,
        f"open({str(path)!r}, 'r+b').truncate(2**21)",
    )
    assert f"Errno {errno.EFBIG}" in said.stderr  # Python ignores SIGXFSZ


def test_a_process_ends_at_its_memory_limit() -> None:
    said = limited_python(replace(NONE, memory_bytes=256 * MIB), "bytearray(400 * 1024**2)")
    assert said.returncode == 1
    assert "MemoryError" in said.stderr
    assert limited_python(replace(NONE, memory_bytes=256 * MIB), "bytearray(50 * 1024**2)").returncode == 0


def test_addresses_that_are_only_reserved_are_free() -> None:
    """RLIMIT_AS would count them, and Node, Java and Go would not start."""
    said = limited_python(
        replace(NONE, memory_bytes=64 * MIB),
        "import mmap; print(len(mmap.mmap(-1, 2**30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)))",
    )
    assert said.stdout.strip() == str(2**30), said.stderr


# --- control groups of the kernel's


@pytest.fixture
def kernel() -> Iterator[Cgroups]:
    """The real thing, or a reason why not."""
    found = find_cgroups()
    if isinstance(found, NoCgroups):
        pytest.skip(f"this needs control groups: {found.describe()}")
    yield found
    found.close()


@pytest.fixture
def make_group(kernel: Cgroups) -> Iterator[Callable[..., Group]]:
    made: list[Group] = []

    def make(**limits: Any) -> Group:
        made.append(kernel.create(f"test-{len(made)}", replace(NONE, **limits)))
        return made[-1]

    yield make
    for group in made:
        group.kill()
        group.remove()


class Program:
    """A Python program that waits for us before it does anything, and is ended with the test."""

    def __init__(self, group: Group, program: str) -> None:
        source = f"import os, sys, time\nsys.stdin.readline()\n{textwrap.dedent(program)}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        group.add(self.process.pid)
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture
def run() -> Iterator[Callable[[Group, str], Program]]:
    started: list[Program] = []

    def start(group: Group, program: str) -> Program:
        started.append(Program(group, program))
        return started[-1]

    yield start
    for program in started:
        program.end()


Run = Callable[[Group, str], Program]
MakeGroup = Callable[..., Group]


def needs(kernel: Cgroups, *resources: str) -> None:
    missing = set(resources) - kernel.bounded
    if missing:
        pytest.skip(f"this needs the controllers {missing}: {kernel.describe()}")


def test_memory_ends_the_hog_and_nobody_else(kernel: Cgroups, make_group: MakeGroup, run: Run) -> None:
    needs(kernel, "memory")
    group, neighbours = make_group(memory_bytes=64 * MIB), make_group(memory_bytes=64 * MIB)
    bystander = run(group, "print('here', flush=True); sys.stdin.readline(); print('still here', flush=True)")
    neighbour = run(
        neighbours, "print('here', flush=True); sys.stdin.readline(); print('still here', flush=True)"
    )
    assert bystander.line() == neighbour.line() == "here"
    hog = run(group, "kept = bytearray(b'x') * (200 * 1024**2); print('too much')")
    assert hog.process.wait(timeout=30) == -signal.SIGKILL
    assert group.oom_kills() == 1
    assert neighbours.oom_kills() == 0
    for program in (bystander, neighbour):
        assert program.process.stdin is not None
        program.process.stdin.write("\n")
        program.process.stdin.flush()
        assert program.line() == "still here"


def test_a_fork_bomb_ends_at_the_limit(kernel: Cgroups, make_group: MakeGroup, run: Run) -> None:
    needs(kernel, "pids")
    group = make_group(processes=50)
    bomb = run(
        group,
        """
        made = 0
        for _ in range(300):
            try:
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                made += 1
            except BlockingIOError:
                pass
        print(made, flush=True)
        sys.stdin.readline()
        """,
    )
    assert bomb.line() == "49"
    assert group.usage().processes == 50
    group.kill()
    bomb.process.wait(timeout=30)
    with soon():
        group.remove()


def test_cpu_is_shared_out(kernel: Cgroups, make_group: MakeGroup, run: Run) -> None:
    needs(kernel, "cpu")
    group = make_group(cpus=0.5)
    spinner = run(
        group,
        """
        started = time.monotonic()
        while time.process_time() < 0.6:
            pass
        print(time.monotonic() - started, flush=True)
        sys.stdin.readline()
        """,
    )
    seconds = float(spinner.line())
    assert seconds > 0.9, "1.2 s are due, and more where others have the machine"


def test_usage_is_real(make_group: MakeGroup, run: Run) -> None:
    group = make_group(memory_bytes=256 * MIB)
    user = run(
        group,
        """
        kept = bytearray(b"x") * (60 * 1024**2)
        while time.process_time() < 0.2:
            pass
        print("done", flush=True)
        sys.stdin.readline()
        """,
    )
    assert user.line() == "done"
    usage = group.usage()
    assert 60 * MIB < usage.memory_bytes < 120 * MIB
    assert usage.memory_limit == 256 * MIB
    assert 100_000 < usage.cpu_usage_usec < 2_000_000
    assert usage.processes == 1


def test_cached_files_are_not_use(make_group: MakeGroup, run: Run, tmp_path: Path) -> None:
    group = make_group(memory_bytes=512 * MIB)
    reader = run(
        group,
        f"""
        with open({str(tmp_path / "big")!r}, "wb", buffering=0) as file:
            for _ in range(100):
                file.write(bytes(1024**2))
            os.fsync(file.fileno())
        print("done", flush=True)
        sys.stdin.readline()
        """,
    )
    assert reader.line() == "done"
    assert group.usage().memory_bytes < 60 * MIB


def test_removal_waits_for_the_last_process(kernel: Cgroups, run: Run) -> None:
    group = kernel.create("waits", NONE)
    sleeper = run(group, "print('here', flush=True); time.sleep(1)")
    assert sleeper.line() == "here"
    with pytest.raises(TimeoutError):
        group.remove(timeout_seconds=0.05)
    with soon():
        group.remove()
    group.remove()  # twice does no harm


def own_directories(kernel: Cgroups) -> set[Path]:
    assert isinstance(kernel, KernelCgroups)
    return {kernel.directory(controller) for controller in ("memory", "pids", "cpu")}


def test_nothing_is_left(kernel: Cgroups, run: Run) -> None:
    group = kernel.create("gone", replace(NONE, memory_bytes=64 * MIB, processes=20, cpus=0.5))
    run(group, "time.sleep(60)")
    assert all((directory / "gone").is_dir() for directory in own_directories(kernel))
    group.kill()
    group.remove()
    assert not any((directory / "gone").exists() for directory in own_directories(kernel))
    kernel.close()
    assert not any(directory.exists() for directory in own_directories(kernel))


def test_a_group_of_that_name_is_left_alone(kernel: Cgroups, make_group: MakeGroup) -> None:
    make_group()
    with pytest.raises(FileExistsError):
        kernel.create("test-0", NONE)
    assert all((directory / "test-0").is_dir() for directory in own_directories(kernel))


ABANDON = """
import os, subprocess, sys
from dataclasses import replace
from sandkasten.local.limits.cgroups import find_cgroups
from tests.local.limits.test_limits import NONE
found = find_cgroups()
found.create("empty", NONE)
if sys.argv[1] == "busy":
    sleeper = subprocess.Popen(["sleep", "20"], stdout=subprocess.DEVNULL)
    found.create("busy", NONE).add(sleeper.pid)
print(sleeper.pid if sys.argv[1] == "busy" else 0, found.directory("memory"), flush=True)
if sys.argv[1] == "alive":
    sys.stdin.readline()
os._exit(0)
"""


@pytest.fixture
def abandon() -> Iterator[Callable[[str], tuple[int, Path]]]:
    """Daemons that end without cleaning up, or not at all before the test."""
    with contextlib.ExitStack() as at_end:

        def start(how: str) -> tuple[int, Path]:
            process = subprocess.Popen(
                [sys.executable, "-c", ABANDON, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            at_end.callback(process.communicate, timeout=30)
            assert process.stdout is not None
            pid, _, directory = process.stdout.readline().strip().partition(" ")
            if int(pid):
                at_end.callback(suppressed_kill, int(pid))
            if how != "alive":
                process.wait(timeout=30)
            return int(pid), Path(directory)

        yield start


def suppressed_kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_what_dead_daemons_left_is_removed(
    kernel: Cgroups, abandon: Callable[[str], tuple[int, Path]]
) -> None:
    _, dead = abandon("dead")
    _, alive = abandon("alive")
    sleeper, busy = abandon("busy")
    kernel.cleanup_stale()  # if no other daemon that starts just now has done the same
    assert not dead.exists()
    assert alive.is_dir(), "its daemon lives"
    assert (busy / "busy").is_dir(), "a process is in it"
    assert all(directory.is_dir() for directory in own_directories(kernel))
    suppressed_kill(sleeper)

    def gone() -> bool:
        kernel.cleanup_stale()
        return not busy.exists()

    until(gone)
    assert alive.is_dir()


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing() -> Iterator[None]:
    yield
    found = find_cgroups()
    found.cleanup_stale()
    found.close()


def test_memory_ends_with_the_machine_too(make_group: MakeGroup, run: Run) -> None:
    sleeper = run(make_group(), "print('here', flush=True); sys.stdin.readline()")
    assert sleeper.line() == "here"
    assert int(Path(f"/proc/{sleeper.process.pid}/oom_score_adj").read_text()) >= OOM_SCORE_SANDBOX


# --- version 2, as far as a machine can show it that has its controllers in version 1


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(UNIFIED / "cgroup.procs", os.W_OK),
    reason="this needs root and a tree of version 2 beside version 1",
)
def test_version_2_kills_and_removes(run: Run) -> None:
    with contextlib.ExitStack() as at_end:
        made = KernelCgroups(2, dict.fromkeys(("memory", "pids", "cpu"), UNIFIED), [])
        at_end.callback(made.close)
        group = made.create("session", NONE)
        at_end.callback(group.remove)
        at_end.callback(group.kill)
        sleeper = run(group, "if os.fork(): print('here', flush=True)\ntime.sleep(60)")
        assert sleeper.line() == "here"
        box = made.directory("memory") / "session" / "box"
        assert str(sleeper.process.pid) in (box / "cgroup.procs").read_text().split()
        with pytest.raises(OSError, match="temporarily unavailable"):
            (box / "more").mkdir()  # not even root, so no sandboxed code
        assert group.usage().cpu_usage_usec > 0
        group.kill()
        assert sleeper.process.wait(timeout=30) == -signal.SIGKILL
        group.remove()
    assert not made.directory("memory").exists()


def fake_proc(tmp_path: Path, *, own: str = "/") -> tuple[Path, Path]:
    """A /proc/self, and a tree of version 2 made of plain files."""
    proc, tree = tmp_path / "self", tmp_path / "a tree"
    proc.mkdir()
    tree.mkdir()
    mount = str(tree).replace(" ", "\\040")
    (proc / "mountinfo").write_text(f"41 31 0:38 / {mount} rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n")
    (proc / "cgroup").write_text(f"0::{own}\n")
    group = tree / own.strip("/")
    group.mkdir(exist_ok=True, parents=True)
    (group / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (group / "cgroup.procs").write_text("")
    (group / "cgroup.subtree_control").write_text("memory pids\n")
    return proc, group


def test_version_2_needs_delegation(tmp_path: Path) -> None:
    proc, group = fake_proc(tmp_path, own="/user.slice/a.scope")
    (group / "memory.max").write_text("1000000\n")
    found = find_cgroups(proc)
    assert isinstance(found, NoCgroups)
    assert "Delegate=yes" in found.describe()


def test_version_2_settings() -> None:
    limits = replace(NONE, memory_bytes=GIB, processes=10, cpus=0.5)
    written = {setting.file: setting.text for setting in settings(2, limits)}
    assert written == {
        "memory.max": str(GIB),
        "memory.swap.max": "0",
        "pids.max": "10",
        "cpu.max": "50000 100000",
    }
    assert not list(settings(2, NONE))
    assert not list(settings(1, NONE))


def test_hierarchies_are_found_below_what_a_container_sees() -> None:
    mountinfo = (
        "33 23 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "34 23 0:31 /elsewhere /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n"
        "35 23 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
        "36 23 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "37 23 0:34 / / rw - ext4 /dev/vda rw\n"
    )
    cgroup = (
        "5:cpu,cpuacct:/docker/abc/x\n4:pids:/docker/abc\n3:memory:/docker/abc\n1:name=systemd:/\n0::/../x\n"
    )
    found = {name: str(tree.own) for name, tree in read_hierarchies(mountinfo, cgroup).items()}
    assert found == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/x",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/x",
        "memory": "/sys/fs/cgroup/memory/docker/abc",
    }


# --- without control groups


def test_without_control_groups_it_says_why(tmp_path: Path) -> None:
    found = find_cgroups(tmp_path / "nothing")
    assert isinstance(found, NoCgroups)
    assert found.bounded == frozenset()
    assert "rlimits bound memory of each process" in found.describe()
    assert "/proc" in found.describe()
    real = find_cgroups()
    assert "\n" not in real.describe()
    real.close()


def test_without_control_groups_usage_comes_from_proc(run: Run) -> None:
    found = NoCgroups([])
    found.cleanup_stale()
    group = found.create("any", NONE)
    assert group.usage().memory_bytes == 0
    user = run(group, "kept = bytearray(b'x') * (30 * 1024**2); print('here', flush=True); time.sleep(60)")
    assert user.line() == "here"
    usage = group.usage()
    assert 30 * MIB < usage.memory_bytes < 100 * MIB
    assert usage.memory_limit is None, "they are not bounded together"
    assert usage.processes == 1
    assert int(Path(f"/proc/{user.process.pid}/oom_score_adj").read_text()) >= OOM_SCORE_SANDBOX
    with pytest.raises(TimeoutError):
        group.remove(timeout_seconds=0.01)
    group.kill()
    group.remove()
    assert user.process.wait(timeout=30) == -signal.SIGKILL
    group.kill()
    found.close()
