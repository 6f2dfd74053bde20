"""The limits of one session, while another one works; against an embedded daemon with small limits."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
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
async def small(small_daemon: LocalDaemon) -> AsyncIterator[SandboxClient]:
    target = small_daemon.target
    async with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        yield client


@pytest.fixture
async def greedy(small: SandboxClient) -> AsyncIterator[Session]:
    async with await small.create_session() as session:
        yield session


@pytest.fixture
async def modest(small: SandboxClient) -> AsyncIterator[Session]:
    async with await small.create_session() as session:
        yield session


async def beside(greedy: Session, command: str, modest: Session) -> tuple[int, str]:
    """Run a command that takes too much, while the other session computes."""

    async def take() -> tuple[int, str]:
        try:
            result = await greedy.exec(command, timeout_ms=10_000)
        except (ExecTimeoutError, InsufficientStorageError) as error:
            return error.status_code, error.output
        return result.exit_code, result.output

    async def work() -> tuple[int, str]:
        for _ in range(20):
            assert (await modest.exec("echo $((6 * 7))")).output == "42\n"
        return 0, ""

    outcome, _ = await together(take, work)
    assert (await greedy.exec("echo alive")).output == "alive\n"
    assert (await modest.exec("echo alive")).output == "alive\n"
    return outcome


async def test_a_memory_hog_is_ended_or_told(greedy: Session, modest: Session) -> None:
    status, output = await beside(greedy, "python3 -c 'x = bytearray(600_000_000); print(len(x))'", modest)
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


async def test_a_fork_bomb_reaches_its_limit(greedy: Session, modest: Session) -> None:
    await greedy.write("bomb.py", BOMB)
    assert await beside(greedy, "python3 bomb.py", modest) == (0, "limited\n")


async def test_a_disk_filler_reaches_the_limit_of_a_file(greedy: Session, modest: Session) -> None:
    status, output = await beside(
        greedy, "head -c 100000000 /dev/zero > big; echo $?; stat -c %s big", modest
    )
    assert status == 0
    code, size = output.split()[-2:]
    assert code != "0"
    assert int(size) == LIMITS["file_bytes"]


FILL = "while :; do n=$((n + 1)); head -c 4000000 /dev/zero > f$n; sleep 0.02; done"


async def test_a_filler_of_the_workspace_is_stopped(greedy: Session, modest: Session) -> None:
    status, output = await beside(greedy, f"echo begun; {FILL}", modest)
    assert (status, output.splitlines()[0]) == (507, "begun")
    with pytest.raises(InsufficientStorageError, match="Delete files"):
        await greedy.write("more", "text")
    assert (await greedy.exec("rm f*; echo removed")).output == "removed\n"
    await greedy.write("more", "text")
    assert (await modest.exec("echo alive")).output == "alive\n"


async def test_a_filler_in_the_background_is_stopped_too(greedy: Session) -> None:
    await greedy.exec(f"({FILL}) &")
    for _ in range(100):
        with suppress(
            InsufficientStorageError
        ):  # a command that runs at that moment is stopped along with it
            if (await greedy.exec("jobs -r")).output == "":
                break
        await sleep(0.1)
    assert (await greedy.exec("jobs -r; echo alive")).output == "alive\n"
    assert int((await greedy.exec("du -sm . | cut -f1")).output) < 500


@pytest.mark.parametrize("directory", ["/tmp", "/home/sandbox", "/dev/shm"])
async def test_a_filler_of_memory_file_systems_gets_no_space(
    greedy: Session, modest: Session, directory: str
) -> None:
    status, output = await beside(greedy, f"head -c 30000000 /dev/zero > {directory}/big", modest)
    assert status == 1
    assert "No space left on device" in output


async def test_an_output_flood_is_cut(greedy: Session, modest: Session) -> None:
    status, output = await beside(greedy, "head -c 50000000 /dev/zero | tr '\\0' x", modest)
    assert status == 0
    assert LIMITS["output_bytes"] - 100 < len(output) <= LIMITS["output_bytes"]


async def test_nothing_can_be_made_in_dev_or_in_the_root(greedy: Session) -> None:
    for path in ("/dev/file", "/file", "/etc/file", "/usr/file", "/run/file"):
        result = await greedy.exec(f"echo x > {path}")
        assert result.exit_code == 1
        assert "Read-only file system" in result.output


async def test_core_files_are_not_written(greedy: Session) -> None:
    await greedy.exec("sh -c 'kill -SEGV $$'")
    assert (await greedy.exec("ls; ulimit -c")).output == "0\n"


async def test_stats_tell_the_limit_where_the_kernel_enforces_it(greedy: Session) -> None:
    stats = await greedy.stats()
    assert 0 < stats.memory_bytes < 64 * MIB
    assert stats.memory_limit in {LIMITS["memory_bytes"], None}
    if os.geteuid() == 0 and os.path.isdir("/sys/fs/cgroup/memory"):
        assert stats.memory_limit == LIMITS["memory_bytes"]
