"""Commands of a sandbox agent that go on while it thinks, in terminals or without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agents.sandbox.errors import PtySessionNotFoundError
from agents.sandbox.session.pty_types import (
    PTY_PROCESSES_MAX,
    PtyExecUpdate,
    allocate_pty_process_id,
    process_id_to_prune_from_meta,
    truncate_text_by_tokens,
)

from sandkasten._cut import CappedText, mark
from sandkasten.errors import ProcessInputClosedError, SandkastenError
from sandkasten.integrations._adapters.making import made
from sandkasten.integrations._adapters.whole import GONE, NOTES
from sandkasten.models import ProcessResult
from sandkasten.process import Process
from sandkasten.session import Session

_SIZE = (80, 24)
# Of more output in one answer head and tail are kept.
_KEEP_BYTES = 1024 * 1024


@dataclass
class _Running:
    process: Process
    is_terminal: bool
    used_at: float = field(default_factory=time.monotonic)


class Terminals:
    """The commands of one session, by the numbers under which the model knows them."""

    def __init__(self) -> None:
        """Begin with no command."""
        self._running: dict[int, _Running] = {}

    async def start(
        self,
        session: Session,
        args: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        is_terminal: bool,
        timeout_ms: int | None,
        wait_ms: int,
        max_tokens: int | None,
    ) -> PtyExecUpdate:
        """Start a command, and return what it prints in `wait_ms`, or to its end if that is earlier.

        A caller who is cancelled leaves nothing of it, as nobody knows its number yet.

        Raises:
            SandkastenError: as `Session.start` does.
        """
        terminal = _SIZE if is_terminal else None
        starting = session.start(args, cwd=cwd, env=env, terminal=terminal, timeout_ms=timeout_ms)
        running = _Running(await made(starting, _end), is_terminal)
        try:
            number = await self._number_for(running)
            return await self._update(number, running, wait_ms, max_tokens)
        except BaseException:
            self._forget(running)
            await _end(running.process)
            raise

    async def write(self, number: int, chars: str, *, wait_ms: int, max_tokens: int | None) -> PtyExecUpdate:
        """Type into a terminal, and return what comes in `wait_ms`; without `chars` only that.

        Raises:
            PtySessionNotFoundError: there is no such command, or it has ended.
            RuntimeError: it has no terminal.
            SandkastenError: any other failure.
        """
        running = self._running.get(number)
        if running is None:
            raise PtySessionNotFoundError(session_id=number)
        if chars:
            if not running.is_terminal:
                raise RuntimeError("stdin is not available for this process")  # the SDK knows these words
            with suppress(ProcessInputClosedError):  # it has ended, and its last output comes now
                await running.process.write(chars)
        running.used_at = time.monotonic()
        return await self._update(number, running, wait_ms, max_tokens)

    async def end_all(self) -> None:
        """End all commands with all that they started."""
        processes = [running.process for running in self._running.values()]
        self._running.clear()
        await asyncio.gather(*map(_end, processes))

    async def _number_for(self, running: _Running) -> int:
        number = allocate_pty_process_id(set(self._running))
        if len(self._running) >= PTY_PROCESSES_MAX:
            meta = [
                (other, each.used_at, _result_of(each) is not None) for other, each in self._running.items()
            ]
            oldest = process_id_to_prune_from_meta(meta)
            if oldest is not None:
                await _end(self._running.pop(oldest).process)
        self._running[number] = running
        return number

    def _forget(self, running: _Running) -> None:
        self._running = {number: each for number, each in self._running.items() if each is not running}

    async def _update(
        self, number: int, running: _Running, wait_ms: int, max_tokens: int | None
    ) -> PtyExecUpdate:
        output = await _collected(running, wait_ms)
        result = _result_of(running)
        if result is not None:
            self._forget(running)
            if note := NOTES.get(result.end):
                output = f"{output.rstrip()}\n{note}\n".lstrip()
        text, token_count = truncate_text_by_tokens(output, max_tokens)
        return PtyExecUpdate(
            process_id=number if result is None else None,
            output=text.encode(errors="replace"),
            exit_code=None if result is None else result.exit_code,
            original_token_count=token_count,
        )


async def _collected(running: _Running, wait_ms: int) -> str:
    kept = CappedText(_KEEP_BYTES)
    until = time.monotonic() + wait_ms / 1000
    while True:
        left_ms = max(0, round((until - time.monotonic()) * 1000))
        for chunk in await running.process.read(timeout_ms=left_ms):
            kept.add(mark(chunk.missed_bytes) if chunk.missed_bytes else chunk.text)
        if not left_ms or _result_of(running) is not None:
            return kept.text()


def _result_of(running: _Running) -> ProcessResult | None:
    try:
        return running.process.result
    except SandkastenError:  # its end was not seen
        return None


async def _end(process: Process) -> None:
    with suppress(*GONE):  # gone is what was wanted
        await process.close(force=True)
