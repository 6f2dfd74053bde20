"""Roll out many episodes at once, each in a sandbox of its own, as reinforcement learning does.

    pip install '.[local]'
    python docs/examples/rl_fanout.py 200

A policy proposes programs, the sandbox runs them, a test gives the reward. The policy here is a toy: put a
model in its place. The shape is what counts: hundreds of sessions in one event loop, as many at once
as the machine bears, and an episode that fails is a reward of 0, not the end of the others.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from dataclasses import dataclass

from sandkasten import ExecTimeoutError, SandboxClient, SandkastenError, Session

CONCURRENCY = 16
MAX_STEPS = 3
TIMEOUT_MS = 5_000

TEST = "python3 -S -c 'from solution import double; assert [double(n) for n in (0, 1, 21)] == [0, 2, 42]'"
PROPOSALS = [
    "def double(n): return n + n\n",
    "def double(n): return n * n\n",
    "def double(n): return 2 n\n",
    "def double(n): return n << 1\n",
]


@dataclass(frozen=True)
class Episode:
    """The result of one episode."""

    reward: float
    steps: int
    seconds: float
    failed: bool = False


def propose(chance: random.Random, _observation: str) -> str:
    """The policy: put a model here, which reads what the last test said."""
    return chance.choice(PROPOSALS)


async def roll_out(session: Session, seed: int) -> Episode:
    """Let the policy try until the test passes; each attempt costs a little."""
    chance, observation, started = random.Random(seed), "", time.monotonic()  # noqa: S311
    for step in range(1, MAX_STEPS + 1):
        await session.write("solution.py", propose(chance, observation))
        try:
            result = await session.exec(TEST, timeout_ms=TIMEOUT_MS)
        except ExecTimeoutError as error:
            observation = error.output
            continue
        if result.ok:
            return Episode(1 - 0.1 * (step - 1), step, time.monotonic() - started)
        observation = result.output
    return Episode(0, MAX_STEPS, time.monotonic() - started)


async def episode(session: Session, seed: int) -> Episode:
    """Run one episode; a sandbox that failed is a reward of 0."""
    try:
        return await roll_out(session, seed)
    except SandkastenError:
        return Episode(0, 0, 0, failed=True)


async def main(count: int) -> None:
    """Run the episodes, and print a summary."""
    started = time.monotonic()
    async with SandboxClient() as client:
        episodes = await client.map(episode, range(count), concurrency=CONCURRENCY)
    seconds = time.monotonic() - started
    summary = {
        "episodes": len(episodes),
        "failed": sum(one.failed for one in episodes),
        "solved": sum(one.reward > 0 for one in episodes),
        "mean_reward": round(statistics.fmean(one.reward for one in episodes), 3),
        "mean_steps": round(statistics.fmean(one.steps for one in episodes), 2),
        "median_episode_ms": round(1000 * statistics.median(one.seconds for one in episodes)),
        "episodes_per_second": round(len(episodes) / seconds, 1),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
