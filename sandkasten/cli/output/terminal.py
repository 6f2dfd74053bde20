"""A prompt for people: editing, a history, and the window's size."""

from __future__ import annotations

import os
import readline
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from sandkasten.cli.output.text import field

_HISTORY_LINES = 1000
_MORE = "> "


class Terminal:
    """A prompt with editing and a history."""

    is_interactive = True

    def __init__(self, session_id: str) -> None:
        """Keep the session's name for the prompt."""
        self._name = session_id[:8]
        self._history = history_path(os.environ)

    def read(self, cwd: str, *, is_more: bool) -> str | None:
        """Ask for a line, and return it, or None at the end."""
        try:
            line = input(_MORE if is_more else f"{self._name}:{field(cwd)}$ ")
        except EOFError:
            print()  # the prompt's line ends
            return None
        if line.strip() and not line.startswith(" "):
            readline.add_history(line)
        return line

    def size(self) -> tuple[int, int] | None:
        """Return columns and rows of the window as it is now."""
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        return (columns, rows) if columns and rows else None

    def __enter__(self) -> Terminal:
        readline.set_auto_history(False)
        readline.set_history_length(_HISTORY_LINES)
        with suppress(OSError):  # the first time there is none
            readline.read_history_file(self._history)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a read-only home is no reason to complain at the end
            self._history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # What people type may be secret; readline itself asks the umask.
            os.close(os.open(self._history, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            readline.write_history_file(self._history)


def history_path(environ: Mapping[str, str]) -> Path:
    """Return the file of the prompt's history; pure, except that it looks up the home directory."""
    state = Path(environ.get("XDG_STATE_HOME", ""))
    base = state if state.is_absolute() else Path(os.path.expanduser("~/.local/state"))
    return base / "sandkasten" / "history"
