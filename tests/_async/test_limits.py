"""What one session may take, while another one works; against an embedded daemon with small limits."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from sandkasten.errors import ExecTimeoutError
from sandkasten.local.launch import LocalOptions

from .seam import SandboxClient, Session, together

MIB = 1024 * 1024
LIMITS = {
    "memory_bytes": 256 * MIB,
    "processes": 64,
    "file_bytes": 32 * MIB,
    "tmp_bytes": 16 * MIB,
    "output_bytes": 100_000,
}


@pytest.fixture
async def small() -> AsyncIterator[SandboxClient]:
    async with SandboxClient(local=LocalOptions(limits=LIMITS, pool_size=0)) as client:
        yield client


@pytest.fixture
async def greedy(small: SandboxClient) -> Session:
    return await small.create_session()


@pytest.fixture
async def modest(small: SandboxClient) -> Session:
    return await small.create_session()


async def beside(greedy: Session, command: str, modest: Session) -> tuple[int, str]:
    """Run a command that takes too much, while the other session computes."""

    async def take() -> tuple[int, str]:
        try:
            result = await greedy.exec(command, timeout_ms=10_000)
        except ExecTimeoutError as error:
            return -1, error.output
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


async def test_a_fork_bomb_reaches_its_limit(greedy: Session, modest: Session) -> None:
    bomb = "for i in $(seq 200); do sleep 3 & done 2>&1; wait"
    status, output = await beside(greedy, bomb, modest)
    assert "Resource temporarily unavailable" in output or "retry" in output
    assert status != -1


async def test_a_disk_filler_reaches_the_limit_of_a_file(greedy: Session, modest: Session) -> None:
    status, output = await beside(
        greedy, "head -c 100000000 /dev/zero > big; echo $?; stat -c %s big", modest
    )
    assert status == 0
    code, size = output.split()[-2:]
    assert code != "0"
    assert int(size) == LIMITS["file_bytes"]


@pytest.mark.parametrize("directory", ["/tmp", "/home/sandbox", "/dev/shm"])
async def test_a_filler_of_memory_file_systems_gets_no_space(
    greedy: Session, modest: Session, directory: str
) -> None:
    status, output = await beside(greedy, f"head -c 30000000 /dev/zero > {directory}/big", modest)
    assert status == 1
    assert "No space left on device" in output


async def test_an_output_flood_is_cut(greedy: Session, modest: Session) -> None:
    status, output = await beside(greedy, "head -c 50000000 /dev/zero | tr '\\0' x", modest)
    assert (status, len(output)) == (0, LIMITS["output_bytes"])


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
