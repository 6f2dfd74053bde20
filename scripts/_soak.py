"""Random work by many clients while shells, clients and the daemon are killed; `scripts/soak` runs this.

Each actor owns one workspace and remembers what was acknowledged to it: a file whose write returned must
be there with that content from then on, whatever is killed. A write in progress at a kill may or may not have
happened. In the end nothing may be left: every process whose parents were killed comes to this one,
which looks for them, and for directories, control groups and temporary files. A failure prints the seed
that brings it back.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sandkasten import (
    CapacityExceededError,
    ExecTimeoutError,
    SandboxClient,
    SandkastenAPIError,
    SandkastenConnectionError,
    SandkastenStreamError,
    Session,
    SessionExpiredError,
    SessionNotFoundError,
)
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from sandkasten.local.linux.processes import descendants

_PR_SET_CHILD_SUBREAPER = 36
_LEAVING_SECONDS = 20

# What an actor may meet when others kill things; everything else is a finding.
EXPECTED = (CapacityExceededError, SessionNotFoundError, SessionExpiredError)
LOST = (SandkastenConnectionError, SandkastenStreamError)


class FindingError(Exception):
    """Something that must not happen."""


class Machine:
    """The daemon, which is killed and started again."""

    def __init__(self, data_dir: Path) -> None:
        """Start it."""
        self._options = LocalOptions(data_dir=data_dir, max_sessions=60)
        self.places: set[Path] = set()
        self.daemon = self._start()
        self.kills = 0
        self.is_up = asyncio.Event()
        self.is_up.set()

    def client(self) -> SandboxClient:
        """Make a client of the daemon that runs now."""
        target = self.daemon.target
        return SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key, timeout=30)

    async def kill(self) -> None:
        """End the daemon without a word, and start the next."""
        self.is_up.clear()
        self.kills += 1
        os.kill(self.daemon.pid, signal.SIGKILL)
        dead = self.daemon
        self.daemon = await asyncio.to_thread(self._start)
        self.is_up.set()
        await asyncio.to_thread(dead.stop)

    async def stop(self) -> None:
        """End the daemon, after one more that was not killed: it removes what the ones before it left."""
        await asyncio.to_thread(self.daemon.stop)
        await asyncio.to_thread(self._start().stop)

    def _start(self) -> LocalDaemon:
        daemon = start_daemon(self._options)
        self.places.add(Path(daemon.target.socket_path or "").parent.parent)
        self.places |= control_groups(daemon.pid)
        return daemon


@dataclass
class Actor:
    """One user with one workspace."""

    number: int
    machine: Machine
    random: random.Random
    counts: Counter[str]
    files: dict[str, str] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    client: SandboxClient | None = None
    session: Session | None = None
    kills_seen: int = -1

    async def work_until(self, deadline: float) -> None:
        """Do one thing after another."""
        while time.monotonic() < deadline:
            await self._reach_the_daemon()
            action = self.random.choice(self._actions())
            try:
                await action()
                self.counts[action.__name__] += 1
            except EXPECTED:
                self.session = None
            except LOST as error:
                if self.kills_seen == self.machine.kills:
                    raise FindingError(f"actor {self.number}: {action.__name__}: {error!r}") from error
            except SandkastenAPIError as error:
                raise FindingError(f"actor {self.number}: {action.__name__}: {error!r}") from error
        await self._reach_the_daemon()
        await self.verify()
        await self._client.close()

    def _actions(self) -> list[Callable[[], Awaitable[None]]]:
        if self.session is None:
            return [self.create]
        often = [self.execute, self.write, self.read, self.stream]
        seldom = [self.kill_shell, self.time_out, self.leave_stream, self.destroy, self.verify]
        return [*often * 4, *seldom]

    async def _reach_the_daemon(self) -> None:
        await self.machine.is_up.wait()
        if self.kills_seen != self.machine.kills:
            if self.client is not None:
                await self.client.close()
            self.client, self.session = self.machine.client(), None
            self.kills_seen = self.machine.kills

    async def create(self) -> None:
        """Make a session on the workspace."""
        self.session = await self._client.create_session(workspace_id=f"actor-{self.number}", ttl_seconds=60)

    async def execute(self) -> None:
        """Run a command and look at its output."""
        number = self.random.randrange(10**6)
        result = await self._session.exec(f"x={number}; echo $((x + 1)); (exit {number % 7})")
        self._expect((result.output, result.exit_code), (f"{number + 1}\n", number % 7))

    async def stream(self) -> None:
        """Stream a command's output to its end."""
        lines = self.random.randrange(1, 2000)
        chunks = [chunk async for chunk in self._session.exec_stream(f"seq {lines}")]
        self._expect("".join(chunk.output for chunk in chunks), "".join(f"{n + 1}\n" for n in range(lines)))

    async def write(self) -> None:
        """Write a file, and count it as written when that returns."""
        name = f"file-{self.random.randrange(8)}"
        content = f"{self.random.random()}\n" * self.random.randrange(1, 500)
        self.unsure.add(name)
        await self._session.write(name, content)
        self.files[name] = content
        self.unsure.discard(name)

    async def read(self) -> None:
        """Read a file that was written."""
        names = [name for name in self.files if name not in self.unsure]
        if names:
            name = self.random.choice(names)
            self._expect((await self._session.read(name)).text, self.files[name])

    async def kill_shell(self) -> None:
        """End the shell from inside."""
        await self._session.exec("export KEPT=yes")
        await self._session.exec(self.random.choice(["kill -9 $$", "exit 3", "exec true", "kill -9 -1"]))
        self._expect((await self._session.exec("echo $KEPT")).output.strip().splitlines()[-1], "yes")

    async def time_out(self) -> None:
        """Run into a deadline."""
        try:
            await self._session.exec("sleep 30", timeout_ms=self.random.randrange(1, 300))
        except ExecTimeoutError:
            return
        raise FindingError("a command outran its deadline")

    async def leave_stream(self) -> None:
        """Leave a stream early."""
        async with self._session.exec_stream("echo begun; sleep 30") as stream:
            self._expect((await stream.__anext__()).output.splitlines()[-1], "begun")

    async def destroy(self) -> None:
        """End the session; the workspace stays."""
        await self._session.destroy()
        self.session = None

    async def verify(self) -> None:
        """Compare all files with what was acknowledged, without a session."""
        workspace = self._client.workspace(f"actor-{self.number}")
        for name in [name for name in self.files if name not in self.unsure]:
            self._expect((await workspace.read(name)).text, self.files[name])

    @property
    def _client(self) -> SandboxClient:
        assert self.client is not None
        return self.client

    @property
    def _session(self) -> Session:
        assert self.session is not None
        return self.session

    def _expect(self, seen: object, wanted: object) -> None:
        if seen != wanted:
            raise FindingError(f"actor {self.number} saw {seen!r:.300} and not {wanted!r:.300}")


