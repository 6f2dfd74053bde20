"""A command from outside the shell: its output as it comes, and its outcome."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sandkasten.local.endings import JobEnd
from sandkasten.local.linux.processes import Process

# A consumer that is slower than its command: the command waits, as it would on a pipe.
_HIGH_WATER_BYTES = 256 * 1024


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        exit_code: its status.
        cwd: the shell's directory afterwards.
        duration_ms: how long it ran.
        end: whether it ended by itself, and else what it was stopped for.
        shell_restarted: whether another shell goes on, with the old one's directory and environment.
    """

    exit_code: int
    cwd: str
    duration_ms: int
    end: JobEnd
    shell_restarted: bool = False

    @property
    def was_stopped(self) -> bool:
        """True if its deadline came, or its share of the disk was used up."""
        return self.end in {JobEnd.TIMEOUT, JobEnd.OVER_QUOTA}


class SandboxLostError(Exception):
    """The sandbox ended, or could not be brought back in order."""


class CalledOffError(SandboxLostError):
    """Nobody waited for the command any more, before it began; the session goes on."""


class Owner(Protocol):
    """The calls by which a command reports to its shell."""

    def output_taken(self) -> None:
        """Its consumer caught up."""
        ...

    def on_abandoned(self, command: Command) -> None:
        """Nobody waits for it any more."""
        ...


class _Nobody:
    """The owner of a command that has ended."""

    def output_taken(self) -> None:
        """See `Owner`."""

    def on_abandoned(self, command: Command) -> None:
        """See `Owner`."""


class Command:
    """A command that was submitted: its output as it comes, then its outcome."""

    def __init__(self, text: str, timeout_seconds: float, owner: Owner) -> None:
        """Made by `Shell.submit`."""
        self.id = secrets.token_hex(8)
        self.text = text
        self.timeout_seconds = timeout_seconds
        self.outcome: Outcome | None = None
        self.error: SandboxLostError | None = None
        self.started_at = 0.0
        self.stopped_for: JobEnd | None = None
        self.stopping = False
        self.abandoned = False
        self.ended_status: int | None = None
        self.shell_status: int | None = None
        self.earlier: Container[Process] = frozenset()
        self._on_finished: list[Callable[[], None]] = []
        self._owner: Owner = owner
        self._output = bytearray()
        self._changed = asyncio.Event()

    async def next_output(self, timeout_seconds: float | None = None) -> bytes | None:
        """Wait for output: some bytes; none of them if the time passed; None after the last.

        Raises:
            SandboxLostError: the sandbox ended under the command.
        """
        if not self._output and not self.is_finished:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self._changed.wait()
        if data := self.rest():
            return data
        if self.error is not None:
            raise self.error
        return None if self.is_finished else b""

    def rest(self) -> bytes:
        """Return the output that was not yet taken."""
        data = bytes(self._output)
        if data:
            self._output.clear()
            self._owner.output_taken()
        return data

    @property
    def end(self) -> JobEnd:
        """How it ended, once it has."""
        return JobEnd.LOST if self.outcome is None else self.outcome.end

    @property
    def duration_seconds(self) -> float | None:
        """How long it ran; None if there is no outcome."""
        return None if self.outcome is None else self.outcome.duration_ms / 1000

    def when_finished(self, callback: Callable[[], None]) -> None:
        """Call a function when the outcome, or what prevents one, is known."""
        self._on_finished.append(callback)

    def wake(self) -> None:
        """Let those who wait look around: something else than output has changed."""
        self._changed.set()

    def abandon(self) -> None:
        """Nobody waits for it any more: stop it if it runs, forget it if it does not yet."""
        if not self.is_finished and not self.abandoned:
            self.abandoned = True
            self._output.clear()
            self._owner.on_abandoned(self)

    @property
    def ended_shell(self) -> bool:
        """True if the shell itself ended under the command, with `shell_status`."""
        return self.shell_status is not None

    @property
    def is_finished(self) -> bool:
        """True if the outcome, or what prevents one, is known."""
        return self.outcome is not None or self.error is not None

    @property
    def is_slow_to_read(self) -> bool:
        """True if enough output waits for its consumer."""
        return len(self._output) >= _HIGH_WATER_BYTES

    def add_output(self, data: bytes) -> None:
        """Called by the shell."""
        if not self.abandoned:
            self._output += data
            if not self.stopping:  # else it is held back for `drop_echo_of_interrupt`, for a second at most
                self._changed.set()

    def drop_echo_of_interrupt(self) -> None:
        """Called by the shell, which answers an interrupt with a line end that the command did not print.

        Only where that makes an empty line: a last line of the command's without an end gets one so.
        """
        if self._output == b"\n" or self._output.endswith(b"\n\n"):
            del self._output[-1:]

    def finish(self, outcome: Outcome | None, error: SandboxLostError | None = None) -> None:
        """Called by the shell."""
        self.outcome, self.error = outcome, error
        callbacks, self._on_finished = self._on_finished, []
        for callback in callbacks:
            callback()
        self._changed.set()
        # The result may be kept for long, and must not hold on to what is large or to a session that ended.
        self.text, self._owner = "", _Nobody()


def does_nothing(text: str) -> bool:
    """Return whether a text is only comments: bash would leave the status of another command."""
    return all(not line or line.startswith("#") for line in map(str.strip, text.splitlines()))
