"""A shell of lines: it reads a command, runs it in the session, shows its output, and asks for the next one.

The session's own bash decides whether a command is complete, since only bash knows its syntax; obvious cases
are decided here. Commands that are run beside the user's leave `$?` as it was.
"""

from __future__ import annotations

import re
import shlex
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from sandkasten.cli.calls.streaming import ctrl_c_interrupts, stream
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import FAILED, INTERRUPTED, TIMED_OUT, sentence_of
from sandkasten.cli.parsing.arguments import fault_of

if TYPE_CHECKING:
    from sandkasten.cli.output.lines import LineSource
    from sandkasten_sync import Session

_RESERVED = frozenset(
    {"case", "coproc", "elif", "else", "for", "function", "if", "select", "then", "until", "while"}
)
_PLAIN = re.compile(r"[\w ./=:,@%+~^*?$-]*")
_UNFINISHED = re.compile(r"unexpected end of file|unexpected EOF|here-document .*\(wanted `(.*)'\)")
_EXIT = re.compile(r"\s*(?:exit|logout)(?:\s+(\d{1,3}))?\s*;?\s*")
# A longer one is no argument that a program can have; the shell itself says what is wrong with it.
_LONGEST_CHECKED_CHARS = 100_000
_ASIDE_MS = 10_000


class LineShell:
    """A shell that runs until the lines end, or until the command `exit`."""

    def __init__(self, session: Session, source: LineSource, output: out.Output, cwd: str) -> None:
        """Create a shell that starts in a directory."""
        self._session = session
        self._source = source
        self._output = output
        self._cwd = cwd
        self._told_size: tuple[int, int] | None = None
        self.status = 0

    def run(self) -> int:
        """Run until the end; return the last command's status as the exit code.

        Raises:
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        first_size = self._aside("stty size <&1 2>/dev/null") if self._source.is_interactive else ""
        try:
            while (text := self._next_command()) is not None:
                if leaving := _EXIT.fullmatch(text):
                    return int(leaving[1]) % 256 if leaving[1] else self.status
                if text.strip():
                    self._execute(text)
            return self.status
        finally:
            self._restore_size(first_size)

    # --- reading

    def _next_command(self) -> str | None:
        """Read lines until the lines are a whole command; return None at the end of input."""
        while True:
            try:
                return self._read_command()
            except KeyboardInterrupt:
                if not self._source.is_interactive:
                    raise
                out.say("")
                self.status = INTERRUPTED

    def _read_command(self) -> str | None:
        text, delimiter = "", None
        while (line := self._source.read(self._cwd, is_more=bool(text))) is not None:
            text += f"{line}\n"
            if delimiter is not None and line.lstrip("\t") != delimiter:
                continue  # still in the here-document
            if text.endswith("\\\n"):
                continue
            unfinished = self._unfinished(text)
            if unfinished is None:
                return text
            delimiter = unfinished[1]
        return text or None

    def _unfinished(self, text: str) -> re.Match[str] | None:
        """Return bash's message about a command that goes on in the next line, or None for a complete one."""
        if is_plain(text) or len(text) > _LONGEST_CHECKED_CHARS:
            return None
        return _UNFINISHED.search(self._aside(f"command bash -n -c {shlex.quote(text)} 2>&1 || :"))

    # --- running

    def _execute(self, text: str) -> None:
        from sandkasten import errors  # noqa: PLC0415  (loaded with the client)

        if fault := fault_of(text):
            out.say(fault)
            self.status = FAILED
            return
        self._tell_size()
        try:
            with ctrl_c_interrupts(self._session) if self._source.is_interactive else nullcontext():
                ending = stream(self._session, text, self._output)
        except KeyboardInterrupt:
            if not self._source.is_interactive:
                raise
            self.status, self._cwd = INTERRUPTED, self._session.info().cwd
        except (
            errors.ExecTimeoutError,
            errors.InsufficientStorageError,
            errors.InvalidRequestError,
            errors.SandkastenInputError,
        ) as error:
            out.say(sentence_of(error))
            self.status = TIMED_OUT if isinstance(error, errors.ExecTimeoutError) else FAILED
        else:
            self.status, self._cwd = ending.exit_code, ending.cwd or self._cwd
            if ending.shell_restarted:
                out.say(out.SHELL_ENDED)
        if self.status == INTERRUPTED and self._source.is_interactive:
            out.say("")  # after the ^C that the terminal shows

    def _aside(self, code: str) -> str:
        """Run a command that is not the user's, in a subshell that leaves `$?` as it was."""
        return self._session.exec(f"( s=$?; {code}; exit $s )", timeout_ms=_ASIDE_MS).output

    # --- the window

    def _tell_size(self) -> None:
        """Give the session's terminal the size of the window, if that has changed since the last command."""
        size = self._source.size()
        if size is not None and size != self._told_size:
            self._told_size = size
            self._aside(f"stty cols {size[0]} rows {size[1]} <&1 2>/dev/null || :")

    def _restore_size(self, first_size: str) -> None:
        rows_and_columns = first_size.split()
        if self._told_size is not None and len(rows_and_columns) == 2 and first_size.isascii():
            rows, columns = map(shlex.quote, rows_and_columns)
            with suppress(Exception):  # the session may be gone
                self._aside(f"stty rows {rows} cols {columns} <&1 2>/dev/null || :")


def is_plain(text: str) -> bool:
    """Return whether a line is obviously a whole command, as nothing in it could need another line; pure."""
    words = text.split(maxsplit=1)
    return _PLAIN.fullmatch(text.rstrip("\n")) is not None and (not words or words[0] not in _RESERVED)
