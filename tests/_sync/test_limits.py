# Made from tests/_async/test_limits.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""The limits of one session, while another one works; against an embedded daemon with small limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sandkasten.errors import ExecTimeoutError, InsufficientStorageError
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon

from .seam import SandboxClient, Session, sleep, together

MIB = 1024 * 1024
LIMITS = {
    "memory_bytes": 256 * MIB,
    "processes": 64,
    "file_bytes": 32 * MIB,
    "tmp_bytes": 16 * MIB,
    "workspace_bytes": 48 * MIB,
    "output_bytes": 100_000,
}


@pytest.fixture(scope="module")
def small_daemon() -> Iterator[LocalDaemon]:
    """A daemon with small limits, one for all: whatever a session does, the next finds it as it was."""
    daemon = start_daemon(LocalOptions(limits=LIMITS, pool_size=0))
    yield daemon
    daemon.stop()


@pytest.fixture
def small(small_daemon: LocalDaemon) -> Iterator[SandboxClient]:
    target = small_daemon.target
    with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        yield client


@pytest.fixture
def greedy(small: SandboxClient) -> Iterator[Session]:
    with small.create_session() as session:
        yield session


@pytest.fixture
def modest(small: SandboxClient) -> Iterator[Session]:
    with small.create_session() as session:
        yield session


def beside(greedy: Session, command: str, modest: Session) -> tuple[int, str]:
    """Run a command that takes too much, while the other session computes."""

    def take() -> tuple[int, str]:
        try:
            result = greedy.exec(command, timeout_ms=10_000)
        except (ExecTimeoutError, InsufficientStorageError) as error:
            return error.status_code, error.output
        return result.exit_code, result.output

    def work() -> tuple[int, str]:
        for _ in range(20):
            assert modest.exec("echo $((6 * 7))").output == "42\n"
        return 0, ""

    outcome, _ = together(take, work)
    assert greedy.exec("echo alive").output == "alive\n"
    assert modest.exec("echo alive").output == "alive\n"
    return outcome


def test_a_memory_hog_is_ended_or_told(greedy: Session, modest: Session) -> None:
    status, output = beside(greedy, "python3 -c 'x = bytearray(600_000_000); print(len(x))'", modest)
    assert status == 137 or "MemoryError" in output
    assert "600000000" not in output


BOMB = """
import os, time
made = 0
try:
    while made < 300:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        made += 1
    print("no limit")
except BlockingIOError:
    print("limited")
"""


def test_a_fork_bomb_reaches_its_limit(greedy: Session, modest: Session) -> None:
    greedy.write("bomb.py", BOMB)
    assert beside(greedy, "python3 bomb.py", modest) == (0, "limited\n")


def test_a_disk_filler_reaches_the_limit_of_a_file(greedy: Session, modest: Session) -> None:
    status, output = beside(greedy, "head -c 100000000 /dev/zero > big; echo $?; stat -c %s big", modest)
    assert status == 0
    code, size = output.split()[-2:]
    assert code != "0"
    assert int(size) == LIMITS["file_bytes"]


FILL = "while :; do n=$((n + 1)); head -c 4000000 /dev/zero > f$n; sleep 0.02; done"


def test_a_filler_of_the_workspace_is_stopped(greedy: Session, modest: Session) -> None:
    status, output = beside(greedy, f"echo begun; {FILL}", modest)
    assert (status, output.splitlines()[0]) == (507, "begun")
    with pytest.raises(InsufficientStorageError, match="Delete files"):
        greedy.write("more", "text")
    assert greedy.exec("rm f*; echo removed").output == "removed\n"
    greedy.write("more", "text")
    assert modest.exec("echo alive").output == "alive\n"


def test_a_filler_in_the_background_is_stopped_too(greedy: Session) -> None:
    greedy.exec(f"({FILL}) &")
    for _ in range(100):
        with suppress(
            InsufficientStorageError
        ):  # a command that runs at that moment is stopped along with it
            if greedy.exec("jobs -r").output == "":
                break
        sleep(0.1)
    assert greedy.exec("jobs -r; echo alive").output == "alive\n"
    assert int(greedy.exec("du -sm . | cut -f1").output) < 500


@pytest.mark.parametrize("directory", ["/tmp", "/home/sandbox", "/dev/shm"])
def test_a_filler_of_memory_file_systems_gets_no_space(
    greedy: Session, modest: Session, directory: str
) -> None:
    status, output = beside(greedy, f"head -c 30000000 /dev/zero > {directory}/big", modest)
    assert status == 1
    assert "No space left on device" in output


def test_an_output_flood_is_cut(greedy: Session, modest: Session) -> None:
    status, output = beside(greedy, "head -c 50000000 /dev/zero | tr '\\0' x", modest)
    assert status == 0
    assert LIMITS["output_bytes"] - 100 < len(output) <= LIMITS["output_bytes"]


def test_nothing_can_be_made_in_dev_or_in_the_root(greedy: Session) -> None:
    for path in ("/dev/file", "/file", "/etc/file", "/usr/file", "/run/file"):
        result = greedy.exec(f"echo x > {path}")
        assert result.exit_code == 1
        assert "Read-only file system" in result.output


def test_core_files_are_not_written(greedy: Session) -> None:
    greedy.exec("sh -c 'kill -SEGV $$'")
    assert greedy.exec("ls; ulimit -c").output == "0\n"


def test_stats_tell_the_limit_where_the_kernel_enforces_it(greedy: Session) -> None:
    stats = greedy.stats()
    assert 0 < stats.memory_bytes < 64 * MIB
    assert stats.memory_limit in {LIMITS["memory_bytes"], None}
    if os.geteuid() == 0 and os.path.isdir("/sys/fs/cgroup/memory"):
        assert stats.memory_limit == LIMITS["memory_bytes"]
