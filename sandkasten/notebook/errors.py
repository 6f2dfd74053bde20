"""The errors of a cell, which IPython shows as one line, without the traceback of the magics."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sandkasten._python.values import PythonResult
from sandkasten.errors import (
    ExecTimeoutError,
    SandkastenError,
    SessionExpiredError,
    SessionNotFoundError,
)
from sandkasten.models import ExecResult


class MagicError(Exception):
    """A magic failed; the text is one sentence on what happened, and one on what to do."""

    def _render_traceback_(self) -> list[str]:  # the name that IPython looks for
        return [f"{type(self).__name__}: {self}"]


class CellFailedError(MagicError):
    """A cell's command ended with a non-zero status.

    Attributes:
        result: how it ended.
    """

    def __init__(self, result: ExecResult, why: str = "") -> None:
        """Make a text of the status and its reason, if that is known; the output stands above it already."""
        super().__init__(f"The cell ended with status {result.exit_code}. {why}".rstrip())
        self.result = result


class CellRaisedError(MagicError):
    """A cell's code raised an exception, or its interpreter ended.

    Attributes:
        result: all that it brought.
    """

    def __init__(self, result: PythonResult, lines: list[str]) -> None:
        """Keep the lines of its traceback, which is shown in place of one of the magics."""
        super().__init__("\n".join(lines))
        self.result = result

    def _render_traceback_(self) -> list[str]:
        return str(self).split("\n")


class CellInterrupted(KeyboardInterrupt):
    """The kernel was interrupted while a cell ran in the sandbox."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


@contextmanager
def interrupts_as(sentence: str) -> Generator[None, None, None]:
    """Raise CellInterrupted with a sentence in place of the kernel's interrupt.

    The kernel's output waits for a lock of `threading`. An interrupt that comes at a bad moment of that wait
    ends as a RuntimeError ("release unlocked lock") with the interrupt as its context.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise CellInterrupted(sentence) from None
    except RuntimeError as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise CellInterrupted(sentence) from None


def for_people(error: SandkastenError) -> MagicError:
    """Return the error that a notebook shows for an error of the library."""
    if isinstance(error, ExecTimeoutError):
        return MagicError(f"{error.what} The session goes on; --timeout SECONDS gives more time.")
    if isinstance(error, SessionExpiredError | SessionNotFoundError):
        return MagicError("The session is gone, with its files. Run `%sandbox reset` for a new one.")
    return MagicError(f"{error.what} {error.hint}".rstrip())
