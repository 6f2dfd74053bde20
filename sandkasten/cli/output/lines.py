"""Sources of a shell's lines: a script on standard input here, and people in `terminal.py`."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol

from sandkasten.cli.output.failures import CommandLineError

_LONGEST_LINE_BYTES = 1024 * 1024


class LineSource(Protocol):
    """A source of lines, which is used as a context manager."""

    def read(self, cwd: str, *, is_more: bool) -> str | None:
        """Return the next line without its end, or None after the last one."""

    def size(self) -> tuple[int, int] | None:
        """Return columns and rows of the window, or None without a window."""

    @property
    def is_interactive(self) -> bool:
        """True if people type the lines."""
        ...

    def __enter__(self) -> LineSource: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class StandardInput:
    """A script's lines, without prompts."""

    is_interactive = False

    def read(self, cwd: str, *, is_more: bool) -> str | None:
        """Return the next line that was typed.

        Raises:
            CommandLineError: the line is longer than any daemon accepts.
        """
        line = sys.stdin.buffer.readline(_LONGEST_LINE_BYTES + 1)
        if len(line) > _LONGEST_LINE_BYTES:
            raise CommandLineError("A line is longer than 1 MiB. Copy it as a file: sandkasten cp.")
        text = line.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        return text.rstrip("\n") if line else None

    def size(self) -> tuple[int, int] | None:
        """Return None, as a script has no window."""
        return None

    def __enter__(self) -> StandardInput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return
