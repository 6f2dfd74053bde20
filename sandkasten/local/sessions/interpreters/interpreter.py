"""One interpreter: its process, and the channel to the driver in it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime

from sandkasten._cut import CappedBytes
from sandkasten.local.endings import JobEnd
from sandkasten.local.isolation.backend import Sandbox
from sandkasten.local.sessions.interpreters.control import Control
from sandkasten.local.sessions.interpreters.events import Event
from sandkasten.local.sessions.interpreters.frames import packed
from sandkasten.local.sessions.interpreters.program import first_bytes
from sandkasten.local.sessions.interpreters.run import MOST_BYTES, PythonRun, RunSink
from sandkasten.local.sessions.job import Channel
from sandkasten.local.sessions.processes.channels import Channels, IsShared, make_pipes
from sandkasten.local.sessions.processes.output import OUTPUTS
from sandkasten.local.sessions.processes.process import ProcessJob

# For the end of a process that has closed its channel.
_END_SECONDS = 0.5
# What is printed between two runs, by threads and children, comes first in the next one.
_BETWEEN_BYTES = 64 * 1024
# What code may print that is being stopped, whoever reads it.
_LAST_BYTES = 1024 * 1024


class Interpreter:
    """See above; it is one context's, or spare. Lives in the event loop's thread.

    Attributes:
        job: the process.
        version: of Python; empty before the interpreter is ready.
        started_at: when that was.
        has_run: whether it was given code.
        counts: see `Sink`, which it is: it hands on what the process prints.
    """

    def __init__(self, job: ProcessJob, is_shared: IsShared) -> None:
        """Wait to be started."""
        self.job = job
        self.version = ""
        self.started_at = datetime.now(UTC)
        self.has_run = False
        self.counts: dict[Channel, int] = dict.fromkeys(OUTPUTS, 0)
        self._is_shared = is_shared
        self._control: Control | None = None
        self._run: PythonRun | None = None
        self._on_done: Callable[[PythonRun], None] | None = None
        self._between = {channel: CappedBytes(_BETWEEN_BYTES) for channel in OUTPUTS}
        self._number = self._last_bytes = 0
        self._must_interrupt = self._was_misused = False
        self._on_ready: Callable[[], None] | None = None
        job.when_finished(self._on_ended)

    async def start(self, sandbox: Sandbox) -> None:
        """Start it.

        Raises:
            ProgramError: there is no such Python.
            OSError: something is used up.
            SandboxLostError: the sandbox is gone.
        """
        ours, theirs = socket.socketpair()
        try:
            pipes = make_pipes(self.job.take, self._is_shared, has_input=False)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        os.close(pipes.inside[0])
        streams = Channels((theirs.detach(), *pipes.inside[1:]), pipes.sources, None)
        self._control = Control(ours, self._on_event, self._on_broken, self._is_shared)
        try:
            await self.job.start(sandbox, streams, self)
        except BaseException:
            self._control.close()
            raise
        self._control.send(first_bytes())
        self._control.resume()

    @property
    def is_usable(self) -> bool:
        """True before its end, or what leads to that."""
        return self._control is not None and self._control.is_open and self.job.is_running

    # --- running code

    def run(self, run: PythonRun, on_done: Callable[[PythonRun], None]) -> None:
        """Have it run code; `on_done` is called at the code's end, and not if the interpreter ends before."""
        assert self._control is not None
        assert self._run is None
        # Code cannot know the numbers of later runs, and leave answers for them behind.
        self._number += 1 + secrets.randbelow(1 << 32)
        run.number, run.was_sent = self._number, True
        self._run, self._on_done, self._must_interrupt = run, on_done, False
        self._last_bytes = _LAST_BYTES
        if run.sink is not None:
            for channel, kept in self._between.items():
                if kept.size_bytes:
                    run.sink.add(channel, kept.content())
                    self._between[channel] = CappedBytes(_BETWEEN_BYTES)
        if run.code is None:
            self._control.ask({"op": "variables", "id": run.number}, MOST_BYTES)
        else:
            self.has_run = True
            message = {"op": "run", "id": run.number, "code": run.code, "most_bytes": MOST_BYTES}
            self._control.ask(message, MOST_BYTES)
        self.output_taken()

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call back when it takes code, which may be now; an earlier callback is forgotten."""
        if self.version:
            callback()
        else:
            self._on_ready = callback

    def interrupt(self) -> None:
        """Interrupt the code that runs, if any does; before it is ready, as soon as it is."""
        if self._run is None:
            return
        self.output_taken()
        if self.version and self._control is not None:
            # By the number the driver knows whether the signal is for what it runs by then.
            self._control.send(packed({"op": "interrupt", "id": self._run.number}))
            self.job.signal(signal.SIGINT)
        else:
            self._must_interrupt = True

    def kill(self, reason: JobEnd) -> None:
        """End it and all that it started."""
        self.job.stop(reason, 0)

    def close(self) -> None:
        """Give it up, with the session."""
        if self._control is not None:
            self._control.close()

    def output_taken(self) -> None:
        """Read on: there is room for more."""
        self.job.output_taken()

    # --- what it prints; see `Sink`

    def add(self, channel: Channel, data: bytes) -> None:
        """Take a piece of output, for the run or the one that comes next."""
        if self._run is None or self._run.sink is None:
            self._between[channel].add(data)
        else:
            self._add_to(self._run, self._run.sink, channel, data)

    @property
    def is_full(self) -> bool:
        """True if it is to wait, as on a full pipe; code that is being stopped must come to its end."""
        run = self._run
        return run is not None and run.stopped_for is None and run.sink is not None and run.sink.is_full

    def _add_to(self, run: PythonRun, sink: RunSink, channel: Channel, data: bytes) -> None:
        if run.stopped_for is not None:
            data = data[: self._last_bytes]
            self._last_bytes -= len(data)
        if data:
            sink.add(channel, data)

    # --- what it reports

    def _on_event(self, event: Event) -> None:
        if event.name == "ready":
            self._take_ready(event)
            return
        run = self._run
        if run is None or event.id != run.number:
            return
        self._drain()
        if event.name in {"done", "variables"}:
            on_done, self._run, self._on_done = self._on_done, None, None
            run.take(event)
            assert on_done is not None
            self.output_taken()
            on_done(run)
        else:
            run.take(event)

    def _take_ready(self, event: Event) -> None:
        self.version = self.version or event.content["version"] or "unknown"
        if self._must_interrupt:
            self._must_interrupt = False
            self.interrupt()
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready()

    def _drain(self) -> None:
        """Take what was printed before now."""
        if self.job.streams is not None:
            for source in self.job.streams.sources:
                source.drain()

    def _on_broken(self, is_end: bool) -> None:
        """It has closed the channel, mostly since it is ending; or it sends what it must not."""
        self._was_misused = self._was_misused or not is_end
        loop = asyncio.get_running_loop()
        loop.call_later(_END_SECONDS if is_end else 0, self.kill, JobEnd.LOST)

    def _on_ended(self) -> None:
        """The process has ended."""
        if self._control is not None:
            self._control.drain()  # what it showed before
            self._control.close()

    # --- how it ended

    def ending(self) -> tuple[JobEnd, str, str]:
        """Return how it ended, for the run that ended with it: the outcome, its word, and a sentence."""
        outcome, gone = self.job.outcome, "Its variables are gone; the next call begins in a new one."
        if outcome is None:
            return JobEnd.LOST, "lost", f"The interpreter was lost. {gone}"
        if outcome.end is JobEnd.OUT_OF_MEMORY:
            sentence = "The interpreter was ended by the kernel: the session's memory was used up."
            return outcome.end, "out_of_memory", f"{sentence} {gone}"
        if outcome.end is JobEnd.LOST or self._was_misused:  # by which it may end before it is ended
            sentence = "The interpreter was ended: it broke off its channel to the daemon, or misused it."
            return JobEnd.LOST, "lost", f"{sentence} {gone}"
        if outcome.end in {JobEnd.OK, JobEnd.FAILED}:
            if outcome.signal is not None:
                return JobEnd.FAILED, "signal", f"The interpreter was ended by {outcome.signal}. {gone}"
            sentence = f"The interpreter exited with status {outcome.exit_code}."
            return JobEnd.FAILED, "exited", f"{sentence} {gone}"
        return outcome.end, outcome.end.told(), f"The interpreter was stopped. {gone}"
