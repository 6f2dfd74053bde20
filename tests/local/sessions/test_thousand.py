"""A service with a thousand sessions on one client, and nothing left of them on either side."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandkasten import SandboxClient, Session
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon

from .test_many import eventually, leftovers

SESSIONS = 1000
EXECS_EACH = 3
CREATED_AT_ONCE = 50
MIB = 1024 * 1024
# For one of a thousand calls at once; the client itself would wait for 120 and more.
CALL_SECONDS = 600


@pytest.fixture
def own_daemon(data_dir: Path) -> Iterator[LocalDaemon]:
    daemon = start_daemon(LocalOptions(data_dir=data_dir, pool_size=0))
    yield daemon
    daemon.stop()


@pytest.fixture
def enough_descriptors() -> Iterator[None]:
    """As docs/many.md says: a connection for each command that runs, and many users may have 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(1200)  # what must not take long is one call; all together take what the machine has left
@pytest.mark.usefixtures("enough_descriptors")
def test_a_thousand_sessions_run_three_thousand_commands(own_daemon: LocalDaemon) -> None:
    target = own_daemon.target
    before = leftovers(own_daemon)

    async def create(client: SandboxClient, at_once: asyncio.Semaphore) -> Session:
        async with at_once, asyncio.timeout(CALL_SECONDS):
            return await client.create_session(image="base")

    async def output_of(session: Session, command: str) -> str:
        async with asyncio.timeout(CALL_SECONDS):
            return (await session.exec(command)).output

    async def work(session: Session, number: int) -> int:
        await output_of(session, f"number={number}")
        for _ in range(EXECS_EACH - 1):
            assert await output_of(session, "echo $number") == f"{number}\n"
        return EXECS_EACH

    async def use(count: int) -> int:
        async with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
            at_once = asyncio.Semaphore(CREATED_AT_ONCE)
            sessions = await asyncio.gather(*(create(client, at_once) for _ in range(count)))
            done = await asyncio.gather(*(work(session, number) for number, session in enumerate(sessions)))
            await asyncio.gather(*(session.destroy() for session in sessions))
            assert await client.list_sessions() == []
        return sum(done)

    async def main() -> None:
        await use(20)  # what is loaded once is loaded
        held = holdings()
        assert await use(SESSIONS) == SESSIONS * EXECS_EACH
        await until_given_back(held)

    asyncio.run(main())
    eventually(lambda: leftovers(own_daemon) <= before)
    assert leftovers(own_daemon) - before == Counter()


async def until_given_back(held: dict[str, int]) -> None:
    """Wait until no more is held than before: connections may still be closing."""
    allowed = {**held, "objects": held["objects"] + 1000, "memory_bytes": held["memory_bytes"] + 64 * MIB}
    for _ in range(300):
        after = holdings()
        if all(after[name] <= most for name, most in allowed.items()):
            return
        await asyncio.sleep(0.1)
    assert after == allowed  # shows what is too much


def holdings() -> dict[str, int]:
    """Return the resources that this process holds at the moment."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()),
        "memory_bytes": pages * resource.getpagesize(),
    }
