"""An embedded daemon whose sessions live by a clock that the test holds.

`python -m tests.held DESCRIPTOR` is the daemon; `HeldDaemon` starts it and moves its clock.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sandkasten._config import LOCAL_URL, Target
from sandkasten.local import daemon, embedded, launch
from sandkasten.local.clock import Clock
from sandkasten.local.launch import LocalDaemon
from sandkasten.local.options import Options

ROOT = Path(__file__).resolve().parents[1]


class HeldDaemon(LocalDaemon):
    """The real daemon; in its sessions' lives no time passes but what a test lets pass."""

    def __init__(self, data_dir: Path) -> None:
        self._ours, theirs = socket.socketpair()
        channel, spoken_to = socket.socketpair()
        with theirs, spoken_to:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.held", str(theirs.fileno())],
                stdin=spoken_to,
                stdout=spoken_to,
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                start_new_session=True,
            )
        key = secrets.token_urlsafe(32)
        answer = launch._exchange(channel, {"api_key": key, "data_dir": str(data_dir), "owner": None})
        target = Target(base_url=LOCAL_URL, api_key=key, socket_path=answer["socket_path"])
        super().__init__(process, channel, target)

    def advance(self, seconds: float) -> None:
        """Let time pass; what falls due in it has happened when this returns."""
        self._ours.sendall(f"{seconds}\n".encode())
        assert self._ours.recv(1) == b"."

    def stop(self) -> None:
        super().stop()
        self._ours.close()


class _Timer:
    def __init__(self, function: Callable[[], None]) -> None:
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        self.function = None


class _HeldClock(Clock):
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._now = datetime.now(UTC)
        self._numbers = itertools.count()  # timers of one moment are called in the order they were set
        self._timers: list[tuple[datetime, int, _Timer]] = []

    def now(self) -> datetime:
        return self._now

    def call_later(self, seconds: float, function: Callable[[], None]) -> _Timer:
        timer = _Timer(function)
        moment = self._now + timedelta(seconds=seconds)
        heapq.heappush(self._timers, (moment, next(self._numbers), timer))
        return timer

    def on_asked(self) -> None:
        """Move on; the test asks for one move at a time."""
        seconds = self._channel.recv(64)
        if not seconds:
            asyncio.get_running_loop().remove_reader(self._channel)
            return
        until = self._now + timedelta(seconds=float(seconds))
        while self._timers and self._timers[0][0] <= until:
            self._now, _, timer = heapq.heappop(self._timers)
            if timer.function is not None:
                timer.function()
        self._now = until
        self._channel.sendall(b".")


async def _serve(settings: daemon.Settings, options: Options, api_key: str, clock: _HeldClock) -> None:
    asyncio.get_running_loop().add_reader(clock._channel, clock.on_asked)
    await embedded._serve(replace(settings, clock=clock), options, api_key, None)


def main() -> None:
    clock = _HeldClock(socket.socket(fileno=int(sys.argv[1])))
    line = json.loads(sys.stdin.buffer.readline())
    api_key = line.pop("api_key")
    line.pop("owner")
    options = Options.from_mapping(line)
    with daemon.prepared(options) as settings:
        asyncio.run(_serve(settings, options, api_key, clock))


if __name__ == "__main__":
    main()
