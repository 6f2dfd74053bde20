"""Many sessions at once, and nothing left of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandkasten import SandboxClient, Session
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from sandkasten.local.linux.processes import descendants
from tests.local.box import control_groups
from tests.processes import descriptors_of

SESSIONS = 64


@pytest.fixture
def own_daemon(data_dir: Path) -> Iterator[LocalDaemon]:
    daemon = start_daemon(LocalOptions(data_dir=data_dir, pool_size=0))
    yield daemon
    daemon.stop()


@pytest.mark.timeout(180)
def test_sessions_work_at_once_and_leave_nothing(own_daemon: LocalDaemon) -> None:
    target = own_daemon.target
    before = leftovers(own_daemon)

    async def use(session: Session, number: int) -> None:
        await session.exec(f"export NUMBER={number}; cd /tmp; sleep 100 & setsid sleep 100 &")
        await session.write(f"file-{number}", str(number))
        for _ in range(3):
            result = await session.exec("echo $NUMBER $PWD; cat /workspace/file-*")
            assert result.output == f"{number} /tmp\n{number}"

    async def main() -> None:
        async with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
            await client.health()
            sessions = await asyncio.gather(*(client.create_session() for _ in range(SESSIONS)))
            assert len({session.id for session in sessions}) == SESSIONS
            await asyncio.gather(*(use(session, number) for number, session in enumerate(sessions)))
            assert len(await client.list_sessions()) == SESSIONS
            await asyncio.gather(*(session.destroy() for session in sessions))
            assert await client.list_sessions() == []

    asyncio.run(main())
    eventually(lambda: leftovers(own_daemon) <= before)
    assert leftovers(own_daemon) - before == Counter()


def leftovers(daemon: LocalDaemon) -> Counter[str]:
    """Count the resources that sessions take from the machine, as seen from outside.

    A daemon that has just started may still hold what it clears away after others, and fewer later.
    """
    run_dir = Path(daemon.target.socket_path or "").parent.parent
    found = Counter(target.split(":")[0] for target in descriptors_of(daemon.pid))
    found["processes"] = len(list(descendants(daemon.pid)))
    found["directories"] = len(list((run_dir / "sessions").iterdir()))
    found["mounts"] = len(Path(f"/proc/{daemon.pid}/mounts").read_text().splitlines())
    found["groups"] = len(control_groups(daemon.pid))
    return found


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
