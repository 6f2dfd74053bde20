"""A job: what runs in a session for whoever asked for it, with its output as it comes and then its outcome.

It knows nothing of how it is run. Its runner adds output and finishes it, and learns through `Runner` when a
consumer caught up and when nobody waits any more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError, SandboxLostError
from sandkasten.local.records import dataclass

# A consumer that is slower than its job: the job waits, as it would on a pipe.
_HIGH_WATER_BYTES = 256 * 1024


class Channel(StrEnum):
    """The stream that output comes from."""

    RICH = "rich"
    STDERR = "stderr"
    STDOUT = "stdout"
    TERMINAL = "terminal"


Output = Sequence[tuple[Channel, bytes]]
"""What was printed, in its order."""


@dataclass(frozen=True)
class Outcome:
    """The end of a job.

    Attributes:
        exit_code: its status.
        duration_ms: how long it ran.
        end: whether it ended by itself, and else what it was stopped for.
    """

    exit_code: int
    duration_ms: int
    end: JobEnd

    @property
    def was_stopped(self) -> bool:
        """True if its deadline came, or its share of the disk was used up."""
        return self.end in {JobEnd.TIMEOUT, JobEnd.OVER_QUOTA}

    @property
    def details(self) -> dict[str, Any]:
        """The fields that the wire has besides the exit code."""
        return {"duration_ms": self.duration_ms, "end": self.end.told()}


OutcomeT = TypeVar("OutcomeT", bound=Outcome)


class Runner(Protocol):
    """The calls by which a job reports to the one that runs it."""

    def output_taken(self) -> None:
        """Read on: the consumer caught up."""
        ...

    def on_abandoned(self, job: Any) -> None:
        """Stop the job, or forget it if it has not begun: nobody waits for it any more."""
        ...


class _Nobody:
    """The runner of a job that has ended."""

    def output_taken(self) -> None:
        """See `Runner`."""

    def on_abandoned(self, job: Any) -> None:
        """See `Runner`."""


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Job(Generic[OutcomeT]):
    """A job that was submitted. Lives in the event loop's thread."""

    channels: ClassVar[Sequence[Channel]] = ()
    """The channels that its output comes from."""

    def __init__(self, timeout_ms: int, runner: Runner) -> None:
        """Wait to be started by a runner."""
        self.id = secrets.token_hex(8)
        self.timeout_ms = timeout_ms
        self.outcome: OutcomeT | None = None
        self.error: SandboxLostError | ApiError | None = None
        self.started_at = 0.0
        self.stopped_for: JobEnd | None = None
        self.abandoned = False
        self._runner: Runner = runner
        self._output: list[tuple[Channel, bytearray]] = []
        self._output_bytes = 0
        self._on_finished: list[Callable[[], None]] = []
        self._waiters = set[asyncio.Future[None]]()

    # --- for those who wait for it

    async def next_output(self, timeout_seconds: float | None = None) -> Output | None:
        """Wait for output and return it: empty if the time passed; None after the last.

        Raises:
            SandboxLostError: the sandbox ended under the job.
            ApiError: the job could not begin.
        """
        if not self._output and not self.is_finished:
            await self._changes(timeout_seconds)
        if output := self.rest():
            return output
        if self.error is not None:
            raise self.error
        return None if self.is_finished else ()

    async def _changes(self, timeout_seconds: float | None) -> None:
        """Wait for a change, at most so long; `asyncio.timeout` would cost more than all the rest of this."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = None if timeout_seconds is None else loop.call_later(timeout_seconds, _end, waiter)
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def rest(self) -> Output:
        """Return the output that was not yet taken."""
        output = [(channel, bytes(data)) for channel, data in self._output]
        if output:
            self._clear_output()
            self._runner.output_taken()
        return output

    def wake(self) -> None:
        """Let those who wait look around: something else than output has changed."""
        for waiter in self._waiters:
            _end(waiter)

    def abandon(self) -> None:
        """Stop the job if it runs, or forget it if it does not yet: nobody waits for it any more."""
        if not self.is_finished and not self.abandoned:
            self.abandoned = True
            self._clear_output()
            self._runner.on_abandoned(self)

    def when_finished(self, callback: Callable[[], None]) -> None:
        """Call a function when the outcome, or what prevents one, is known."""
        self._on_finished.append(callback)

    @property
    def is_finished(self) -> bool:
        """True if the outcome, or what prevents one, is known."""
        return self.outcome is not None or self.error is not None

    @property
    def end(self) -> JobEnd:
        """The end of the job, once there is one."""
        return JobEnd.LOST if self.outcome is None else self.outcome.end

    @property
    def duration_seconds(self) -> float | None:
        """The time that it ran; None if there is no outcome."""
        return None if self.outcome is None else self.outcome.duration_ms / 1000

    # --- for its runner

    @property
    def is_slow_to_read(self) -> bool:
        """True if enough output waits for its consumer."""
        return self._output_bytes >= _HIGH_WATER_BYTES

    def add_output(self, data: bytes, channel: Channel) -> None:
        """Take what it printed on a channel."""
        if self.abandoned:
            return
        if self._output and self._output[-1][0] is channel:
            self._output[-1][1].extend(data)
        else:
            self._output.append((channel, bytearray(data)))
        self._output_bytes += len(data)
        if not self.holds_back:
            self.wake()

    @property
    def holds_back(self) -> bool:
        """True if output waits until more is known."""
        return False

    def finish(self, outcome: OutcomeT | None, error: SandboxLostError | ApiError | None = None) -> None:
        """Set the outcome, or what prevents one."""
        self.outcome, self.error = outcome, error
        callbacks, self._on_finished = self._on_finished, []
        for callback in callbacks:
            callback()
        self.wake()
        # The result may be kept for long, and must not hold on to what is large or to a session that ended.
        self._runner = _Nobody()

    def _clear_output(self) -> None:
        self._output.clear()
        self._output_bytes = 0
