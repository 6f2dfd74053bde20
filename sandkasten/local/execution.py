"""One command as those who ask for it see it: several may, one after another or at once.

A connection can drop while its command runs. A client that gave the command a key may ask again with the
same key and goes on where it was; so what was printed is kept for a while after it was sent, and a command
that nobody listens to is not stopped at once but after a time of grace. Nothing is lost in between: the
command waits, as on a full pipe, when it has printed more than is kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from sandkasten._cut import CappedText
from sandkasten.local.command import Command
from sandkasten.local.transcript import Transcript

# For how long a command goes on whose client dropped the connection and may come back.
GRACE_SECONDS = 15.0


# Smaller pieces are joined to what follows them.
_SMALL_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of output; `end` is the number of bytes of the whole output up to its end, as UTF-8."""

    text: str
    end: int


class Replay:
    """The end of a command's output, to be sent again to who missed it; pure."""

    def __init__(self, limit_bytes: int) -> None:
        """Keep at least so many bytes, if there are as many."""
        self.end = 0
        self._limit_bytes = limit_bytes
        self._pieces: deque[Piece] = deque()
        self._start = 0

    def add(self, text: str) -> None:
        """Take what follows."""
        if not text:
            return
        self.end += len(text.encode())
        last = self._pieces[-1].text if self._pieces else ""
        if last and len(last) < _SMALL_CHARS:  # many tiny ones would weigh far more than what they hold
            text = self._pieces.pop().text + text
        self._pieces.append(Piece(text, self.end))
        while self.end - self._pieces[0].end >= self._limit_bytes:
            self._start = self._pieces.popleft().end

    @property
    def size_bytes(self) -> int:
        """How much is kept."""
        return self.end - self._start

    def missed_bytes(self, position: int) -> int:
        """How much of what follows a position is gone."""
        return max(0, self._start - position)

    def after(self, position: int) -> Iterator[Piece]:
        """What follows a position, as far as it is kept."""
        found: list[Piece] = []
        for piece in reversed(self._pieces):
            if piece.end <= position:
                break
            found.append(piece)
        for piece in reversed(found):
            data = piece.text.encode()
            seen = max(0, position - (piece.end - len(data)))
            yield Piece(data[seen:].decode(errors="ignore"), piece.end) if seen else piece


class Execution:
    """A command, what is kept of its output, and who listens. Lives in the event loop's thread."""

    def __init__(self, command: Command, kept: CappedText | Replay, *, raw: bool, has_key: bool) -> None:
        """Nobody listens yet."""
        self.command = command
        self.kept = kept
        self._transcript = Transcript(raw=raw)
        self._has_key = has_key
        self._listeners = 0
        self._grace: asyncio.TimerHandle | None = None

    async def advance(self, timeout_seconds: float | None = None) -> bool:
        """Wait for more output and keep it; False once there is no more.

        Raises:
            SandboxLostError: the sandbox ended under the command.
        """
        data = await self.command.next_output(timeout_seconds)
        self.kept.add(self._transcript.feed(data or b""))
        return data is not None

    def complete(self) -> None:
        """Keep the last of the output, now that the command has ended."""
        self.kept.add(self._transcript.feed(self.command.rest()) + self._transcript.finish())

    def listen(self) -> Listener:
        """Somebody listens from now on."""
        self._listeners += 1
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        return Listener(self)

    def on_left(self) -> None:
        """Called by a listener."""
        self._listeners -= 1
        self.command.wake()
        if self._listeners or self.command.is_finished:
            return
        if self._has_key:
            self._grace = asyncio.get_running_loop().call_later(GRACE_SECONDS, self.command.abandon)
        else:
            self.command.abandon()

    def cancel(self) -> bool:
        """Stop the command on behalf of who asked for it; whether it had not ended yet."""
        was_open = not self.command.is_finished
        self.command.abandon()
        return was_open


class Listener:
    """One connection that waits for a command."""

    def __init__(self, execution: Execution) -> None:
        """Made by `Execution.listen`."""
        self.has_left = False
        self._execution = execution

    def leave(self) -> None:
        """The connection is gone, or has all it wanted."""
        if not self.has_left:
            self.has_left = True
            self._execution.on_left()
