"""A session as AutoGen's executor of code; `sandkasten.integrations.autogen` says more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sandkasten._cut import CappedText
from sandkasten.client import SandboxClient
from sandkasten.errors import SandkastenError, SandkastenInputError
from sandkasten.integrations._missing import missing
from sandkasten.session import Session

try:
    from autogen_core import CancellationToken
    from autogen_core.code_executor import CodeBlock, CodeExecutor, CodeResult
except ModuleNotFoundError as error:
    raise missing(error, "autogen") from None

from sandkasten.integrations._adapters.making import made
from sandkasten.integrations._adapters.whole import GONE, NOTES, OutputTooLongError, run_whole

__all__ = ["SandkastenCodeExecutor"]

_PROGRAMS = {
    **dict.fromkeys(("python", "py", "python3"), "python3"),
    **dict.fromkeys(("bash", "shell"), "bash"),
    "sh": "sh",
    **dict.fromkeys(("javascript", "js", "node"), "node"),
}
_TIMED_OUT = 124
_MOST_OUTPUT_BYTES = 64 * 1024 * 1024
_KEEP_BYTES = 1024 * 1024  # of a block's output, for the agent


class SandkastenCodeExecutor(CodeExecutor):
    """An executor with a session of its own; each block of code is a process of its own in /workspace."""

    def __init__(self, client: SandboxClient, *, timeout_seconds: float = 60, **options: Any) -> None:
        """Send nothing yet.

        Args:
            client: the client whose daemon has the session.
            timeout_seconds: how long a block may run.
            options: of the session, as `SandboxClient.create_session` takes them.

        Raises:
            SandkastenInputError: a time that is not above 0.
        """
        if not 0 < timeout_seconds < float("inf"):
            raise SandkastenInputError(f"timeout_seconds is {timeout_seconds}: it must be above 0.")
        self._client = client
        self._timeout_ms = max(1, round(timeout_seconds * 1000))
        self._options = options
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The session, for files and all else.

        Raises:
            SandkastenError: the executor was not started.
        """
        if self._session is None:
            raise SandkastenError("The executor has no session yet.", "Await start(), or use `async with`.")
        return self._session

    async def start(self) -> None:
        """Make the session, unless there is one."""
        if self._session is None:
            self._session = await made(self._client.create_session(**self._options), Session.destroy)

    async def stop(self) -> None:
        """End the session; it may have ended already."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(*GONE):  # gone is what was wanted
                await session.destroy()

    async def restart(self) -> None:
        """Begin again with a new session, and none of the files."""
        await self.stop()
        await self.start()

    async def execute_code_blocks(
        self, code_blocks: list[CodeBlock], cancellation_token: CancellationToken
    ) -> CodeResult:
        """Run blocks of Python, of a shell or of Node, one after another, to the first that fails.

        The output of each has standard error among it, and of more than 1 MiB head and tail. The exit code
        of a block that ran out of time is 124.

        Raises:
            asyncio.CancelledError: the token was cancelled; nothing of the block is left.
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        running = asyncio.ensure_future(self._run_all(code_blocks))
        cancellation_token.link_future(running)
        return await running

    async def _run_all(self, blocks: Sequence[CodeBlock]) -> CodeResult:
        outputs: list[str] = []
        for block in blocks:
            exit_code, output = await self._run(block)
            outputs.append(output)
            if exit_code:
                return CodeResult(exit_code, "\n".join(outputs))
        return CodeResult(0, "\n".join(outputs))

    async def _run(self, block: CodeBlock) -> tuple[int, str]:
        program = _PROGRAMS.get(block.language.lower())
        if program is None:
            known = ", ".join(_PROGRAMS)
            return 1, f"There is no language {block.language!r} here. Use one of: {known}."
        args = ["bash", "-c", 'exec "$0" - 2>&1', program]
        try:
            done = await run_whole(
                self.session,
                args,
                most_bytes=_MOST_OUTPUT_BYTES,
                stdin=block.code,
                env={"PYTHONUNBUFFERED": "1"},  # lest errors come before what was printed earlier
                timeout_ms=self._timeout_ms,
            )
        except OutputTooLongError as error:
            said = f"The code printed more than {_MOST_OUTPUT_BYTES:,} bytes, and was stopped."
            return 1, f"{_shortened(error.stdout)}\n{said}"
        output = _shortened(done.stdout)
        if done.end == "timeout":
            said = f"The code was stopped after {self._timeout_ms / 1000:g} seconds."
            return _TIMED_OUT, f"{output}\n{said}".lstrip()
        if done.end in NOTES:
            return done.exit_code, f"{output}\n{NOTES[done.end]}".lstrip()
        return done.exit_code, output


def _shortened(output: bytes) -> str:
    kept = CappedText(_KEEP_BYTES)
    kept.add(output.decode(errors="replace"))
    return kept.text()
