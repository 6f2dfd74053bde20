"""Measure what Sandkasten costs beside the least it could cost; `scripts/bench` runs this.

What is compared is measured in turns, in the same run: a machine's speed varies more from hour to hour
than most changes to the code do, and a ratio of medians keeps still. To add a figure, write a function
that returns one, and yield it in `figures`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from sandkasten._config import Target
from sandkasten.local import bubblewrap, seccomp
from sandkasten.local.daemon import prepare
from sandkasten.local.files import Tree
from sandkasten.local.host import Identity, popen_identity
from sandkasten.local.launch import LocalOptions, start_daemon
from sandkasten.local.options import Options
from sandkasten.local.policy import SandboxPolicy
from sandkasten.local.processes import descendants
from sandkasten.local.rundir import run_dir
from sandkasten_sync import SandboxClient

Seconds = float


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        name: what was measured, and beside what.
        floor: the least it could cost; None if there is nothing to compare with.
        value: what it costs.
        unit: of both.
        goal: what the ratio of the two, or without a floor the value, should stay below; None is no goal yet.
    """

    name: str
    floor: float | None
    value: float
    goal: float | None = None
    unit: str = "ms"

    @property
    def ratio(self) -> float | None:
        """How many times the floor it costs."""
        return None if self.floor is None else self.value / self.floor

    @property
    def verdict(self) -> str:
        """Whether the goal is met."""
        if self.goal is None:
            return ""
        return "met" if (self.ratio or self.value) <= self.goal else "missed"


# ---- Measuring


def in_turns(rounds: int, *measurements: Callable[[], Seconds]) -> list[float]:
    """Take each measurement once per round, after one round for warmth; give their medians in ms."""
    rows = [[measure() for measure in measurements] for _ in range(rounds + 1)]
    return [statistics.median(column) * 1000 for column in zip(*rows[1:], strict=True)]


def duration(action: Callable[[], object]) -> Seconds:
    """Run something and say how long it took."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


# ---- The figures


def figures() -> Iterator[Figure]:
    """All there are."""
    yield import_time()
    with daemon(pool_size=0) as target, client_of(target) as client:
        yield from exec_true(client, target)
        yield first_command(client)
        yield echo_to_chunk(client)
    with daemon(pool_size=4) as target, client_of(target) as client:
        yield first_command_pooled(client)
    yield idle_session_memory()


def import_time() -> Figure:
    """Importing the client, beside importing the HTTP library that it cannot do without."""
    with tempfile.TemporaryDirectory() as cache:
        # Byte code is compiled in the round for warmth, for both alike, and not into the tree.
        environ = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ["PYTHONPYCACHEPREFIX"] = cache
        importing = [partial(import_once, name, environ) for name in ("httpx", "sandkasten_sync")]
        floor, value = in_turns(25, *importing)
    return Figure("import sandkasten_sync / import httpx", floor, value, goal=1.6)


def import_once(module: str, environ: Mapping[str, str]) -> Seconds:
    """Import a module in a fresh interpreter."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return float(subprocess.check_output([sys.executable, "-P", "-c", code], env=environ))


def exec_true(client: SandboxClient, target: Target) -> Iterator[Figure]:
    """A command that does nothing, beside a request that does nothing: the client's, and a bare one."""
    with client.create_session(image="base") as session, raw_health(target) as get_health:
        actions = get_health, client.health, partial(session.exec, "true")
        bare, health, value = in_turns(300, *(partial(duration, action) for action in actions))
    yield Figure('session.exec("true") / client.health()', health, value, goal=2)
    yield Figure('session.exec("true") / GET /healthz on a bare socket', bare, value)


@contextlib.contextmanager
def raw_health(target: Target) -> Iterator[Callable[[], None]]:
    """Give a function that asks for the daemon's health without any HTTP library."""
    assert target.socket_path is not None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(target.socket_path)

        def get_health() -> None:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: sandkasten.local\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):  # the body is one JSON object
                answer += connection.recv(65536)

        yield get_health


