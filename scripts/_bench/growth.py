"""The growth of costs: with sessions, a command's length, files in a directory, and sessions at work."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial

from _bench.tools import Figure, Seconds, client_of, duration, exponent
from _bench.worker import seconds_of
from sandkasten import SandkastenError
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from sandkasten_sync import SandboxClient, Session

_SESSIONS = (1, 64, 256, 1000)
_COMMAND_BYTES = (1_000, 10_000, 100_000, 1_000_000)
_FILES = (100, 1_000, 10_000)
_BUSY_SESSIONS, _BUSY_FILES = 64, 10_000
# A tenth of slack: figures of a few milliseconds are never that exact.
_FLAT, _LINEAR = 0.1, 1.1


def figures() -> Iterator[Figure]:
    """All of this kind."""
    with running() as daemon, client_of(daemon.target) as client:
        yield from commands_and_files(client)
        yield from sessions(client)
    with running() as daemon:
        yield from quota_walks(daemon)


@contextlib.contextmanager
def running() -> Iterator[LocalDaemon]:
    """Run a daemon for many sessions, with workspaces of its own."""
    with tempfile.TemporaryDirectory() as data_dir:
        daemon = start_daemon(LocalOptions(data_dir=data_dir, pool_size=0, max_sessions=1_100))
        try:
            yield daemon
        finally:
            daemon.stop()


def commands_and_files(client: SandboxClient) -> Iterator[Figure]:
    """Long commands, and long listings, in one session."""
    with client.create_session(image="base") as session:
        lengths = {size: median(21, session, f": {'x' * size}") for size in _COMMAND_BYTES}
        name = "growth of an exec with the command's length, 1 kB to 1 MB"
        yield Figure(name, None, exponent(lengths), goal=_LINEAR, unit="exponent")
        listings = {}
        for count in _FILES:
            session.exec(f"mkdir {count} && cd {count} && touch {{1..{count}}}; cd ..", timeout_ms=60_000)
            times = [duration(partial(session.list, str(count))) for _ in range(7)]
            listings[count] = statistics.median(times)
    name = "growth of a listing with its files, 100 to 10,000"
    yield Figure(name, None, exponent(listings), goal=_LINEAR, unit="exponent")


def sessions(client: SandboxClient) -> Iterator[Figure]:
    """A command and a new session, among ever more idle sessions."""
    made: list[Session] = []
    execs, creates = {}, {}
    for count in _SESSIONS:
        taken = []
        while len(made) < count:
            start = time.perf_counter()
            made.append(client.create_session(image="base"))
            taken.append(time.perf_counter() - start)
        creates[count] = statistics.median(taken[-21:])
        execs[count] = median(101, made[0], "true")
    for session in made:
        session.destroy()
    for name, costs in (("an exec", execs), ("create_session", creates)):
        what = f"growth of {name} with idle sessions, 1 to 1,000"
        yield Figure(what, None, exponent(costs), goal=_FLAT, unit="exponent")


def median(times: int, session: Session, command: str) -> Seconds:
    """The median time of a command, after one for warmth."""
    return statistics.median([duration(partial(session.exec, command)) for _ in range(times + 1)][1:])


def quota_walks(daemon: LocalDaemon, seconds: float = 10.0) -> Iterator[Figure]:
    """The daemon's CPU time beside many sessions with many files at work, and another session's commands."""
    with client_of(daemon.target) as client, client.create_session(image="base") as session:
        median(20, session, "true")
        quiet = p95(session, 200)
        with contextlib.ExitStack() as stack:
            for _ in range(_BUSY_SESSIONS):
                stack.enter_context(busy(client))
            before, start = seconds_of(daemon.pid), time.perf_counter()
            time.sleep(seconds)
            cores = (seconds_of(daemon.pid) - before) / (time.perf_counter() - start)
            loud = p95(session, 200)
    name = f"the daemon beside {_BUSY_SESSIONS} busy sessions of {_BUSY_FILES:,} files"
    yield Figure(name, None, cores, goal=0.1, unit="cores")
    yield Figure("exec p95 beside them / p95 of a quiet daemon", quiet * 1000, loud * 1000, goal=1.5)


def p95(session: Session, times: int) -> Seconds:
    """The time within which 95 of 100 commands end."""
    return statistics.quantiles([duration(partial(session.exec, "true")) for _ in range(times)], n=20)[-1]


@contextlib.contextmanager
def busy(client: SandboxClient) -> Iterator[None]:
    """Let a session of many files change one of them now and then, until the end."""
    session = client.create_session(image="base")
    session.exec(f"touch {{1..{_BUSY_FILES}}}", timeout_ms=120_000)

    def work() -> None:
        with contextlib.suppress(SandkastenError):
            session.exec("while :; do echo x >1; sleep 1; done", timeout_ms=600_000)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(SandkastenError):
            session.destroy()
        thread.join()
