"""Running a command with its output shown while it runs."""

from __future__ import annotations

from collections.abc import Callable

from sandkasten._cut import CappedText
from sandkasten.models import ExecResult
from sandkasten.notebook.errors import CellInterrupted
from sandkasten.notebook.text import size, visible
from sandkasten_sync import Session

# A notebook keeps all that is shown, in its file and in the page.
MAX_OUTPUT_BYTES = 1_000_000

Write = Callable[[str], object]


class CappedOutput:
    """Passes output on as it comes, up to half of a limit; of what follows, the tail comes at the end."""

    def __init__(self, write: Write, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
        """Begin with no output."""
        self._write = write
        self._kept = CappedText(max_bytes)

    def add(self, text: str) -> None:
        """Add the next piece of output."""
        if part := self._kept.add(text):
            self._write(visible(part))

    def end(self) -> None:
        """Write what was held back, and where output is missing."""
        if rest := self._kept.rest():
            self._write(visible(rest))

    def lose(self, missed_bytes: int) -> None:
        """Say that a part of the output did not arrive."""
        self._write(f"\n[{size(missed_bytes)} of output were lost with the connection.]\n")


def run(session: Session, command: str, *, timeout_ms: int, write: Write) -> ExecResult:
    """Run a command in the session's shell and write its output as it comes.

    Leaving the stream, by an interrupt or in another way, stops the command.

    Raises:
        CellInterrupted: the kernel was interrupted meanwhile.
        SandkastenError: any failure.
    """
    output = CappedOutput(write)
    try:
        with session.exec_stream(command, timeout_ms=timeout_ms, keep_bytes=MAX_OUTPUT_BYTES) as stream:
            for chunk in stream:
                output.add(chunk.output)
                if chunk.missed_bytes:
                    output.lose(chunk.missed_bytes)
        return stream.result
    except KeyboardInterrupt:
        raise CellInterrupted("The command was stopped; the session goes on.") from None
    finally:
        output.end()