def first_command(client: SandboxClient) -> Figure:
    """A session up to the end of its first command, beside bubblewrap with the same arguments."""
    with bare_sandbox() as run_true:
        floor, value = in_turns(25, partial(duration, run_true), partial(session_once, client))
    return Figure("create_session + first exec, cold / bwrap ... bash -c true", floor, value, goal=2)


def first_command_pooled(client: SandboxClient) -> Figure:
    """The same with a session that was ready."""
    with bare_sandbox() as run_true:
        floor, value = in_turns(25, partial(duration, run_true), partial(pooled_session_once, client))
    return Figure("create_session + first exec, pooled / bwrap ... bash -c true", floor, value, goal=0.5)


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
    """What a session that does nothing takes: its processes' share, and what the daemon grew by."""
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
        tree = Tree(directory / "sessions" / "bench", settings.identity, durable=False)
        tree.create()
        policy = SandboxPolicy(
            settings.images["base"],
            tree.workspace,
            settings.etc,
            settings.seccomp,
            ulimit=settings.ulimit,
            tmp_bytes=settings.limits.tmp_bytes,
        )
        yield partial(run_bare, settings.bwrap, policy, settings.identity)
        settings.cgroups.close()


def run_bare(bwrap: str, policy: SandboxPolicy, identity: Identity) -> None:
    """Run `true` in a sandbox."""
    filter_inside = seccomp.descriptor(policy.seccomp)
    descriptors = bubblewrap.Descriptors(filter_inside)
    argv = bubblewrap.arguments(bwrap, policy, ["/bin/bash", "-c", "true"], descriptors)
    subprocess.run(argv, check=True, pass_fds=[filter_inside], **popen_identity(identity))
    os.close(filter_inside)


def echo_to_chunk(client: SandboxClient) -> Figure:
    """From the moment at which a running command prints to the chunk that the caller gets."""
    command = "for i in {1..100}; do echo $EPOCHREALTIME; sleep 0.02; done"  # its clock is the host's
    with client.create_session(image="base") as session, session.exec_stream(command) as stream:
        delays = [time.time() - float(chunk.output.split()[0]) for chunk in stream if not chunk.done]
    return Figure("echo to chunk", None, statistics.median(delays) * 1000)


@contextlib.contextmanager
def daemon(pool_size: int) -> Iterator[Target]:
    """Run an embedded daemon, with workspaces of its own."""
    with tempfile.TemporaryDirectory() as data_dir:
        running = start_daemon(LocalOptions(data_dir=data_dir, pool_size=pool_size))
        try:
            yield running.target
        finally:
            running.stop()


def client_of(target: Target) -> SandboxClient:
    """Make a client of a daemon that runs."""
    return SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key)


# ---- What is told


def as_table(rows: list[Figure]) -> str:
    """Show the figures to people."""
    line = "{:<62} {:>9} {:>9} {:<3} {:>6} {:>5}  {}".format
    head = line("figure", "floor", "value", "", "ratio", "goal", "").rstrip()
    lines = [
        line(
            row.name,
            number(row.floor),
            number(row.value),
            row.unit,
            number(row.ratio),
            number(row.goal),
            row.verdict,
        ).rstrip()
        for row in rows
    ]
    return "\n".join([head, "-" * len(head), *lines])


def number(value: float | None) -> str:
    """Show three digits, and a dash for nothing."""
    return "-" if value is None else f"{value:.3g}"


def as_json(rows: list[Figure]) -> str:
    """Show the figures to programs."""
    told = [asdict(row) | {"ratio": row.ratio} for row in rows]
    return json.dumps({"python": platform.python_version(), "figures": told}, indent=2)


def main() -> None:
    """Measure everything and tell."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure what Sandkasten costs.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    rows = list(figures())
    print(as_table(rows))
    if arguments.json is not None:
        arguments.json.write_text(as_json(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
