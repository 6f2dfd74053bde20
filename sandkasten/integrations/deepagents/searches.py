"""Searches of an agent of deepagents, which are commands that may print more than a model reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from deepagents.backends.protocol import ExecuteResponse

import sandkasten_sync
from sandkasten.errors import ExecTimeoutError, ExtensionMissingError
from sandkasten.integrations._adapters.whole import OutputTooLongError, Whole, run_whole
from sandkasten.session import Session

__all__ = ["Search", "current_search", "searching"]

MOST_BYTES = 64 * 1024 * 1024

_TIMED_OUT = 124
_MORE = "There are more results than were read. Use a narrower pattern, or a directory further down."

Result = TypeVar("Result")


@dataclasses.dataclass
class Search:
    """A search, whose command is one that deepagents makes.

    Attributes:
        is_cut: whether results are missing.
    """

    is_cut: bool = False

    def run(self, session: sandkasten_sync.Session, command: str, timeout_ms: int) -> ExecuteResponse:
        """Run the command, and return all that it printed."""
        try:
            return self._answer(_run(session, command, timeout_ms))
        except OutputTooLongError as error:
            return self._cut(error.stdout)

    async def arun(self, session: Session, command: str, timeout_ms: int) -> ExecuteResponse:
        """Run the command as `run` does; cancelling stops it."""
        try:
            done = await run_whole(session, command, most_bytes=MOST_BYTES, timeout_ms=timeout_ms)
        except OutputTooLongError as error:
            return self._cut(error.stdout)
        return self._answer(done)

    def marked(self, result: Result) -> Result:
        """Return what deepagents made of the output, with its mark if results are missing, or an error."""
        found: Any = result
        if not self.is_cut or found.error:
            return result
        if hasattr(found, "truncated"):  # from 0.7 on
            found.truncated = True
        else:
            found.error, found.matches = _MORE, None
        return result

    def _answer(self, done: Whole) -> ExecuteResponse:
        self.is_cut = done.end != "exited"
        return ExecuteResponse(done.stdout.decode(errors="replace"), done.exit_code, self.is_cut)

    def _cut(self, head: bytes) -> ExecuteResponse:
        self.is_cut = True
        lines = head[: head.rfind(b"\n") + 1]
        return ExecuteResponse(lines.decode(errors="replace"), 0, True)


_current: ContextVar[Search | None] = ContextVar("search", default=None)


def current_search() -> Search | None:
    """Return the search that the caller's command is a part of, if it is one."""
    return _current.get()


@contextmanager
def searching() -> Generator[Search]:
    """Make the commands of the block those of a search, in tasks and threads that it starts too."""
    search = Search()
    token = _current.set(search)
    try:
        yield search
    finally:
        _current.reset(token)


def _run(session: sandkasten_sync.Session, command: str, timeout_ms: int) -> Whole:
    """Run a command as `run_whole` does, without async."""
    output = bytearray()
    try:
        process = session.start(command, timeout_ms=timeout_ms)
    except ExtensionMissingError:
        return _run_in_shell(session, command, timeout_ms)
    with process:
        for chunk in process:
            output += chunk.data
            if chunk.missed_bytes or len(output) > MOST_BYTES:
                process.close(force=True)
                raise OutputTooLongError(bytes(output[:MOST_BYTES]), b"")
        result = process.result
    return Whole(result.exit_code, result.end, bytes(output), b"")


def _run_in_shell(session: sandkasten_sync.Session, command: str, timeout_ms: int) -> Whole:
    try:
        result = session.run(command, timeout_ms=timeout_ms, keep_bytes=MOST_BYTES)
    except ExecTimeoutError as error:
        return Whole(_TIMED_OUT, "timeout", error.stdout.encode(), b"")
    if result.truncated:
        raise OutputTooLongError(result.stdout_bytes, b"")
    return Whole(result.exit_code, result.end, result.stdout_bytes, b"")
