"""The cost of processes beside the shell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from _bench_tools import Figure, client_of, daemon, duration, in_turns

import sandkasten
from sandkasten._config import Target
from sandkasten_sync import SandboxClient, Session

_OUTPUT_BYTES = 256 * 1024 * 1024
_AT_ONCE = 64
_EACH = 10


def figures() -> Iterator[Figure]:
    """All of this kind; none where sandboxes cannot start programs."""
    with daemon() as target, client_of(target) as client:
        if "processes" not in client.health().extensions:
            return
        yield run_true(client)
        yield output(client)
        yield asyncio.run(many_at_once(target))


def run_true(client: SandboxClient) -> Figure:
    """A program that does nothing, beside a command of the shell that does nothing."""
    with client.create_session(image="base") as session:
        actions = partial(session.exec, "true"), partial(session.run, ["true"])
        floor, value = in_turns(300, *(partial(duration, action) for action in actions))
    return Figure('session.run(["true"]) / session.exec("true")', floor, value, goal=1.5)


def output(client: SandboxClient) -> Figure:
    """Much output of a process, beside as much in a stream of the shell's."""
    command = f"head -c {_OUTPUT_BYTES} /dev/zero | tr '\\0' x | fold -w 16383"
    with client.create_session(image="base") as session:
        stream, process = partial(read_stream, session, command), partial(read_process, session, command)
        floor_ms, value_ms = in_turns(2, partial(duration, stream), partial(duration, process))
    mb = _OUTPUT_BYTES / 1e6
    floor, value = mb / floor_ms * 1000, mb / value_ms * 1000
    name = "stdout of 256 MiB through start / through a stream"
    return Figure(name, floor, value, goal=0.6, unit="MB/s", at_least=True)


def read_stream(session: Session, command: str) -> None:
    """Read the output of a command."""
    with session.exec_stream(command, timeout_ms=120_000) as chunks:
        for _ in chunks:
            pass


def read_process(session: Session, command: str) -> None:
    """Read the output of a process."""
    with session.start(command) as process:
        for _ in process:
            pass


async def many_at_once(target: Target) -> Figure:
    """Many runs at once in one session, beside as many sessions that each run commands."""
    async with sandkasten.SandboxClient(
        base_url=f"unix://{target.socket_path}", api_key=target.api_key
    ) as client:
        made = await asyncio.gather(*(client.create_session(image="base") for _ in range(_AT_ONCE)))
        execs = [partial(session.exec, "true") for session in made]
        runs = [partial(made[0].run, ["true"])] * _AT_ONCE
        for _ in range(3):  # the first is for warmth
            floor, value = await per_second(execs), await per_second(runs)
        await asyncio.gather(*(session.destroy() for session in made))
    name = "64 runs at once in one session, per second / execs in 64 sessions"
    return Figure(name, floor, value, goal=0.8, unit="/s", at_least=True)


async def per_second(calls: list[Callable[[], Awaitable[object]]]) -> float:
    """Make each call some times, one after another, all of them beside one another."""

    async def work(call: Callable[[], Awaitable[object]]) -> None:
        for _ in range(_EACH):
            await call()

    start = time.perf_counter()
    await asyncio.gather(*map(work, calls))
    return len(calls) * _EACH / (time.perf_counter() - start)
