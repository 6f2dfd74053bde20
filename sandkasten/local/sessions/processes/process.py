"""A job beside the shell: one process, from its start to its end.

    starting  ->  running  ->  finished
                     |            ^
                     +- stopping -+     past its deadline, or somebody wants it to end

Its status comes from the kernel. To stop it, SIGTERM and after a while SIGKILL go to all that it started,
wherever that is by now; the result waits until all of that is gone. After an end of
its own, all that it left in the background goes on.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError, SandboxLostError
from sandkasten.local.isolation.backend import Sandbox
from sandkasten.local.isolation.programs import Program, Spawned
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.job import Channel, Job, Outcome
from sandkasten.local.sessions.processes.channels import Channels
from sandkasten.local.sessions.processes.output import Captured, Sink
from sandkasten.local.sessions.processes.request import Size

# Between the two signals, for a process that nobody waits for.
RUNG_SECONDS = 0.2
# For one whose owner ends it.
PATIENCE_SECONDS = 2.0
_KILL_SECONDS = 30.0
_KILL_ROUNDS = 5
_LOOK_SECONDS = 0.05
_FIRST_LOOK_SECONDS = 0.01
_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True)
class ProcessOutcome(Outcome):
    """The end of a process.

    Attributes:
        signal: the name of the signal that ended it; None: it exited.
    """

    signal: str | None


class ProcessJob(Job[ProcessOutcome]):
    """A process; see above. Lives in the event loop's thread.

    Attributes:
        cwd: the directory that it begins in.
        begun: set when it was started, or could not be.
        sink: what takes its output.
        streams: its standard streams; None before it was started.
        pid: its number as the session's processes see it, if that is known.
        oom_kills_before: how often the session had run out of memory when it began.
    """

    def __init__(
        self, program: Program, timeout_ms: int | None, ran_out_of_memory: Callable[[ProcessJob], bool]
    ) -> None:
        """Wait to be started; `ran_out_of_memory` is asked of the session when a process was killed."""
        super().__init__(timeout_ms or 0, self)
        self._program: Program | None = program
        self.cwd = program.cwd.decode("utf-8", "replace")
        self.begun = asyncio.Event()
        self.sink: Sink | None = None
        self.streams: Channels | None = None
        self.pid: int | None = None
        self.oom_kills_before = 0
        self._deadline_ms = timeout_ms
        self._ran_out_of_memory = ran_out_of_memory
        self._spawned: Spawned | None = None
        self._status: int | None = None
        self._stopping = False
        self._rounds = 0
        self._timer: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()

    # --- starting

    async def start(self, sandbox: Sandbox, streams: Channels, sink: Sink) -> None:
        """Start it, with streams that are its own from now on.

        Raises:
            ProgramError: the program cannot be started.
            OSError: something is used up.
            SandboxLostError: the sandbox is gone.
        """
        self.streams, self.sink = streams, sink
        program, self._program = self._program, None  # it may be large
        assert program is not None
        try:
            spawned = await sandbox.spawn(program, *streams.inside)
        except BaseException:
            streams.close()
            raise
        finally:
            streams.close_inside()
        if self.is_finished:  # the session ended meanwhile
            streams.close()
            raise SandboxLostError("the session ended")
        self._spawned = spawned
        self.pid = spawned.inside_pid
        self.started_at = time.monotonic()
        self.begun.set()
        spawned.on_ended(self._on_ended)
        if isinstance(sink, Captured):
            # Nobody sees it before the end, and most end sooner: what they printed is then in the pipes.
            asyncio.get_running_loop().call_later(_FIRST_LOOK_SECONDS, self.output_taken)
        else:
            self.output_taken()
        if self.stopped_for is not None:  # while it was being started
            self._stop(self.stopped_for, RUNG_SECONDS)
        elif self._deadline_ms is not None:
            self._set_timer(self._deadline_ms / 1000, self._on_deadline)

    def refuse(self, error: ApiError | SandboxLostError) -> None:
        """It could not be started."""
        if not self.is_finished:
            self._settle(None, error)

    # --- what others call

    @property
    def is_running(self) -> bool:
        """True between its start and its end."""
        return self._spawned is not None and not self.is_finished

    async def ended(self, timeout_seconds: float | None = None) -> bool:
        """Wait for its end, at most so long; return whether it has ended."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._settled.wait()
        except TimeoutError:
            pass
        return self._settled.is_set()

    def signal(self, number: int) -> bool:
        """Signal its process group; return False if it has ended."""
        return self._status is None and self._spawned is not None and self._spawned.signal(number)

    def stop(self, reason: JobEnd, patience_seconds: float) -> None:
        """End it and all that it started; before it has begun, it ends as soon as it has."""
        if self.is_finished:
            return
        if self._spawned is None:
            self.stopped_for = self.stopped_for or reason
        else:
            self._stop(reason, patience_seconds)

    async def stop_rest(self, patience_seconds: float) -> None:
        """End what it left behind when it ended by itself."""
        spawned = self._spawned
        if spawned is None or not self.is_finished or self.error is not None:
            return
        if patience_seconds and await spawned.signal_all(signal.SIGTERM):
            for _ in range(round(patience_seconds / _LOOK_SECONDS)):
                await asyncio.sleep(_LOOK_SECONDS)
                if not await spawned.signal_all(0):
                    return
        for _ in range(_KILL_ROUNDS):
            if not await spawned.signal_all(signal.SIGKILL):
                break

    def lose(self, error: SandboxLostError) -> None:
        """The session has ended, and the process with it."""
        if not self.is_finished:
            self._settle(None, error)
        self.close()

    def close(self) -> None:
        """Give up its streams: what still prints gets an error."""
        if self.streams is not None and self._spawned is not None:
            self.streams.close()

    @property
    def has_open_streams(self) -> bool:
        """True if something of it may still print."""
        return self.streams is not None and any(source.is_open for source in self.streams.sources)

    def resize(self, size: Size) -> bool:
        """Set the size of its terminal; return whether there is one."""
        return self.streams is not None and self.streams.resize(size)

    # --- what its consumers call; see `Runner`

    def take(self, channel: Channel, data: bytes) -> None:
        """Take a piece of output."""
        assert self.sink is not None
        self.sink.add(channel, data)
        if self.sink.is_full:
            self._pause()

    def output_taken(self) -> None:
        """Read on: a consumer caught up."""
        if self.is_running and self.sink is not None and self.streams is not None and not self.sink.is_full:
            for source in self.streams.sources:
                source.resume()

    def on_abandoned(self, job: ProcessJob) -> None:
        """Stop it: nobody waits for it any more."""
        assert job is self
        self.stop(JobEnd.INTERRUPTED, RUNG_SECONDS)

    # --- its end

    def _pause(self) -> None:
        if self.streams is not None:
            for source in self.streams.sources:
                source.pause()

    def _on_deadline(self) -> None:
        self._stop(JobEnd.TIMEOUT, RUNG_SECONDS)

    def _stop(self, reason: JobEnd, patience_seconds: float) -> None:
        if self._status is not None and not self._stopping:
            return  # it is just ending by itself
        self.stopped_for = self.stopped_for or reason
        if not patience_seconds:
            self._stopping = True
            self._kill()
        elif not self._stopping:
            self._stopping = True
            assert self._spawned is not None
            self._spawned.signal_all(signal.SIGTERM)
            self._set_timer(patience_seconds, self._kill)

    def _kill(self) -> None:
        assert self._spawned is not None
        self._rounds += 1
        self._set_timer(_KILL_SECONDS, self._give_up)
        self._spawned.signal_all(signal.SIGKILL).add_done_callback(self._on_killed)

    def _on_killed(self, found: asyncio.Future[int]) -> None:
        if self.is_finished or found.cancelled():
            return
        left = 0 if found.exception() else found.result()
        if left and self._rounds < _KILL_ROUNDS:
            self._kill()  # one that forked meanwhile may have a child that was not seen
        elif self._status is not None:
            self._finish()

    def _on_ended(self, status: int) -> None:
        if self.is_finished:
            return
        self._status = status
        if not self._stopping:
            self._finish()
        elif self._rounds:
            self._kill()
        else:
            assert self._spawned is not None
            self._spawned.signal_all(0).add_done_callback(self._on_counted)

    def _on_counted(self, found: asyncio.Future[int]) -> None:
        if not self.is_finished and not found.cancelled() and not found.exception() and not found.result():
            self._finish()  # otherwise the rest gets its time, too

    def _give_up(self) -> None:
        self._settle(None, SandboxLostError("the process could not be stopped"))

    def _finish(self) -> None:
        assert self._status is not None
        assert self.streams is not None
        for source in self.streams.sources:
            source.drain()
        self._settle(_outcome(self, self._status, self._end(self._status)), None)

    def _end(self, status: int) -> JobEnd:
        if self.stopped_for is not None:
            return self.stopped_for
        is_killed = status in {-signal.SIGKILL, _KILLED}  # or what it ran was, as a shell says it
        if is_killed and self._ran_out_of_memory(self):
            return JobEnd.OUT_OF_MEMORY
        return JobEnd.FAILED if status else JobEnd.OK

    def _settle(self, outcome: ProcessOutcome | None, error: ApiError | SandboxLostError | None) -> None:
        self._set_timer(None)
        if self.streams is not None:
            if self.streams.input is not None:
                self.streams.input.close()
            for source in self.streams.sources:
                source.drop()
        self.begun.set()
        self._settled.set()
        self.finish(outcome, error)

    def _set_timer(self, seconds: float | None, callback: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds is not None and callback is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, callback)


def _outcome(job: ProcessJob, status: int, end: JobEnd) -> ProcessOutcome:
    duration_ms = round((time.monotonic() - job.started_at) * 1000)
    if status >= 0:
        return ProcessOutcome(status, duration_ms, end, None)
    return ProcessOutcome(128 - status, duration_ms, end, name_of(-status))


def name_of(number: int) -> str:
    """Return the name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
