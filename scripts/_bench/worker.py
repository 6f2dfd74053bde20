"""Counts execs per second with whichever `sandkasten` it finds; a program of its own, for `_bench.many`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sandkasten import SandboxClient, Session


async def count(url: str, key: str, daemon_pid: int, sessions: int, execs_each: int) -> dict[str, float]:
    """Let each session run commands one after another, all at once; return the rate and the CPU times."""
    async with SandboxClient(base_url=url, api_key=key) as client:
        made = await asyncio.gather(*(client.create_session(image="base") for _ in range(sessions)))
        await asyncio.gather(*(work(session, 2) for session in made))
        before, start = Cpu.of(daemon_pid), time.perf_counter()
        await asyncio.gather(*(work(session, execs_each) for session in made))
        seconds, after = time.perf_counter() - start, Cpu.of(daemon_pid)
        await asyncio.gather(*(session.destroy() for session in made))
    execs = sessions * execs_each
    return {"per_second": execs / seconds} | {
        f"{name}_usec": (after[name] - before[name]) / execs * 1e6 for name in after
    }


async def work(session: Session, times: int) -> None:
    """Run a command so many times."""
    for _ in range(times):
        await session.exec("true")


class Cpu:
    """The CPU time of all who take part."""

    @staticmethod
    def of(daemon_pid: int) -> dict[str, float]:
        """Return the seconds that this client, the daemon, and the sandboxes below it took so far."""
        below = sum(map(seconds_of, descendants(daemon_pid)))
        return {"client": time.process_time(), "daemon": seconds_of(daemon_pid), "sandboxes": below}


def descendants(pid: int) -> Iterator[int]:
    """All processes below one."""
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            yield child
            yield from descendants(child)


def seconds_of(pid: int) -> float:
    """The CPU time of one process, and of those that it waited for."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


if __name__ == "__main__":
    url, key, *numbers = sys.argv[1:]
    print(json.dumps(asyncio.run(count(url, key, *map(int, numbers)))))
