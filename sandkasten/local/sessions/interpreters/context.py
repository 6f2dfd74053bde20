"""A context: a name for an interpreter whose variables stay from one run to the next.

One run at a time; others wait in line. A run that is to end is interrupted, as by Ctrl-C, and keeps the
variables; if it does not heed that, the interpreter ends with all that it started, and the next run begins in
a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime

from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError, CalledOffError, SandboxLostError
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.interpreters.interpreter import Interpreter
from sandkasten.local.sessions.interpreters.run import PythonRun

# How long an interpreter may take to start. The time of code begins when its interpreter is ready.
_START_SECONDS = 30.0
# After an interrupt, for code that cleans up; at half of it comes a second one.
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class House:
    """The parts of a session that a context needs.

    Attributes:
        take: gives an interpreter that has run no code.
        begin: called before a run begins in an interpreter.
    """

    take: Callable[[], Awaitable[Interpreter]]
    begin: Callable[[Interpreter], None]


class Context:
    """See above. Lives in the event loop's thread."""

    def __init__(self, name: str, house: House) -> None:
        """Begin without an interpreter."""
        self.name = name
        self.execution_count = 0
        self._house = house
        self._interpreter: Interpreter | None = None
        self._current: PythonRun | None = None
        self._line: deque[PythonRun] = deque()
        self._was_lost = False
        self._taking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed: SandboxLostError | None = None

    # --- what others ask

    @property
    def is_running(self) -> bool:
        """True if code runs, or is about to."""
        return self._current is not None

    @property
    def is_busy(self) -> bool:
        """True if there is an interpreter, or one is being started."""
        return self._interpreter is not None or self._current is not None

    @property
    def version(self) -> str | None:
        """The version of its Python, if that is known."""
        return None if self._interpreter is None else self._interpreter.version or None

    @property
    def started_at(self) -> datetime | None:
        """The time at which its interpreter was started; None: there is none."""
        return None if self._interpreter is None else self._interpreter.started_at

    def submit(self, run: PythonRun) -> None:
        """Have code run, after what waits already."""
        self._line.append(run)
        self._start_next()

    def interrupt(self) -> bool:
        """Interrupt the code that runs; return whether any did."""
        run = self._current
        if run is None or run.code is None:
            return False
        run.stopped_for = run.stopped_for or JobEnd.INTERRUPTED
        if run.was_sent and self._interpreter is not None:
            self._interpreter.interrupt()
        else:
            self._settle_early(run, JobEnd.INTERRUPTED)
        return True

    async def restart(self) -> None:
        """End the interpreter, and what it runs; what waits in line goes on in a new one."""
        interpreter, self._was_lost, self.execution_count = self._interpreter, False, 0
        if interpreter is None:
            self.interrupt()
            return
        interpreter.has_run = False  # this loss was asked for
        self._kill(interpreter, JobEnd.INTERRUPTED)
        await interpreter.job.ended()

    async def close(self) -> None:
        """End the interpreter; what runs and what waits in line ends with it."""
        self._closed = CalledOffError("its context was closed")
        while self._line:
            self._line.popleft().finish(None, self._closed)
        await self.restart()

    def stop(self, reason: JobEnd, *, at_once: bool) -> None:
        """Stop the code that runs; at once: with the interpreter, whether any runs or not."""
        if at_once and self._interpreter is not None:
            self._kill(self._interpreter, reason)
        elif self._current is not None:
            self._stop(self._current, reason)

    def lose(self, error: SandboxLostError) -> None:
        """The session has ended."""
        self._closed = error
        self._set_timer(None)
        if self._taking is not None:
            self._taking.cancel()
        current, self._current = self._current, None
        for run in filter(None, (current, *self._line)):
            if not run.is_finished:
                run.finish(None, error)
        self._line.clear()
        if self._interpreter is not None:
            self._interpreter.close()
            self._interpreter.job.lose(error)

    # --- what runs call; see `Runner`

    def output_taken(self) -> None:
        """Read on: a consumer caught up."""
        if self._interpreter is not None:
            self._interpreter.output_taken()

    def on_abandoned(self, job: PythonRun) -> None:
        """Stop a run: nobody waits for it any more."""
        if job is self._current:
            self._stop(job, JobEnd.INTERRUPTED)
        elif job in self._line:
            self._line.remove(job)
            job.finish(None, CalledOffError("the code was called off"))

    # --- one after the other

    def _start_next(self) -> None:
        if self._current is not None or not self._line or self._closed is not None:
            return
        run = self._current = self._line.popleft()
        run.started_at = time.monotonic()
        self._set_timer(_START_SECONDS, lambda: self._on_start_late(run))
        if self._interpreter is not None and self._interpreter.is_usable:
            self._send(run, self._interpreter)
        else:
            self._taking = asyncio.create_task(self._take(run))

    async def _take(self, run: PythonRun) -> None:
        old = self._interpreter
        try:
            if old is not None:  # it is just ending
                await old.job.ended()
            interpreter = await self._house.take()
        except (ApiError, SandboxLostError) as error:
            if run is self._current:
                self._current = None
                self._set_timer(None)
                run.finish(None, error)
                self._start_next()
            return
        self._interpreter = interpreter
        if run is self._current:
            self._send(run, interpreter)
        if self._closed is not None:
            interpreter.kill(JobEnd.INTERRUPTED)
        elif interpreter.job.is_finished:
            self._on_interpreter_ended(interpreter)
        else:
            interpreter.job.when_finished(lambda: self._on_interpreter_ended(interpreter))
            self._start_next()

    def _send(self, run: PythonRun, interpreter: Interpreter) -> None:
        if run.code is not None:
            self.execution_count += 1
            run.execution_count = self.execution_count
            run.restarted, self._was_lost = self._was_lost, False
        self._house.begin(interpreter)
        interpreter.run(run, self._on_done)
        interpreter.when_ready(lambda: self._on_ready(run, interpreter))

    def _on_ready(self, run: PythonRun, interpreter: Interpreter) -> None:
        """Let a run's time begin."""
        if run is not self._current:
            return
        run.started_at = time.monotonic()
        if run.stopped_for is None:
            self._set_timer(run.timeout_ms / 1000, lambda: self._stop(run, JobEnd.TIMEOUT))
        else:  # it was interrupted before
            self._set_timer(PATIENCE_SECONDS / 2, lambda: self._stop_harder(run, interpreter))

    def _on_start_late(self, run: PythonRun) -> None:
        """Give an interpreter up that does not start."""
        interpreter = self._interpreter
        if run is not self._current:
            return
        if not run.was_sent or interpreter is None:
            self._settle_early(run, JobEnd.TIMEOUT)
        else:
            interpreter.has_run = False
            self._kill(interpreter, JobEnd.TIMEOUT)

    def _on_done(self, run: PythonRun) -> None:
        assert run is self._current
        self._current = None
        self._set_timer(None)
        run.complete()
        self._start_next()

    # --- ends that nobody wished for

    def _stop(self, run: PythonRun, reason: JobEnd) -> None:
        if run is not self._current:
            return
        run.stopped_for = run.stopped_for or reason
        interpreter = self._interpreter
        if not run.was_sent or interpreter is None:
            self._settle_early(run, reason)
            return
        interpreter.interrupt()
        if not interpreter.version:
            return  # it is interrupted as soon as it is ready
        self._set_timer(PATIENCE_SECONDS / 2, lambda: self._stop_harder(run, interpreter))

    def _stop_harder(self, run: PythonRun, interpreter: Interpreter) -> None:
        interpreter.interrupt()
        reason = run.stopped_for or JobEnd.INTERRUPTED
        self._set_timer(PATIENCE_SECONDS / 2, lambda: self._kill(interpreter, reason))

    def _kill(self, interpreter: Interpreter, reason: JobEnd) -> None:
        if self._current is not None and self._current.was_sent:
            self._current.stopped_for = self._current.stopped_for or reason
        interpreter.kill(reason)

    def _settle_early(self, run: PythonRun, reason: JobEnd) -> None:
        """End a run that no interpreter has: the interpreter that is being started is for the next one."""
        self._current = None
        self._set_timer(None)
        run.stop_early(reason)
        # What waits begins when the interpreter is there.
        if self._taking is None or self._taking.done():
            self._start_next()

    def _on_interpreter_ended(self, interpreter: Interpreter) -> None:
        if interpreter is not self._interpreter:
            return
        self._interpreter = None
        self._was_lost = self._was_lost or interpreter.has_run
        run = self._current
        if run is not None and run.was_sent:
            self._current = None
            self._set_timer(None)
            end, word, sentence = interpreter.ending()
            if run.stopped_for is not None:
                end, word = run.stopped_for, run.stopped_for.told()
            run.lose(end, word, sentence)
        self._start_next()

    def _set_timer(self, seconds: float | None, callback: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds is not None and callback is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, callback)
