"""The events of running code become chunks; pure, so that both worlds read them alike."""

from __future__ import annotations

from attrs import define, evolve, field
from httpx_sse import ServerSentEvent

from sandkasten._events import EventReader, data_of, failure_of, is_count, piece_of
from sandkasten._processes.output import STREAMS, Outputs
from sandkasten._python.calls import result_of, rich_of
from sandkasten._python.values import PythonChunk, PythonResult, RichResult
from sandkasten.errors import SandkastenError, SandkastenStreamError

_SHOWN = ("display", "result")
# What is kept of the results, as much as `python` keeps.
_RICH_CHARS = 8 * 1024 * 1024


@define(eq=False, repr=False)
class PythonReader(EventReader):
    """Reads what one run prints and shows, in order.

    Attributes:
        keep_bytes: how much of each output is kept for the result.
        position: the position that it has come to.
    """

    keep_bytes: int
    position: int = 0
    _done: PythonResult | None = None
    _outputs: Outputs = field(init=False)
    _results: list[RichResult] = field(factory=list[RichResult])
    _rich_chars: int = 0
    _is_cut: bool = False

    def __attrs_post_init__(self) -> None:
        self._outputs = Outputs(self.keep_bytes)

    def read(self, event: ServerSentEvent) -> PythonChunk | None:
        """Make a chunk of an event; None for keep-alives, the end, and events of a later protocol.

        Raises:
            SandkastenAPIError: the daemon reports a failure, by its class.
            SandkastenStreamError: it reports one that has no class.
            SandkastenResponseError: the event's data cannot be read.
        """
        chunk: PythonChunk | None = None
        if event.event in STREAMS:
            data, _moment = piece_of(data_of(event), event.event)
            chunk = PythonChunk(event.event, self._outputs.add(event.event, data))
        elif event.event in _SHOWN:
            rich = rich_of(data_of(event), is_value=event.event == "result")
            self._keep(rich)
            chunk = PythonChunk(event.event, result=rich)
        elif event.event == "gap":
            self._is_cut = True
            chunk = PythonChunk("", missed_bytes=self._outputs.add_gap(event))
        elif event.event == "done":
            self._end(event)
        elif event.event == "error":
            self.finished = True
            raise failure_of(event, self.response, self._text("stdout") + self._text("stderr"))
        if is_count(event.id):
            self.position, self.cuts = int(event.id), 0
        return chunk

    def _keep(self, rich: RichResult) -> None:
        self._rich_chars += sum(map(len, rich.data.values()))
        if self._rich_chars > _RICH_CHARS:
            self._is_cut = True
        else:
            self._results.append(rich)

    def _end(self, event: ServerSentEvent) -> None:
        self._done = evolve(
            result_of(data_of(event)),
            stdout=self._text("stdout"),
            stderr=self._text("stderr"),
            results=tuple(self._results),
            truncated=self._is_cut or self._outputs.truncated,
        )
        self.finished = True

    def _text(self, name: str) -> str:
        return self._outputs.content(name).decode(errors="replace")

    def result(self) -> PythonResult:
        """Return how the run ended.

        Raises:
            SandkastenError: its end was not seen.
        """
        if self._done is None:
            raise SandkastenError("The code has no result yet: its end was not seen.", "Iterate to the end.")
        return self._done

    def _cut_short(self, because: str) -> SandkastenStreamError:
        return SandkastenStreamError(
            f"The stream was cut before the code's end{because}.",
            "The code was stopped; its variables are still there.",
            output=self._text("stdout") + self._text("stderr"),
        )
