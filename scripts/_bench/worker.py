"""Counts execs per second with whichever `sandkasten` it finds; a program of its own, for `_bench.many`."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from sandkasten import SandboxClient, Session


async def count(url: str, key: str, sessions: int, execs_each: int) -> float:
    """Let each session run commands one after another, all at once."""
    async with SandboxClient(base_url=url, api_key=key) as client:
        made = await asyncio.gather(*(client.create_session(image="base") for _ in range(sessions)))
        await asyncio.gather(*(work(session, 2) for session in made))
        start = time.perf_counter()
        await asyncio.gather(*(work(session, execs_each) for session in made))
        seconds = time.perf_counter() - start
        await asyncio.gather(*(session.destroy() for session in made))
    return sessions * execs_each / seconds


async def work(session: Session, times: int) -> None:
    """Run a command so many times."""
    for _ in range(times):
        await session.exec("true")


if __name__ == "__main__":
    url, key, *numbers = sys.argv[1:]
    print(json.dumps(asyncio.run(count(url, key, *map(int, numbers)))))
