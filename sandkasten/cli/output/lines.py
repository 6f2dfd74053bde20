"""Where a shell's lines come from: a script on standard input, or people (see `terminal.py`)."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol

from sandkasten.cli.output.failures import CommandLineError

_LONGEST_LINE_BYTES = 1024 * 1024


class LineSource(Protocol):
    """Gives lines, while it is entered."""

    def read(self, cwd: str, *, is_more: bool) -> str | None:
        """The next line without its end; None after the last one."""

    def size(self) -> tuple[int, int] | None:
        """Columns and rows of the window, if there is one."""

    @property
    def is_interactive(self) -> bool:
        """Whether people type."""
        ...

    def __enter__(self) -> LineSource: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class StandardInput:
    """A script's lines, without prompts."""

    is_interactive = False

    def read(self, cwd: str, *, is_more: bool) -> str | None:
        """The next line.

        Raises:
            CommandLineError: it is longer than any daemon takes.
        """
        line = sys.stdin.buffer.readline(_LONGEST_LINE_BYTES + 1)
        if len(line) > _LONGEST_LINE_BYTES:
            raise CommandLineError("A line is longer than 1 MiB. Copy it as a file: sandkasten cp.")
        text = line.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        return text.rstrip("\n") if line else None

    def size(self) -> tuple[int, int] | None:
        """A script has no window."""
        return None

    def __enter__(self) -> StandardInput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return
