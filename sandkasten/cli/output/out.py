"""Printing: data goes to standard output, messages go to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from typing import Any

from sandkasten.cli.output.text import field, for_terminal

_END_CHARS = 4096
SHELL_ENDED = "(The shell ended; another one has its directory and exported variables.)"


def say(text: str) -> None:
    """Print a message for people on standard error."""
    print(text, file=sys.stderr, flush=True)


def emit(text: str) -> None:
    """Print a line of data."""
    print(field(text), flush=True)


def emit_live(line: str) -> None:
    """Print a line of data at once, of fields that `field` has made harmless."""
    print(line, flush=True)


def emit_json(value: Any, *, one_line: bool = False) -> None:
    """Print data as JSON: attrs classes as objects, times in ISO 8601."""
    print(json.dumps(value, default=_plain, indent=None if one_line else 2), flush=True)


def emit_fields(fields: Mapping[str, str | int | tuple[str, ...] | None]) -> None:
    """Print names and values, one pair a line; values that are None are left out."""
    shown = {name: value for name, value in fields.items() if value is not None}
    width = max(map(len, shown), default=0) + 1
    for name, value in shown.items():
        words = " ".join(value) if isinstance(value, tuple) else value
        print(f"{f'{name}:':<{width}} {field(words)}")


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows: as a table on a terminal, otherwise as fields between tabs, without a head."""
    if not sys.stdout.isatty() or not has_rich():
        for row in rows:
            print("\t".join(map(field, row)))
        return
    from rich.console import Console  # noqa: PLC0415  (a tenth of a second, for terminals alone)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(field(cell)) for cell in row))
    Console().print(table)


@cache
def has_rich() -> bool:
    """Return whether tables and bars can be drawn; if not, print once how to install them."""
    try:
        import_module("rich")
    except ModuleNotFoundError:
        say("(Tables and progress bars need rich. Install it: pip install 'sandkasten[cli]')")
        return False
    return True


class Line:
    """A line of data that changes: updated in place on a terminal, printed again each time elsewhere."""

    def __init__(self) -> None:
        """Find out whether standard output is a terminal or a pipe."""
        self._redraws = sys.stdout.isatty()

    def show(self, text: str) -> None:
        """Show the line's new text."""
        if not self._redraws:
            print(field(text), flush=True)
            return
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
        print(f"\r{field(text)[: max(1, columns - 1)] if columns else field(text)}\x1b[K", end="", flush=True)

    def end(self) -> None:
        """Leave the line as it is, and begin the next one."""
        if self._redraws:
            print(flush=True)


class Output:
    """A remote command's output, as it comes.

    A pipe or a file gets the command's standard output byte for byte, and the command's standard error goes
    to ours. A terminal gets both as text, without escape sequences.

    Attributes:
        raw: whether a terminal's escape sequences are asked for.
        is_piped: whether the command's standard output is a pipe, too.
    """

    def __init__(self, *, raw: bool = False) -> None:
        """Find out whether standard output is a terminal or a pipe."""
        self.raw = raw
        self.is_piped = not raw and not sys.stdout.isatty()
        self._has_told_of_loss = False
        self._end = ""

    def begin(self) -> None:
        """Prepare for the output of another command."""
        self._end = ""

    @property
    def end(self) -> str:
        """Return the last part of the command's output, as text."""
        return self._end

    def write(self, text: str) -> None:
        """Print a piece of text of the command's terminal."""
        self._remember(text)
        stream = sys.stderr if self.is_piped else sys.stdout
        if stream.isatty() and not self.raw:
            text = for_terminal(text)
        elif stream is sys.stdout and "\N{REPLACEMENT CHARACTER}" in text:
            self._tell_of_loss()
        stream.buffer.write(text.encode(errors="replace"))
        stream.buffer.flush()

    def write_bytes(self, data: bytes) -> None:
        """Print a piece of bytes of the command's standard output."""
        if data:
            self._remember(data[-_END_CHARS:].decode(errors="replace"))
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def _remember(self, text: str) -> None:
        self._end = (self._end + text)[-_END_CHARS:]

    def _tell_of_loss(self) -> None:
        if not self._has_told_of_loss:
            self._has_told_of_loss = True
            say("(Bytes that are not UTF-8 were replaced on the way. Copy binary files: sandkasten cp.)")


class Channels:
    """The standard output and standard error of a process, as they come: ours, byte for byte.

    A terminal gets text without escape sequences, unless they are asked for.
    """

    def __init__(self, *, raw: bool = False) -> None:
        """Find out which of ours is a terminal."""
        self._streams = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._as_text = {name: each.isatty() and not raw for name, each in self._streams.items()}

    def write(self, name: str, data: bytes, text: str) -> None:
        """Print a piece of a channel."""
        stream = self._streams.get(name)
        if stream is not None:
            stream.buffer.write(for_terminal(text).encode(errors="replace") if self._as_text[name] else data)
            stream.buffer.flush()


def when(moment: datetime | None) -> str | None:
    """Return a time in the user's time zone; on a terminal in the short form of `ls`."""
    if moment is None:
        return None
    with suppress(OverflowError):  # in the year 1 or 9999, which files can be from
        moment = moment.astimezone()
    if sys.stdout.isatty() and abs(datetime.now(UTC) - moment) < timedelta(days=180):
        return f"{moment:%b %d %H:%M:%S}"
    return moment.isoformat(" ", "seconds")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    import attrs  # noqa: PLC0415  (loaded with the client's models)

    return attrs.asdict(value, recurse=False)
