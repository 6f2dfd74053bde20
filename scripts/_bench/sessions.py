"""The cost of sessions and commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from _bench.bare import Asking, Requests, ask, connected, recorded
from _bench.tools import Figure, Seconds, client_of, daemon, duration, in_turns, plain_sandbox
from sandkasten import SandboxClient as AsyncClient
from sandkasten._config import Target
from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.rundir import run_dir
from sandkasten.local.files.tree import Tree
from sandkasten.local.identity import Identity, popen_identity
from sandkasten.local.isolation import bubblewrap, seccomp
from sandkasten.local.isolation.backend import BubblewrapBackend, Wanted
from sandkasten.local.isolation.policy import SandboxPolicy
from sandkasten.local.launch import LocalOptions, start_daemon
from sandkasten.local.linux.processes import descendants
from sandkasten.local.options import Options
from sandkasten.local.sessions.preparing import prepare
from sandkasten_sync import SandboxClient, Session

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.wheels import make_wheel, serving

# After this long an interpreter is ready ahead of its first code.
_SPARE_SECONDS = 0.5


def figures() -> Iterator[Figure]:
    """All of this kind."""
    with daemon() as target, client_of(target) as client:
        yield from exec_true(client, target)
        if "processes" in client.health().extensions:
            yield run_true(client)
        if "python" in client.health().extensions:
            yield from python_that_remembers(client)
        yield from first_command(client)
        yield echo_to_chunk(client)
    with daemon(pool_size=4) as target, client_of(target) as client:
        yield first_command_pooled(client)
    yield idle_session_memory()
    yield same_packages()


def exec_true(client: SandboxClient, target: Target) -> Iterator[Figure]:
    """A command that does nothing, beside the same request on a bare socket, and one that does nothing."""
    with client.create_session(image="base") as session, connected(target.socket_path) as connection:
        requests = exec_requests(target, session.id)
        actions = lambda: ask(connection, requests.next()), client.health, partial(session.exec, "true")
        bare, health, value = in_turns(300, *(partial(duration, action) for action in actions))
        floor_async, value_async = asyncio.run(exec_true_async(target, session.id, requests))
    yield Figure('session.exec("true") / the same bytes on a bare socket', bare, value, goal=1.5)
    name = 'await session.exec("true") / the same bytes on a bare connection of asyncio'
    yield Figure(name, floor_async, value_async, goal=1.5)
    yield Figure('session.exec("true") / client.health()', health, value, goal=2)
    with client.create_session(image="base") as session:
        (value,) = in_turns(30, partial(duration, partial(session.exec, f": {'x' * 100_000}")))
    yield Figure("session.exec of a command of 100 kB", None, value, goal=5)


def exec_requests(target: Target, session_id: str) -> Requests:
    """Return the request that `session.exec("true")` sends."""

    def call(url: str) -> None:
        with SandboxClient(base_url=url, api_key=target.api_key) as client:
            client.get_session(session_id).exec("true")

    return recorded(target.socket_path, call)


async def exec_true_async(target: Target, session_id: str, requests: Requests) -> list[float]:
    """Return the medians of the bytes and of the call in an event loop, in ms."""
    loop = asyncio.get_running_loop()
    transport, asking = await loop.create_unix_connection(Asking, target.socket_path)
    async with AsyncClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        session = await client.get_session(session_id)
        rows = []
        for _ in range(301):
            bare = await duration_async(lambda: asking.ask(requests.next()))
            rows.append((bare, await duration_async(lambda: session.exec("true"))))
    transport.close()
    return [statistics.median(column) * 1000 for column in zip(*rows[1:], strict=True)]


async def duration_async(call: Callable[[], Awaitable[object]]) -> Seconds:
    """Wait for something and return how long it took."""
    start = time.perf_counter()
    await call()
    return time.perf_counter() - start


def run_true(client: SandboxClient) -> Figure:
    """A program that does nothing, beside a command of the shell that does nothing."""
    with client.create_session(image="base") as session:
        actions = partial(session.exec, "true"), partial(session.run, ["true"])
        floor, value = in_turns(300, *(partial(duration, action) for action in actions))
    return Figure('session.run(["true"]) / session.exec("true")', floor, value, goal=1.5)


def python_that_remembers(client: SandboxClient) -> Iterator[Figure]:
    """Code in an interpreter that is kept, and in one that was started ahead."""
    with client.create_session(image="base") as session:
        actions = partial(session.exec, "true"), partial(session.python, "print(1)")
        floor, value = in_turns(300, *(partial(duration, action) for action in actions))
        alone = partial(duration, partial(session.exec, "python3 -c 'print(1)'"))
        python, fresh = in_turns(20, alone, partial(in_fresh_context, session))
    yield Figure('session.python("print(1)") / session.exec("true")', floor, value, goal=1.2)
    yield Figure('session.python("print(1)")', None, value, goal=1)
    yield Figure('session.python("print(1)"), fresh / exec("python3 -c ...")', python, fresh, goal=0.5)
    yield Figure('session.python("print(1)"), in a fresh context', None, fresh, goal=5)


def same_packages() -> Figure:
    """A session with packages that a session before had, beside one without; neither comes from the pool."""
    with tempfile.TemporaryDirectory() as folder:
        make_wheel(Path(folder), "tool")
        with serving(Path(folder)) as index, packaged(index.url) as client:
            floor, value = in_turns(25, partial(made, client), partial(made, client, packages=["tool"]))
    return Figure("create_session with packages, again / without", floor, value, goal=1.2)


@contextlib.contextmanager
def packaged(index: str) -> Iterator[SandboxClient]:
    """Make a client of a daemon that takes packages from an index."""
    with daemon(package_index=index) as target, client_of(target) as client:
        yield client


def made(client: SandboxClient, **options: Any) -> Seconds:
    """Make a session, and end it after that was measured."""
    began = time.perf_counter()
    session = client.create_session(image="python", **options)
    seconds = time.perf_counter() - began
    session.destroy()
    return seconds


def in_fresh_context(session: Session) -> Seconds:
    """Run code in an interpreter that has run none, once the next of them is ready."""
    time.sleep(_SPARE_SECONDS)
    with session.python_context("fresh") as context:
        return duration(partial(context.run, "print(1)"))


def first_command(client: SandboxClient) -> Iterator[Figure]:
    """A session up to the end of its first command, beside bubblewrap with the same arguments."""
    with bare_sandbox() as run_true:
        plain = partial(subprocess.run, [*plain_sandbox(), "/bin/bash", "-c", "true"], check=True)
        actions = partial(duration, run_true), partial(duration, plain), partial(session_once, client)
        floor, least, value = in_turns(25, *actions)
    yield Figure("create_session + first exec, cold / bwrap ... bash -c true", floor, value, goal=1.7)
    yield Figure("create_session + first exec without a pool / the least of a bwrap", least, value, goal=2)


def first_command_pooled(client: SandboxClient) -> Figure:
    """The same with a session that was ready."""
    with bare_sandbox() as run_true:
        floor, value = in_turns(25, partial(duration, run_true), partial(pooled_session_once, client))
    return Figure("create_session + first exec, pooled / bwrap ... bash -c true", floor, value, goal=0.3)


def pooled_session_once(client: SandboxClient) -> Seconds:
    """Make sessions until one comes from the pool, and run a command in it."""
    while True:
        time.sleep(0.2)  # the pool fills in the background, and would do so at the cost of what is measured
        start = time.perf_counter()
        with client.create_session(image="base") as session:
            session.exec("true")
            taken = time.perf_counter() - start
            if session.info().acquire_source == "pool":
                return taken


def idle_session_memory(sessions: int = 50) -> Figure:
    """Measure the memory of an idle session: its processes' share, and the daemon's growth."""
    running = start_daemon(LocalOptions(pool_size=0))
    with client_of(running.target) as client:
        client.health()
        before = memory_bytes(running.pid)
        for _ in range(sessions):
            client.create_session(image="base").exec("true")
        grown = memory_bytes(running.pid) - before
    running.stop()
    return Figure("memory of an idle session", None, grown / sessions / 1e6, goal=8, unit="MB")


def memory_bytes(pid: int) -> int:
    """The proportional share of a process and all below it."""
    shares = []
    for member in descendants(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text("ascii").splitlines()
            shares.append(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")))
    return sum(shares) * 1024


def session_once(client: SandboxClient) -> Seconds:
    """Make a session and run a command; destroying it is not counted."""
    start = time.perf_counter()
    with client.create_session(image="base") as session:
        session.exec("true")
        return time.perf_counter() - start


@contextlib.contextmanager
def bare_sandbox() -> Iterator[Callable[[], object]]:
    """Give a function that runs `true` in a sandbox like the daemon's, without daemon or supervisor."""
    with run_dir(Identity.of_this_process()) as directory:
        settings = prepare(directory, Identity.of_this_process(), Options())
        root = directory / "sessions" / "bench"
        tree = Tree(root, StagingIn(root), settings.identity, durable=False)
        tree.create()
        isolation = settings.isolation
        assert isinstance(isolation, BubblewrapBackend)
        policy = isolation.policy(Wanted(isolation.images["base"], tree.workspace))
        yield partial(run_bare, isolation.bwrap, policy, settings.identity)
        settings.cgroups.close()


def run_bare(bwrap: str, policy: SandboxPolicy, identity: Identity) -> None:
    """Run `true` in a sandbox."""
    filter_inside = seccomp.descriptor(policy.seccomp)
    descriptors = bubblewrap.Descriptors(filter_inside)
    argv = bubblewrap.arguments(bwrap, policy, ["/bin/bash", "-c", "true"], descriptors)
    user = popen_identity(identity, drops_later=bool(policy.carrier))
    subprocess.run(argv, check=True, pass_fds=[filter_inside], **user)
    os.close(filter_inside)


def echo_to_chunk(client: SandboxClient) -> Figure:
    """From the moment at which a running command prints to the chunk that the caller gets."""
    command = "for i in {1..100}; do echo $EPOCHREALTIME; sleep 0.02; done"  # its clock is the host's
    with client.create_session(image="base") as session, session.exec_stream(command) as stream:
        delays = [time.time() - float(chunk.output.split()[0]) for chunk in stream if not chunk.done]
    return Figure(
        "echo in the sandbox to chunk in the client's hands", None, statistics.median(delays) * 1000, goal=5
    )
