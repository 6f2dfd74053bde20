"""The cost of many sessions at once, beside the SDK of this name that the package index has."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

from _bench.tools import Figure, client_of, daemon
from sandkasten import SandboxClient as AsyncClient
from sandkasten._config import Target
from sandkasten_sync import SandboxClient, Session

_SESSIONS = 64
_EXECS_EACH = 20
_OBJECTS = 10_000
_WORKER = Path(__file__).with_name("worker.py")
_KEY = "bench-0123456789abcdef0123456789abcdef"


def figures() -> Iterator[Figure]:
    """All of this kind."""
    yield from execs_per_second()
    with daemon() as target, client_of(target) as client:
        if "processes" in client.health().extensions:
            yield asyncio.run(runs_per_second(target))
    yield memory_of_sessions()


def execs_per_second() -> Iterator[Figure]:
    """64 sessions that each run commands one after another, in one event loop."""
    with tempfile.TemporaryDirectory() as directory, server(Path(directory)) as (url, pid):
        other = published_sdk(Path(directory) / "published")
        if other is None:
            print("(the published SDK cannot be had here, so it is not measured)", file=sys.stderr)
        for _ in range(3):  # the first is for warmth
            floor = one_run(other, url, pid)["per_second"] if other else None
            value = one_run(None, url, pid)
        name = "execs per second, 64 sessions at once / SDK 0.3.0 over TCP"
        goal = 4 if floor else None
        yield Figure(name, floor, value["per_second"], goal=goal, unit="/s", at_least=True)
        parts = {part: value[f"{part}_usec"] for part in ("client", "daemon", "sandboxes")}
        name = "CPU per exec, 64 sessions at once: client + daemon + bash"
        yield Figure(name, None, sum(parts.values()), goal=1000, unit="µs")
        for part, usec in parts.items():
            yield Figure(f"CPU per exec, 64 sessions at once: {part}", None, usec, unit="µs")


async def runs_per_second(target: Target) -> Figure:
    """Many runs at once in one session, beside as many sessions that each run commands."""
    async with AsyncClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        made = await asyncio.gather(*(client.create_session(image="base") for _ in range(_SESSIONS)))
        execs = [partial(session.exec, "true") for session in made]
        runs = [partial(made[0].run, ["true"])] * _SESSIONS
        for _ in range(3):  # the first is for warmth
            floor, value = await per_second(execs), await per_second(runs)
        await asyncio.gather(*(session.destroy() for session in made))
    name = "64 runs at once in one session, per second / execs in 64 sessions"
    return Figure(name, floor, value, goal=0.8, unit="/s", at_least=True)


async def per_second(calls: list[Callable[[], Awaitable[object]]]) -> float:
    """Make each call some times, one after another, all of them beside one another."""

    async def work(call: Callable[[], Awaitable[object]]) -> None:
        for _ in range(_EXECS_EACH):
            await call()

    start = time.perf_counter()
    await asyncio.gather(*map(work, calls))
    return len(calls) * _EXECS_EACH / (time.perf_counter() - start)


def published_sdk(directory: Path) -> Path | None:
    """Fetch the SDK to compare with; None if there is no way to it."""
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(directory)]
    done = subprocess.run([*argv, "sandkasten==0.3.0"], capture_output=True, check=False)
    return directory if done.returncode == 0 else None


@contextlib.contextmanager
def server(directory: Path) -> Iterator[tuple[str, int]]:
    """Run the daemon as a server, on TCP, which both know; give its URL, and its process."""
    key_file, address = directory / "key", f"127.0.0.1:{free_port()}"
    key_file.write_text(_KEY, "ascii")
    key_file.chmod(0o600)
    argv = [sys.executable, "-P", "-m", "sandkasten.local", "serve", "--listen", address]
    argv += ["--api-key-file", str(key_file), "--data-dir", str(directory)]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        with SandboxClient(base_url=f"http://{address}", api_key=_KEY, max_retries=20) as client:
            client.health()
        yield f"http://{address}", process.pid
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """Find a port of loopback's that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def one_run(library: Path | None, url: str, pid: int) -> dict[str, float]:
    """Count in a process of its own, with the library that is to be counted."""
    environ = {"PYTHONPATH": str(library)} if library else {}
    told = subprocess.check_output(
        [sys.executable, "-P", str(_WORKER), url, _KEY, *map(str, (pid, _SESSIONS, _EXECS_EACH))], env=environ
    )
    found: dict[str, float] = json.loads(told)
    return found


def memory_of_sessions() -> Figure:
    """Measure the memory of the client for sessions that it only knows of."""
    client = SandboxClient(base_url="http://127.0.0.1:9")
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    sessions = [Session(client._connection, f"{number:08x}-abc") for number in range(_OBJECTS)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(sessions) == _OBJECTS
    return Figure("client memory for 10,000 sessions", None, (after - before) / 1e6, goal=10, unit="MB")
