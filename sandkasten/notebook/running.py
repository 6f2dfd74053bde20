"""Running a command with its output shown while it runs."""

from __future__ import annotations

from collections.abc import Callable

from sandkasten.models import ExecResult
from sandkasten.notebook.errors import CellInterrupted
from sandkasten.notebook.text import size, visible
from sandkasten_sync import Session

# A notebook keeps all that is shown, in its file and in the page.
MAX_OUTPUT_CHARS = 1_000_000

Write = Callable[[str], object]


class CappedOutput:
    """Passes output on, up to a limit, and keeps what it passed on."""

    def __init__(self, write: Write, max_chars: int = MAX_OUTPUT_CHARS) -> None:
        """Start empty."""
        self._write = write
        self._left_chars = max_chars
        self._parts: list[str] = []
        self.truncated = False

    def add(self, text: str) -> None:
        """Take the next piece."""
        part = text[: self._left_chars]
        if part:
            self._left_chars -= len(part)
            self._parts.append(part)
            self._write(visible(part))
        if len(part) < len(text) and not self.truncated:
            self.truncated = True
            self._write("\n[The output goes on, but no more of it is shown or kept.]\n")

    def lose(self, missed_bytes: int) -> None:
        """Say that a part of the output did not arrive."""
        self._write(f"\n[{size(missed_bytes)} of output were lost with the connection.]\n")

    def text(self) -> str:
        """What was kept."""
        return "".join(self._parts)


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
    raise AssertionError("a stream ends with a chunk that is done, or raises")
