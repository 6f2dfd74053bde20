"""The cost of one session for others: the time of a command while another session takes all it can get."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from functools import partial

from _bench.tools import Figure, Seconds, client_of, duration
from sandkasten import SandkastenError
from sandkasten._config import Target
from sandkasten.local.launch import LocalOptions, start_daemon
from sandkasten.local.limits.values import SessionLimits
from sandkasten_sync import SandboxClient, Session

_EXECS = 300
# Goals, in medians of the same commands in the same run while nothing else runs; where control groups bound
# all, as root's do on any machine.
_GOALS: dict[str, float | None] = {"p50": 1.5, "p99": 5} if os.geteuid() == 0 else {"p50": None, "p99": None}
# Less than this machine's own, so that each comes to its limit soon.
_LIMITS: SessionLimits = {"memory_bytes": "512m", "tmp_bytes": "64m"}
# Each makes a file `begun` once it is at work, and never ends.
_HOGS = {
    "a fork bomb": "f() { f | f & }; touch begun; f; while :; do sleep 1; done",
    "a memory hog": """
touch begun
while :; do python3 -c 'x = []
while True: x.append(bytearray(b"x" * (16 << 20)))'; done""",
    "a descriptor hog": """
for i in {1..100}; do python3 -c 'import os
while True:
    held = []
    try:
        while True: held.extend(os.pipe())
    except OSError: pass
    for descriptor in held: os.close(descriptor)' & done
touch begun; wait""",
    "a disk filler with fsync": """
touch begun
while :; do dd if=/dev/zero of=large bs=1M count=64 conv=fsync status=none; rm large; done""",
    "a flood of its terminal": "touch begun; yes 'some words that nobody is going to read'",
    "150,000 files": """
for d in {1..150}; do mkdir $d; (cd $d; touch {1..1000}); done
touch begun; while :; do for d in {1..150}; do echo x >$d/1; touch $d/{1..1000}; done; done""",
}


def figures() -> Iterator[Figure]:
    """All of this kind."""
    hogs = {name: [command] for name, command in _HOGS.items()}
    for name, commands in {**hogs, "all these at once": [*_HOGS.values()]}.items():
        with target_with_limits() as target, client_of(target) as client:
            yield from beside(client, target, name, commands)


@contextlib.contextmanager
def target_with_limits() -> Iterator[Target]:
    """Run a daemon whose sessions have small limits, and workspaces of its own."""
    with tempfile.TemporaryDirectory() as data_dir:
        running = start_daemon(LocalOptions(data_dir=data_dir, pool_size=0, limits=_LIMITS))
        try:
            yield running.target
        finally:
            running.stop()


def beside(client: SandboxClient, target: Target, name: str, hogs: list[str]) -> Iterator[Figure]:
    """Commands of one session, without and with what others do."""
    with client.create_session(image="base") as session:
        taken(session, 20)  # for warmth
        quiet_ms = statistics.median(taken(session, _EXECS)) * 1000
        with contextlib.ExitStack() as stack:
            for command in hogs:
                stack.enter_context(at_work(target, command))
            loud = statistics.quantiles(taken(session, _EXECS), n=100)
    for which, index in (("p50", 49), ("p99", 98)):
        what = f"exec {which} beside {name} / quiet p50"
        yield Figure(what, quiet_ms, loud[index] * 1000, goal=_GOALS[which])


def taken(session: Session, times: int) -> list[Seconds]:
    """The times that so many commands take."""
    return [duration(partial(session.exec, "true")) for _ in range(times)]


@contextlib.contextmanager
def at_work(target: Target, command: str) -> Iterator[None]:
    """Let a command run in a session of its own, from when it has begun on."""
    with client_of(target) as client:
        session = client.create_session(image="base")

        def work() -> None:
            with contextlib.suppress(SandkastenError), client_of(target) as other:
                other.get_session(session.id).exec(command, timeout_ms=600_000)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            while not any(entry.name == "begun" for entry in session.list(".")):
                assert thread.is_alive(), f"it ended: {command}"
            yield
        finally:
            with contextlib.suppress(SandkastenError):
                session.destroy()
            thread.join()
