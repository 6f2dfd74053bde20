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
import shutil
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
from sandkasten.local import bubblewrap
from sandkasten.local.files import Tree
from sandkasten.local.host import Identity, make_run_dir, popen_identity
from sandkasten.local.launch import LocalOptions, start_daemon
from sandkasten.local.policy import SandboxPolicy
from sandkasten.local.serve import prepare
from sandkasten_sync import SandboxClient

Seconds = float


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        name: what was measured, and beside what.
        floor_ms: the least it could cost; None if there is nothing to compare with.
        value_ms: what it costs.
        goal: what the ratio of the two, or without a floor the value, should stay below; None is no goal yet.
    """

    name: str
    floor_ms: float | None
    value_ms: float
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the floor it costs."""
        return None if self.floor_ms is None else self.value_ms / self.floor_ms

    @property
    def verdict(self) -> str:
        """Whether the goal is met."""
        if self.goal is None:
            return ""
        return "met" if (self.ratio or self.value_ms) <= self.goal else "missed"


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
    with daemon() as target, client_of(target) as client:
        yield exec_true(client, target)
        yield first_command(client)
        yield echo_to_chunk(client)


def import_time() -> Figure:
    """Importing the client, beside importing the HTTP library that it cannot do without."""
    with tempfile.TemporaryDirectory() as cache:
        # Byte code is compiled in the round for warmth, for both alike, and not into the tree.
        environ = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ["PYTHONPYCACHEPREFIX"] = cache
        importing = [partial(import_once, name, environ) for name in ("httpx", "sandkasten_sync")]
        floor_ms, value_ms = in_turns(25, *importing)
    return Figure("import sandkasten_sync / import httpx", floor_ms, value_ms, goal=1.6)


def import_once(module: str, environ: Mapping[str, str]) -> Seconds:
    """Import a module in a fresh interpreter."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return float(subprocess.check_output([sys.executable, "-P", "-c", code], env=environ))


def exec_true(client: SandboxClient, target: Target) -> Figure:
    """A command that does nothing, beside a request that does nothing, over the same Unix socket."""
    with client.create_session(image="base") as session, raw_health(target) as get_health:
        actions = get_health, partial(session.exec, "true")
        floor_ms, value_ms = in_turns(300, *(partial(duration, action) for action in actions))
    return Figure('session.exec("true") / GET /healthz on a bare socket', floor_ms, value_ms)


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
        floor_ms, value_ms = in_turns(25, partial(duration, run_true), partial(session_once, client))
    return Figure("create_session + first exec / bwrap ... bash -c true", floor_ms, value_ms)


def session_once(client: SandboxClient) -> Seconds:
    """Make a session and run a command; destroying it is not counted."""
    start = time.perf_counter()
    with client.create_session(image="base") as session:
        session.exec("true")
        return time.perf_counter() - start


@contextlib.contextmanager
def bare_sandbox() -> Iterator[Callable[[], object]]:
    """Give a function that runs `true` in a sandbox like the daemon's, without daemon or supervisor."""
    identity = Identity.of_this_process()
    run_dir = make_run_dir(identity)
    try:
        settings = prepare(run_dir, identity, asdict(LocalOptions()))
        tree = Tree(run_dir / "sessions" / "bench", identity, durable=False)
        tree.create()
        policy = SandboxPolicy(settings.images["base"], tree.workspace, settings.etc)
        argv = bubblewrap.arguments(settings.bwrap, policy, ["/bin/bash", "-c", "true"])
        yield partial(subprocess.run, argv, check=True, **popen_identity(identity))
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def echo_to_chunk(client: SandboxClient) -> Figure:
    """From the moment at which a running command prints to the chunk that the caller gets."""
    command = "for i in {1..100}; do echo $EPOCHREALTIME; sleep 0.02; done"  # its clock is the host's
    with client.create_session(image="base") as session, session.exec_stream(command) as stream:
        delays = [time.time() - float(chunk.output.split()[0]) for chunk in stream if not chunk.done]
    return Figure("echo to chunk", None, statistics.median(delays) * 1000)


@contextlib.contextmanager
def daemon() -> Iterator[Target]:
    """Run an embedded daemon, with workspaces of its own."""
    with tempfile.TemporaryDirectory() as data_dir:
        running = start_daemon(LocalOptions(data_dir=data_dir))
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
    line = "{:<54} {:>9} {:>9} {:>6} {:>5}  {}".format
    head = line("figure", "floor ms", "value ms", "ratio", "goal", "").rstrip()
    lines = [
        line(row.name, *map(number, (row.floor_ms, row.value_ms, row.ratio, row.goal)), row.verdict).rstrip()
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
