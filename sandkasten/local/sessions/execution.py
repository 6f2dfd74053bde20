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
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandkasten._cut import CappedText
from sandkasten.local.files.pipes import Pipes
from sandkasten.local.sessions.job import Channel, Job, Output
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
    channel: Channel = Channel.TERMINAL


class Replay:
    """The end of a command's output, to be sent again to who missed it; pure.

    Attributes:
        end: how many bytes there were.
        limit_bytes: at least so many are kept, if there are as many.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Begin with nothing."""
        self.end = 0
        self.limit_bytes = limit_bytes
        self._pieces: deque[Piece] = deque()
        self._start = 0

    def add(
        self,
        content: str | bytes,
        channel: Channel = Channel.TERMINAL,
        *,
        spare_after: int | None = None,
    ) -> None:
        """Take what follows; nothing after the position `spare_after` is dropped for it."""
        if not content:
            return
        self.end += len(_bytes(content))
        last = self._pieces[-1] if self._pieces else None
        joined = _joined(last.content, content) if last is not None and last.channel is channel else None
        if joined is not None:
            self._pieces.pop()
        self._pieces.append(Piece(joined or content, self.end, channel))
        self.trim(spare_after=spare_after)

    def trim(self, *, spare_after: int | None = None) -> None:
        """Drop the oldest that is beyond the limit, and none of it after a position."""
        last = self.end if spare_after is None else spare_after
        while (
            self._pieces
            and self.end - self._pieces[0].end >= self.limit_bytes
            and self._pieces[0].end <= last
        ):
            self._start = self._pieces.popleft().end

    @property
    def size_bytes(self) -> int:
        """The number of bytes kept."""
        return self.end - self._start

    def missed_bytes(self, position: int) -> int:
        """The number of bytes behind a position that are gone."""
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
            content = rest.decode(errors="ignore") if is_text else rest
            yield Piece(content, piece.end, piece.channel) if seen else piece


def _joined(last: str | bytes, content: str | bytes) -> str | bytes | None:
    """Return both as one if they are of one kind and the first is small: many tiny ones would weigh a lot."""
    if len(last) >= _SMALL_CHARS:
        return None
    if isinstance(last, str):
        return last + content if isinstance(content, str) else None
    return last + content if isinstance(content, bytes) else None


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


class Attended:
    """A job and those who wait for it. Lives in the event loop's thread.

    Attributes:
        job: the job.
        left_line: whether everybody left before its turn came, so that it never will.
    """

    def __init__(self, job: Job[Any], *, has_key: bool) -> None:
        """Nobody listens yet; with a key somebody may come back."""
        self.job = job
        self.left_line = False
        self._has_key = has_key
        self._listeners = 0
        self._grace: asyncio.TimerHandle | None = None

    @property
    def size_bytes(self) -> int:
        """The memory that its output takes, in bytes."""
        return 0

    async def advance(self, timeout_seconds: float | None = None) -> bool:
        """Wait for more of the job; False once there is no more.

        Raises:
            SandboxLostError: the sandbox ended under the job.
            ApiError: the job could not begin.
        """
        return await self.job.next_output(timeout_seconds) is not None

    async def outlasts(self, listener: Listener, seconds: float | None) -> bool:
        """Wait for the job's end, at most so long; return whether job and listener are still there then.

        Raises:
            SandboxLostError: the sandbox ended under the job.
            ApiError: the job could not begin.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while not listener.has_left:
            left_seconds = None if until is None else until - time.monotonic()
            if left_seconds is not None and left_seconds <= 0:
                return True
            if not await self.advance(left_seconds):
                return False
        return False

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


class Execution(Attended):
    """A command, and what is kept of its output."""

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
        super().__init__(job, has_key=has_key)
        self.kept = kept
        self.pipes = pipes
        if pipes is not None:
            pipes.start(job.wake)
        self._transcripts = {channel: Transcript(raw=raw) for channel in job.channels}

    @property
    def size_bytes(self) -> int:
        """See `Attended`."""
        return self.kept.size_bytes

    async def advance(self, timeout_seconds: float | None = None) -> bool:
        """Wait for more output and keep it; see `Attended`."""
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


class Listener:
    """One connection that waits for a job."""

    def __init__(self, attended: Attended) -> None:
        """Made by `Attended.listen`."""
        self.has_left = False
        self._attended = attended

    def leave(self) -> None:
        """The connection is gone, or has all it wanted."""
        if not self.has_left:
            self.has_left = True
            self._attended.on_left()
