"""The tools of the figures of `scripts/bench`: how they are taken, and from which daemon."""

from __future__ import annotations

import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandkasten._config import Target
from sandkasten.local.identity import Identity
from sandkasten.local.isolation.bwrap_binary import find_bwrap
from sandkasten.local.launch import LocalOptions, start_daemon
from sandkasten_sync import SandboxClient

Seconds = float


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        name: what was measured, and beside what.
        floor: the least it could cost, or the most there could be; None if nothing compares.
        value: what it is.
        unit: of both.
        goal: what the ratio of the two, or without a floor the value, is held against; None is no goal yet.
        at_least: whether the goal is the least that it should be, instead of the most.
    """

    name: str
    floor: float | None
    value: float
    goal: float | None = None
    unit: str = "ms"
    at_least: bool = False

    @property
    def ratio(self) -> float | None:
        """The ratio to the floor."""
        return None if self.floor is None else self.value / self.floor

    @property
    def verdict(self) -> str:
        """True if the goal is met."""
        if self.goal is None:
            return ""
        held = self.value if self.ratio is None else self.ratio
        return "met" if (held >= self.goal if self.at_least else held <= self.goal) else "missed"


def in_turns(rounds: int, *measurements: Callable[[], Seconds]) -> list[float]:
    """Take each measurement once per round, after one round for warmth; give their medians in ms."""
    rows = [[measure() for measure in measurements] for _ in range(rounds + 1)]
    return [statistics.median(column) * 1000 for column in zip(*rows[1:], strict=True)]


def duration(action: Callable[[], object]) -> Seconds:
    """Run something and say how long it took."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@contextlib.contextmanager
def daemon(pool_size: int = 0, package_index: str | None = None) -> Iterator[Target]:
    """Run an embedded daemon, with workspaces of its own."""
    with tempfile.TemporaryDirectory() as data_dir:
        Path(data_dir).chmod(0o711)  # sandboxes have packages from there
        options = LocalOptions(data_dir=data_dir, pool_size=pool_size, package_index=package_index)
        running = start_daemon(options)
        try:
            yield running.target
        finally:
            running.stop()


def plain_sandbox() -> list[str]:
    """Return the words that run a command in the least of a sandbox, with the host's files read-only."""
    bwrap = find_bwrap(Identity.of_this_process(), Path(tempfile.gettempdir()))
    files = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    return [bwrap, "--unshare-all", "--die-with-parent", *files]


def client_of(target: Target) -> SandboxClient:
    """Make a client of a daemon that runs."""
    return SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key)


def exponent(costs: Mapping[int, float]) -> float:
    """Return how costs grow with a number: 0 if they stay, 1 if they double with the number.

    It is the slope of the best line through the logarithms of both.
    """
    xs, ys = [math.log(number) for number in costs], [math.log(cost) for cost in costs.values()]
    return statistics.linear_regression(xs, ys).slope
