"""One job as those who ask for it see it: several may, one after another or at once.

A connection can drop while its command runs. A client that gave the command a key may ask again with the
same key and goes on where it was; so what was printed is kept for a while after it was sent, and a command
that nobody listens to is not stopped at once but after a time of grace. One that still waits in line is
called off at once, since its client cannot know whether its turn came; it is put in line again for a client
that comes back. Nothing is lost in between: the
command waits, as on a full pipe, when it has printed more than is kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandkasten._cut import CappedText
from sandkasten.local.files.pipes import Pipes
from sandkasten.local.sessions.job import Job, Output
from sandkasten.local.sessions.transcript import Transcript

# For how long a command goes on whose client dropped the connection and may come back.
GRACE_SECONDS = 15.0


# Smaller pieces are joined to what follows them.
_SMALL_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of output: text, or what came from a pipe; `end` is how many bytes there are up to its end."""

    content: str | bytes
    end: int


class Replay:
    """The end of a command's output, to be sent again to who missed it; pure."""

    def __init__(self, limit_bytes: int) -> None:
        """Keep at least so many bytes, if there are as many."""
        self.end = 0
        self._limit_bytes = limit_bytes
        self._pieces: deque[Piece] = deque()
        self._start = 0

    def add(self, content: str | bytes) -> None:
        """Take what follows."""
        if not content:
            return
        self.end += len(_bytes(content))
        joined = _joined(self._pieces[-1].content, content) if self._pieces else None
        if joined is not None:
            self._pieces.pop()
        content = joined or content
        self._pieces.append(Piece(content, self.end))
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
        """Return the output after a position, as far as it is kept."""
        found: list[Piece] = []
        for piece in reversed(self._pieces):
            if piece.end <= position:
                break
            found.append(piece)
        for piece in reversed(found):
            data = _bytes(piece.content)
            seen = max(0, position - (piece.end - len(data)))
            rest = data[seen:]
            is_text = isinstance(piece.content, str)
            yield Piece(rest.decode(errors="ignore") if is_text else rest, piece.end) if seen else piece


def _joined(last: str | bytes, content: str | bytes) -> str | bytes | None:
    """Return both as one if they are of one kind and the first is small: many tiny ones would weigh a lot."""
    if len(last) >= _SMALL_CHARS:
        return None
    if isinstance(last, str):
        return last + content if isinstance(content, str) else None
    return last + content if isinstance(content, bytes) else None


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


class Execution:
    """A job, what is kept of its output, and who listens. Lives in the event loop's thread."""

    def __init__(
        self,
        job: Job[Any],
        kept: CappedText | Replay,
        *,
        raw: bool,
        has_key: bool,
        pipes: Pipes | None = None,
    ) -> None:
        """Nobody listens yet."""
        self.job = job
        self.kept = kept
        self.pipes = pipes
        if pipes is not None:
            pipes.start(job.wake)
        self._transcripts = {channel: Transcript(raw=raw) for channel in job.channels}
        self.left_line = False
        self._has_key = has_key
        self._listeners = 0
        self._grace: asyncio.TimerHandle | None = None

    async def advance(self, timeout_seconds: float | None = None) -> bool:
        """Wait for more output and keep it; False once there is no more.

        Raises:
            SandboxLostError: the sandbox ended under the job.
        """
        if self._keep_piped():
            return True
        output = await self.job.next_output(timeout_seconds)
        self._keep(output or ())
        self._keep_piped()
        return output is not None

    def complete(self) -> None:
        """Keep the last of the output, now that the job has ended."""
        self._keep(self.job.rest())
        for transcript in self._transcripts.values():
            self.kept.add(transcript.finish())
        if self.pipes is not None and isinstance(self.kept, Replay):
            self.kept.add(self.pipes.finish())

    def _keep(self, output: Output) -> None:
        for channel, data in output:
            self.kept.add(self._transcripts[channel].feed(data))

    def _keep_piped(self) -> bool:
        """Keep what came through the pipe; whether there was any."""
        if self.pipes is None or not isinstance(self.kept, Replay) or self.job.is_finished:
            return False
        data = self.pipes.take()
        self.kept.add(data)
        return bool(data)

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
        self.job.wake()
        if self._listeners or self.job.is_finished:
            return
        if not self.job.started_at:
            # Nobody waits for it, so its turn must not come; whoever comes back with its key begins anew.
            self.left_line = True
            self.job.abandon()
        elif self._has_key:
            self._grace = asyncio.get_running_loop().call_later(GRACE_SECONDS, self.job.abandon)
        else:
            self.job.abandon()

    def cancel(self) -> bool:
        """Stop the job on behalf of who asked for it; return whether it had not ended yet."""
        was_open = not self.job.is_finished
        self.job.abandon()
        return was_open


class Listener:
    """One connection that waits for a job."""

    def __init__(self, execution: Execution) -> None:
        """Made by `Execution.listen`."""
        self.has_left = False
        self._execution = execution

    def leave(self) -> None:
        """The connection is gone, or has all it wanted."""
        if not self.has_left:
            self.has_left = True
            self._execution.on_left()
