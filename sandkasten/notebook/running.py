"""Running commands with their output shown while they run, and processes beside the shell."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from sandkasten._cut import CappedText
from sandkasten.models import ExecResult, ProcessInfo
from sandkasten.notebook.errors import MagicError, interrupts_as
from sandkasten.notebook.tables import Table
from sandkasten.notebook.text import moment, size, visible
from sandkasten_sync import Process, Session

# A notebook keeps all that is shown, in its file and in the page.
MAX_OUTPUT_BYTES = 1_000_000
_ID_CHARS = 8
# What a notebook would keep of it is less.
_READ_BYTES = 4 * 1024 * 1024

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
        with (
            interrupts_as("The command was stopped; the session goes on."),
            session.exec_stream(command, timeout_ms=timeout_ms, keep_bytes=MAX_OUTPUT_BYTES) as stream,
        ):
            for chunk in stream:
                output.add(chunk.output)
                if chunk.missed_bytes:
                    output.lose(chunk.missed_bytes)
        return stream.result
    finally:
        output.end()


# --- processes beside the shell


def process_table(infos: Sequence[ProcessInfo]) -> Table:
    """Return the table of processes; pure."""
    rows = [
        (info.id[:_ID_CHARS], _state(info), moment(info.started_at), shlex.join(info.args)) for info in infos
    ]
    if not rows:
        return Table((), note="There are no processes beside the shell. `%sandbox start COMMAND` starts one.")
    return Table(rows, ("process", "state", "started", "command"))


def find_process(session: Session, typed: str, verb: str) -> Process:
    """Return the process whose id begins with a text.

    Raises:
        MagicError: none or several do.
    """
    found = [info.id for info in session.processes() if info.id.startswith(typed)]
    if len(found) != 1:
        how_many = "no process" if not found else f"{len(found)} processes"
        raise MagicError(f"%sandbox {verb}: there is {how_many} {typed!r}. `%sandbox ps` lists them.")
    return session.process(found[0])


def print_output(process: Process) -> None:
    """Print what a process printed so far, its two outputs as they came."""
    output = CappedOutput(lambda text: print(text, end="", flush=True))
    for chunk in process.read(max_bytes=_READ_BYTES):
        output.add(chunk.text)
        if chunk.missed_bytes:
            output.lose(chunk.missed_bytes)
    output.end()


def _state(info: ProcessInfo) -> str:
    if info.result is None:
        return "running"
    if info.result.end == "exited":
        return f"exited {info.result.exit_code}"
    return info.result.signal or info.result.end.replace("_", " ")
