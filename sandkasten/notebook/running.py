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
        """Start empty."""
        self._write = write
        self._kept = CappedText(max_bytes)

    def add(self, text: str) -> None:
        """Take the next piece."""
        if part := self._kept.add(text):
            self._write(visible(part))

    def end(self) -> None:
        """Write what was held back, and where output is missing."""
        if rest := self._kept.rest():
            self._write(visible(rest))

    @property
    def truncated(self) -> bool:
        """Whether output is missing."""
        return self._kept.truncated

    def lose(self, missed_bytes: int) -> None:
        """Say that a part of the output did not arrive."""
        self._write(f"\n[{size(missed_bytes)} of output were lost with the connection.]\n")

    def text(self) -> str:
        """What was kept."""
        return self._kept.text()


def run(session: Session, command: str, *, timeout_ms: int, write: Write) -> ExecResult:
    """Run a command in the session's shell and write its output as it comes.

    Leaving the stream, by an interrupt or in another way, stops the command.

    Raises:
        CellInterrupted: the kernel was interrupted meanwhile.
        SandkastenError: any failure.
    """
    output = CappedOutput(write)
    try:
        with session.exec_stream(command, timeout_ms=timeout_ms) as stream:
            for chunk in stream:
                output.add(chunk.output)
                if chunk.missed_bytes:
                    output.lose(chunk.missed_bytes)
                if chunk.done:
                    return ExecResult(
                        exit_code=chunk.exit_code or 0,
                        cwd=chunk.cwd or "",
                        output=output.text(),
                        truncated=output.truncated,
                        duration_ms=chunk.duration_ms or 0,
                        shell_restarted=chunk.shell_restarted,
                    )
    except KeyboardInterrupt:
        raise CellInterrupted("The command was stopped; the session goes on.") from None
    finally:
        output.end()
    raise AssertionError("a stream ends with a chunk that is done, or raises")
