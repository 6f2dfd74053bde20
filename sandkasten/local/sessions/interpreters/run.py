"""Code that somebody has run in a context, and what takes its output and its results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from sandkasten.local.endings import JobEnd
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.interpreters.events import MAX_TYPES, Event
from sandkasten.local.sessions.job import Channel, Job, Outcome, Runner
from sandkasten.local.sessions.processes.output import OUTPUTS, Captured, Sink, Tape

# What the results of one run may be together, and how many of them there may be.
MOST_BYTES = 8 * 1024 * 1024
_MOST_RESULTS = 1000
_TAPE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class PythonOutcome(Outcome):
    """The end of a run.

    Attributes:
        error: the exception that the code raised, or what ended the interpreter; None: neither.
        ending: the word that clients read.
        context_lost: whether its interpreter ended with it.
        restarted: whether it began in a new interpreter, since the one before was lost.
        execution_count: which run of the context it was.
    """

    error: dict[str, Any] | None
    ending: str
    context_lost: bool
    restarted: bool
    execution_count: int

    @property
    def result(self) -> dict[str, Any]:
        """The fields that the wire has, without outputs and results."""
        return {
            "error": self.error,
            "end": self.ending,
            "duration_ms": self.duration_ms,
            "context_lost": self.context_lost,
            "restarted": self.restarted,
            "execution_count": self.execution_count,
        }


class RunSink(Sink, Protocol):
    """A taker of what a run prints and shows."""

    def add_rich(self, event: Event) -> None:
        """Take a display, or the value."""
        ...


class Collected(Captured):
    """Outputs and results, for one answer.

    Attributes:
        results: what was shown, in its order.
    """

    def __init__(self, keep_bytes: int) -> None:
        """Keep at most so much of each output."""
        super().__init__(keep_bytes)
        self.results: list[dict[str, Any]] = []
        self._results_bytes = 0
        self._are_cut = False

    def add_rich(self, event: Event) -> None:
        """See `RunSink`; beyond the bounds results are left out."""
        if len(self.results) >= _MOST_RESULTS or self._results_bytes + event.size_bytes > MOST_BYTES:
            self._are_cut = True
            return
        self._results_bytes += event.size_bytes
        self.results.append({**event.content, "is_value": event.name == "result"})

    @property
    def size_bytes(self) -> int:
        """The memory that it takes, in bytes."""
        return super().size_bytes + self._results_bytes

    @property
    def truncated(self) -> bool:
        """True if there was more than is kept."""
        return super().truncated or self._are_cut


class PythonTape(Tape):
    """The same for a stream; a result is a line of JSON on a channel of its own."""

    def __init__(self, on_room: Callable[[], None]) -> None:
        """Begin empty."""
        super().__init__(_TAPE_BYTES, on_room)
        self.counts = dict.fromkeys((*OUTPUTS, Channel.RICH), 0)

    def add_rich(self, event: Event) -> None:
        """See `RunSink`."""
        line = json.dumps([event.name, event.content], separators=(",", ":"))
        self.add(Channel.RICH, line.encode() + b"\n")


class PythonRun(Job[PythonOutcome]):
    """Code that was submitted. Lives in the event loop's thread.

    Attributes:
        code: the code; None: the context's variables are asked for.
        number: by which the interpreter knows it.
        sink: takes what it prints and shows.
        variables: what was answered, if they are asked for.
        restarted: whether it began in a new interpreter, since the one before was lost.
        execution_count: which run of the context it is.
        was_sent: whether the interpreter has it.
    """

    channels: ClassVar = OUTPUTS

    def __init__(self, code: str | None, timeout_ms: int, runner: Runner) -> None:
        """Wait in line."""
        super().__init__(timeout_ms, runner)
        self.code = code
        self.number = 0
        self.sink: RunSink | None = None
        self.variables: list[dict[str, Any]] | None = None
        self.restarted = False
        self.execution_count = 0
        self.was_sent = False
        self._pieces: dict[str, list[str]] = {}
        self._raised: dict[str, Any] | None = None

    def output_taken(self) -> None:
        """Have the interpreter go on: there is room for more."""
        self._runner.output_taken()

    def take(self, event: Event) -> None:
        """Take an event that belongs to it."""
        if event.name == "data":
            self._keep_piece(event)
        elif event.name in {"display", "result"} and self.sink is not None:
            self.sink.add_rich(self._whole(event))
        elif event.name == "error":
            self._raised = event.content
        elif event.name == "variables":
            self.variables = event.content["variables"]

    def _keep_piece(self, event: Event) -> None:
        kind = event.content["mime"]
        if kind in self._pieces or len(self._pieces) < MAX_TYPES:
            self._pieces.setdefault(kind, []).append(event.content["piece"])

    def _whole(self, event: Event) -> Event:
        """Return a result with the data that came in pieces before it."""
        pieces, self._pieces = self._pieces, {}
        if not pieces:
            return event
        data = {kind: "".join(found) for kind, found in pieces.items()}
        size_bytes = event.size_bytes + sum(map(len, data.values()))
        content = {**event.content, "data": event.content["data"] | data}
        return Event(event.name, event.id, content, size_bytes)

    def complete(self) -> None:
        """It came to its end, and its interpreter lives."""
        end = self.stopped_for or (JobEnd.OK if self._raised is None else JobEnd.FAILED)
        ending = "completed" if self.stopped_for is None else self.stopped_for.told()
        self._finish(end, ending, self._raised, context_lost=False)

    def lose(self, end: JobEnd, ending: str, message: str) -> None:
        """Its interpreter has ended."""
        error = {"name": "InterpreterLost", "message": message, "traceback": ""}
        self._finish(end, ending, error, context_lost=True)

    def stop_early(self, end: JobEnd) -> None:
        """Its time was over before the interpreter had it."""
        self._finish(end, end.told(), None, context_lost=False)

    def _finish(self, end: JobEnd, ending: str, error: dict[str, Any] | None, *, context_lost: bool) -> None:
        if self.is_finished:
            return
        outcome = PythonOutcome(
            exit_code=0 if end is JobEnd.OK else 1,
            duration_ms=round((time.monotonic() - self.started_at) * 1000),
            end=end,
            error=error,
            ending=ending,
            context_lost=context_lost,
            restarted=self.restarted,
            execution_count=self.execution_count,
        )
        self.finish(outcome)
        self.code = ""  # it may be large, and the result may be kept for long
        if isinstance(self.sink, Tape):
            self.sink.close()
