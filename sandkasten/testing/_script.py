"""A fake daemon's answers to commands: rules, their results, and the events of a stream; pure."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandkasten.testing._steps import Answer, Pause, error_answer, event, json_answer

CommandMatch = str | re.Pattern[str] | Callable[[str], bool]
"""The commands meant: this very text, a pattern that their beginning matches, or a function that decides."""

ScriptedOutput = str | Sequence[str] | Callable[[str], str]
"""What a command prints: a text, its pieces, or a function that makes a text of the command."""


@dataclass(frozen=True)
class Reply:
    """A command's course: output, status and time.

    Attributes:
        pieces: its output, as a stream delivers it.
        exit_code: its status.
        cwd: the shell's directory afterwards; None leaves it where it was.
        writes: the files that it makes, by their paths below /workspace.
        pause_seconds: how long it takes to print each piece.
        timed_out: whether it outruns its time instead of ending.
        stderr: what a program prints to its standard error; a command of the shell prints it last.
    """

    pieces: Sequence[str] = ()
    exit_code: int = 0
    cwd: str | None = None
    writes: Mapping[str, str | bytes] = field(default_factory=dict[str, "str | bytes"])
    pause_seconds: float = 0.0
    timed_out: bool = False
    stderr: str = ""

    @property
    def output(self) -> str:
        """The whole output."""
        return "".join(self.pieces)


@dataclass
class Rule:
    """A rule for some commands, and how often it still applies; None is for ever."""

    match: CommandMatch
    output: ScriptedOutput
    reply: Reply
    times: int | None = None


def matches(match: CommandMatch, cmd: str) -> bool:
    """Return whether a rule is about a command."""
    if isinstance(match, str):
        return cmd == match
    if isinstance(match, re.Pattern):
        return match.match(cmd) is not None
    return match(cmd)


def pieces_of(output: ScriptedOutput, cmd: str) -> Sequence[str]:
    """Take an output apart: a text into its lines."""
    if callable(output):
        output = output(cmd)
    return output.splitlines(keepends=True) if isinstance(output, str) else list(output)


@dataclass
class Execution:
    """A command that was run, kept for whoever asks for it again.

    Attributes:
        cmd: the command.
        timeout_ms: its limit.
        reply: how it went.
        cwd: the shell's directory after it.
        finished: whether its result was delivered, or nobody wants it any more.
    """

    cmd: str
    timeout_ms: int
    reply: Reply
    cwd: str
    finished: bool = False

    @property
    def duration_ms(self) -> int:
        """The time that the command took."""
        if self.reply.timed_out:
            return self.timeout_ms
        return round(self.reply.pause_seconds * len(self.reply.pieces) * 1000)

    def answer(self) -> Answer:
        """Return the answer to an exec."""
        self.finished = True
        pause_seconds = self.reply.pause_seconds * len(self.reply.pieces)
        if self.reply.timed_out:
            details = self._stopped_details() | {"output": self.reply.output}
            answer = error_answer(504, "COMMAND_TIMEOUT", self._sentence(), details)
        else:
            answer = json_answer(self._ending() | {"output": self.reply.output, "truncated": False})
        return Answer(answer.status, answer.headers, answer.body, pause_seconds=pause_seconds)

    def events(self, position: int | None, *, replay_bytes: int) -> Iterator[bytes | Pause]:
        """Yield the events of a stream from a position on, with ids, or all without ids if it is None.

        Of the output before the position only the last `replay_bytes` are there.
        """
        has_ids, offset = position is not None, 0
        total = len(self.reply.output.encode())
        wanted = max(position or 0, total - replay_bytes if position else 0)
        if position is not None and wanted > position:
            yield event("gap", {"missed_bytes": wanted - position}, wanted)
        for piece in self.reply.pieces:
            data = piece.encode()
            offset += len(data)
            if offset > wanted:
                yield Pause(self.reply.pause_seconds)
                text = data[max(0, wanted - (offset - len(data))) :].decode(errors="replace")
                yield event("chunk", {"chunk": text, "timestamp": _now_ms()}, offset if has_ids else None)
        yield self._last_event(total if has_ids else None)
        self.finished = True

    def _last_event(self, event_id: int | None) -> bytes:
        if not self.reply.timed_out:
            return event("done", self._ending() | {"timestamp": _now_ms()}, event_id)
        error = {"error": self._sentence(), "error_code": "COMMAND_TIMEOUT", "status": 504}
        return event("error", error | {"details": self._stopped_details()})

    def _ending(self) -> dict[str, Any]:
        return {"exit_code": self.reply.exit_code, "cwd": self.cwd, "duration_ms": self.duration_ms}

    def _stopped_details(self) -> dict[str, Any]:
        return {"cwd": self.cwd, "shell_restarted": False, "duration_ms": self.duration_ms}

    def _sentence(self) -> str:
        return f"The command was stopped after {self.timeout_ms} ms."


def _now_ms() -> int:
    return round(time.time() * 1000)
