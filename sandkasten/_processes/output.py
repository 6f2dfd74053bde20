"""The events of a process's output become chunks; pure, so that both worlds read them alike.

Every event has the position after it as its id: bytes of both channels together. So a reader that lost its
connection goes on where it was, as does one that comes later, from another client too.
"""

from __future__ import annotations

import codecs

from attrs import define, evolve, field, frozen
from httpx_sse import ServerSentEvent

from sandkasten._answers import structure
from sandkasten._cut import CappedBytes, mark
from sandkasten._events import EventReader, data_of, failure_of, is_count, moment_of, piece_of
from sandkasten._processes.calls import result_of
from sandkasten.errors import SandkastenError, SandkastenStreamError
from sandkasten.models import ProcessChunk, ProcessResult

# How much of each channel a reader keeps for the result, as much as `run` keeps.
KEEP_BYTES = 1024 * 1024

STREAMS = ("stdout", "stderr")


class Outputs:
    """Both outputs of a program: their text as it comes, and what is kept of it."""

    def __init__(self, keep_bytes: int) -> None:
        """Keep at most so much of each."""
        self._kept = {name: CappedBytes(keep_bytes) for name in STREAMS}
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in STREAMS}

    def add(self, name: str, data: bytes) -> str:
        """Take a piece, and return its text, with the first half of a character that ended the one before."""
        self._kept[name].add(data)
        return self._decoders[name].decode(data)

    def add_gap(self, event: ServerSentEvent) -> int:
        """Note that something is missing, and return how much; it is not known of which output."""
        missed_bytes = max(0, structure(data_of(event), _Gap).missed_bytes)
        for decoder in self._decoders.values():
            decoder.reset()  # what comes next is no second half
        self._kept["stdout"].add(mark(missed_bytes).encode())
        return missed_bytes

    def content(self, name: str) -> bytes:
        """Return what is kept of an output."""
        return self._kept[name].content()

    @property
    def truncated(self) -> bool:
        """True if there was more than is kept."""
        return any(kept.truncated for kept in self._kept.values())


@define(eq=False, repr=False)
class OutputReader(EventReader):
    """Reads the output of one process, in order.

    Attributes:
        first: the position where it began.
        position: the position that it has come to.
        result: how the process ended, once that was seen.
        turn: which of the loops over this process is the last one that began.
    """

    first: int = 0
    position: int = field(init=False)
    result: ProcessResult | None = None
    turn: int = 0
    _outputs: Outputs = field(factory=lambda: Outputs(KEEP_BYTES))
    _read_bytes: int = 0

    def __attrs_post_init__(self) -> None:
        self.position = self.first

    @property
    def is_whole(self) -> bool:
        """True if the end was seen, and all that came before it was read here."""
        return self.result is not None and self.first == 0

    def begin(self) -> int:
        """Return the turn of a new loop; the ones before it end."""
        self.turn, self.response = self.turn + 1, None
        return self.turn

    def read_in(self, turn: int, event: ServerSentEvent) -> ProcessChunk | None:
        """Read an event as `read` does, in a loop that has this turn.

        Raises:
            SandkastenError: another loop over the same process began, and takes the chunks now; or what
                `read` raises.
        """
        if turn != self.turn:
            raise SandkastenError(
                "Another loop over this process began, and gets its output now.",
                "For two readers make another handle: session.process(process.id).",
            )
        return self.read(event)

    def read(self, event: ServerSentEvent) -> ProcessChunk | None:
        """Make a chunk of an event; None for keep-alives, the end, and events of a later protocol.

        Raises:
            SandkastenAPIError: the daemon reports a failure, by its class.
            SandkastenStreamError: it reports one that has no class.
            SandkastenResponseError: the event's data cannot be read.
        """
        chunk: ProcessChunk | None = None
        if event.event in STREAMS:
            chunk = self._piece(event)
        elif event.event == "gap":
            chunk = ProcessChunk("", b"", "", self._outputs.add_gap(event), moment_of(None))
        elif event.event == "done":
            self._end(event)
        elif event.event == "error":
            raise failure_of(event, self.response)
        if is_count(event.id) and (int(event.id) != self.position or chunk is not None):
            self.position, self.cuts = int(event.id), 0  # it goes on
        return chunk

    def _piece(self, event: ServerSentEvent) -> ProcessChunk:
        data, timestamp = piece_of(data_of(event), event.event)
        self._read_bytes += len(data)
        return ProcessChunk(event.event, data, self._outputs.add(event.event, data), 0, timestamp)

    def _end(self, event: ServerSentEvent) -> None:
        self.result = self.with_outputs(result_of(data_of(event)))
        self.finished = True

    def with_outputs(self, result: ProcessResult) -> ProcessResult:
        """Return a result with what was read here."""
        total_bytes = result.stdout_total_bytes + result.stderr_total_bytes
        return evolve(
            result,
            stdout_bytes=self._outputs.content("stdout"),
            stderr_bytes=self._outputs.content("stderr"),
            truncated=self._outputs.truncated or total_bytes > self._read_bytes,
        )

    def _cut_short(self, because: str) -> SandkastenStreamError:
        return SandkastenStreamError(
            f"The output was cut before the process's end{because}.",
            "The process goes on: iterate once more, and the output goes on where it was.",
        )


@frozen(eq=False, repr=False)
class _Gap:
    missed_bytes: int
