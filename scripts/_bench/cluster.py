"""The cost of a cluster: the same calls through a gateway, and to a daemon of the same machine directly.

Three nodes of Ray on one machine share its cores, so a ratio is what the way through the gateway costs, and
not what three machines bring. `scripts/bench --cluster` measures it, with Ray in an environment of its own.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from _bench.tools import Figure, client_of, daemon, duration, in_turns
from sandkasten_sync import SandboxClient, Session

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.ray.cluster import Cluster, running

_NODES = 3
_AT_ONCE = 8
_SECONDS = 10.0
_SPREAD = 300
_STREAMED_BYTES = 64 * 1024 * 1024


def figures() -> Iterator[Figure]:
    """All of this kind."""
    home = Path(tempfile.mkdtemp(prefix="sk-ray-", dir="/tmp"))  # short: Ray's sockets are below it
    home.chmod(0o711)
    try:
        with ExitStack() as stack:
            cluster = stack.enter_context(running(home, _NODES, _SPREAD))
            gateway = stack.enter_context(cluster.gateways[0].client())
            direct = stack.enter_context(client_of(stack.enter_context(daemon())))
            yield from commands(direct, gateway)
            yield sessions_a_second(direct, gateway)
            yield streamed(direct, gateway)
            yield from spread(cluster, gateway)
            yield failure_of_a_node(cluster, gateway)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def commands(direct: SandboxClient, gateway: SandboxClient) -> Iterator[Figure]:
    """A command, and a session with its first command."""
    with direct.create_session(image="base") as near, gateway.create_session(image="base") as far:
        floor, value = in_turns(300, *(partial(duration, partial(one.exec, "true")) for one in (near, far)))
    yield Figure("cluster: exec through a gateway / directly", floor, value, goal=1.6)
    yield Figure("cluster: exec through a gateway, beyond one directly", None, value - floor, goal=1.0)
    floor, value = in_turns(
        15, *(partial(duration, partial(first_command, one)) for one in (direct, gateway))
    )
    yield Figure("cluster: create + exec + destroy through a gateway / directly", floor, value, goal=3)


def first_command(client: SandboxClient) -> None:
    """Make a session, run a command, and end it."""
    with client.create_session(image="base") as session:
        session.exec("true")


def sessions_a_second(direct: SandboxClient, gateway: SandboxClient) -> Figure:
    """Sessions with a command that are made and ended, some at a time."""

    def rate(client: SandboxClient) -> float:
        end = time.monotonic() + _SECONDS

        def work(_number: int) -> int:
            done = 0
            while time.monotonic() < end:
                first_command(client)
                done += 1
            return done

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return sum(threads.map(work, range(_AT_ONCE))) / _SECONDS

    name = f"cluster: sessions a second, {_AT_ONCE} at a time, through a gateway / one daemon"
    return Figure(name, rate(direct), rate(gateway), goal=0.75, unit="/s", at_least=True)


def streamed(direct: SandboxClient, gateway: SandboxClient) -> Figure:
    """Output that is read live."""
    command = f"head -c {_STREAMED_BYTES} /dev/zero | tr '\\0' '\\n'"

    def read(session: Session) -> None:
        with session.exec_stream(command) as stream:
            assert sum(len(chunk.output) for chunk in stream) == _STREAMED_BYTES

    with direct.create_session(image="base") as near, gateway.create_session(image="base") as far:
        floor, value = in_turns(3, *(partial(duration, partial(read, one)) for one in (near, far)))
    rates = [_STREAMED_BYTES / 1e6 / (milliseconds / 1000) for milliseconds in (floor, value)]
    name = "cluster: a stream through a gateway / directly"
    return Figure(name, *rates, goal=0.7, unit="MB/s", at_least=True)


def spread(cluster: Cluster, gateway: SandboxClient) -> Iterator[Figure]:
    """Many sessions at once: how evenly they are spread, and what Ray has for each of them."""
    before = ray_processes()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        made = list(threads.map(lambda _: gateway.create_session(image="base"), range(_SPREAD)))
        counts = Counter(session.id.partition("-")[0] for session in made)
        more = ray_processes() - before
        list(threads.map(Session.destroy, made))
    assert len(counts) == len(cluster.nodes()) == _NODES
    farthest = max(abs(count - _SPREAD / _NODES) for count in counts.values()) / (_SPREAD / _NODES) * 100
    yield Figure(f"cluster: {_SPREAD} sessions, farthest from the even share", None, farthest, 10, "%")
    yield Figure(f"cluster: processes of Ray for {_SPREAD} sessions", None, more, 0, "")


def ray_processes() -> int:
    """Return how many processes of Ray there are on this machine."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        found += words.startswith(b"ray::") or b"/ray/core/src/ray/" in words
    return found


def failure_of_a_node(cluster: Cluster, gateway: SandboxClient) -> Figure:
    """Kill a node; how long the commands that run on it take to fail."""
    from tests.ray.test_cluster import killed  # noqa: PLC0415  (with pytest)

    processes = cluster.nodes()
    tag = max(processes, key=lambda each: processes[each]["raylet"])  # not the head
    made = [gateway.create_session(image="base") for _ in range(3 * _NODES)]
    lost = [session for session in made if session.id.startswith(f"{tag}-")]
    assert lost
    times: list[float] = []
    begun = threading.Barrier(len(lost) + 1)

    def run(session: Session) -> None:
        begun.wait()
        failed_at(lambda: session.exec("sleep 60"), times)

    with ThreadPoolExecutor(len(lost)) as threads:
        running_ones = [threads.submit(run, session) for session in lost]
        begun.wait()
        time.sleep(1)  # until they run
        at = time.monotonic()
        killed(processes[tag])
        for each in running_ones:
            each.result()
    return Figure(
        "cluster: a node is killed, until its last command has failed",
        None,
        (max(times) - at) * 1000,
        goal=2000,
    )


def failed_at(call: Callable[[], object], times: list[float]) -> None:
    """Note when a call failed because its session was gone."""
    from sandkasten.errors import SessionNotFoundError  # noqa: PLC0415

    try:
        call()
    except SessionNotFoundError:
        times.append(time.monotonic())
