"""Sessions of both packages as async code uses them: that of the blocking one works in threads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from anyio import to_thread

import sandkasten_sync
from sandkasten.errors import SandkastenError
from sandkasten.integrations._adapters.making import made
from sandkasten.integrations._adapters.whole import GONE
from sandkasten.models import ProcessChunk, ProcessResult
from sandkasten.session import Session

AnySession = Session | sandkasten_sync.Session

# How long output waits for more; a caller who is cancelled waits as long at most, for a thread.
_ROUND_MS = 250
_LAST_SECONDS = 5.0


class Either:
    """A session of one of the packages."""

    def __init__(self, session: AnySession) -> None:
        """Bind to a session, whose end is somebody else's work."""
        self.session: Any = session
        self._is_blocking = isinstance(session, sandkasten_sync.Session)

    async def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return what a method of the session, or of something that came from it, returns."""
        if self._is_blocking:
            return await to_thread.run_sync(partial(method, *args, **options))
        return await method(*args, **options)

    async def stream(
        self,
        args: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
    ) -> AsyncGenerator[ProcessChunk | ProcessResult, None]:
        """Iterate over the output of a program, and at last its result; leaving early ends the program.

        Raises:
            SandkastenError: as `Session.start` and `Process.read` do.
        """
        process: Any = None
        result: ProcessResult | None = None
        try:
            starting = self.call(self.session.start, args, cwd=cwd, env=env, timeout_ms=timeout_ms)
            process = await made(starting, lambda started: self.call(started.close, force=True))
            while result is None:
                for chunk in await self.call(process.read, timeout_ms=_ROUND_MS):
                    yield chunk
                with suppress(SandkastenError):  # its end was not seen yet
                    result = process.result
            yield result
        finally:
            if process is not None and result is None:
                with anyio.move_on_after(_LAST_SECONDS, shield=True), suppress(*GONE):
                    await self.call(process.close, force=True)