async def soak(machine: Machine, seconds: float, actors: int, seed: int) -> Counter[str]:
    """Let the actors work, and kill the daemon now and then; returns what was done how often."""
    deadline = time.monotonic() + seconds
    counts: Counter[str] = Counter()
    crowd = [Actor(number, machine, random.Random(seed * 1000 + number), counts) for number in range(actors)]

    async def kill_now_and_then() -> None:
        while time.monotonic() < deadline - 10:
            await asyncio.sleep(random.Random(seed + machine.kills).uniform(5, 15))
            await machine.kill()

    try:
        async with asyncio.TaskGroup() as tasks:
            killer = tasks.create_task(kill_now_and_then())
            workers = [tasks.create_task(actor.work_until(deadline)) for actor in crowd]
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            killer.cancel()
    finally:
        await machine.stop()
    counts["daemon killed"] = machine.kills
    return counts


def adopt_orphans() -> None:
    """Become the parent of every process below this one that loses its own."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def control_groups(daemon_pid: int) -> set[Path]:
    """Return the groups that a daemon made in each tree of control groups."""
    return {
        Path(directory) / name
        for directory, names, _files in os.walk("/sys/fs/cgroup")
        for name in names
        if name.startswith(f"sandkasten-{daemon_pid}-")
    }


def what_is_left(places: set[Path], data_dir: Path) -> list[str]:
    """Name what should be gone; what is about to go has some time for that."""
    deadline = time.monotonic() + _LEAVING_SECONDS
    while left := [*_orphans(), *(str(place) for place in places if place.exists())]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    own = r"actor-\d+(/workspace(/file-\d)?)?"
    paths = (str(path.relative_to(data_dir / "workspaces")) for path in (data_dir / "workspaces").rglob("*"))
    return left + [path for path in paths if not re.fullmatch(own, path)]


def _orphans() -> Iterator[str]:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    for pid in descendants(os.getpid()):
        if pid != os.getpid():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                yield f"process {pid}: {words.decode(errors='replace'):.200}"


def main() -> None:
    """Read the arguments, soak, and print the result."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--actors", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    data_dir = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
    data_dir.chmod(0o711)
    adopt_orphans()
    machine = Machine(data_dir)
    try:
        counts = asyncio.run(soak(machine, arguments.seconds, arguments.actors, arguments.seed))
    except* FindingError as group:
        for finding in group.exceptions:
            print(f"FOUND with --seed {arguments.seed}: {finding}")
        sys.exit(1)
    else:
        left = what_is_left(machine.places, data_dir)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    for name, count in sorted(counts.items()):
        print(f"{count:8}  {name.replace('_', ' ')}")
    for thing in left:
        print(f"LEFT with --seed {arguments.seed}: {thing}")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
