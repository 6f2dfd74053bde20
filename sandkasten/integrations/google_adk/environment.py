"""A session as an environment of ADK's tools; `sandkasten.integrations.google_adk` says more."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from sandkasten.client import SandboxClient
from sandkasten.errors import CannotStartError, SandkastenError
from sandkasten.integrations._missing import missing
from sandkasten.session import Session

try:
    from google.adk.environment import BaseEnvironment, ExecutionResult
except ModuleNotFoundError as error:
    raise missing(error, "google-adk") from None

from sandkasten.integrations._adapters.making import made
from sandkasten.integrations._adapters.whole import GONE, NOTES, OutputTooLongError, run_whole

__all__ = ["SandkastenEnvironment"]

_MOST_OUTPUT_BYTES = 64 * 1024 * 1024
_MOST_FILE_BYTES = 256 * 1024 * 1024


class SandkastenEnvironment(BaseEnvironment):
    """An environment with a session of its own."""

    def __init__(self, client: SandboxClient, **options: Any) -> None:
        """Send nothing yet; `options` are those of `SandboxClient.create_session`."""
        self._client = client
        self._options = options
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The session itself.

        Raises:
            SandkastenError: the environment was not initialized.
        """
        if self._session is None:
            raise SandkastenError("The environment has no session yet.", "Await initialize().")
        return self._session

    @property
    def working_dir(self) -> Path:
        """The directory in which commands start."""
        return Path("/workspace")

    async def initialize(self) -> None:
        """Make the session, unless there is one."""
        if self._session is None:
            self._session = await made(self._client.create_session(**self._options), Session.destroy)
            self.is_initialized = True

    async def close(self) -> None:
        """End the session; it may have ended already."""
        session, self._session = self._session, None
        self.is_initialized = False
        if session is not None:
            with suppress(*GONE):  # gone is what was wanted
                await session.destroy()

    async def execute(self, command: str, *, timeout: float | None = None) -> ExecutionResult:
        """Run a command in a fresh bash; one that is cancelled, or runs out of time, leaves nothing.

        Raises:
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        timeout_ms = None if timeout is None else max(1, round(timeout * 1000))
        try:
            done = await run_whole(
                self.session, command, most_bytes=_MOST_OUTPUT_BYTES, timeout_ms=timeout_ms
            )
        except CannotStartError as error:
            return ExecutionResult(127, "", f"{error.what}\n")
        except OutputTooLongError:
            said = f"The command printed more than {_MOST_OUTPUT_BYTES:,} bytes, and was stopped.\n"
            return ExecutionResult(1, "", said)
        note = f"{NOTES[done.end]}\n" if done.end in NOTES else ""
        stdout, stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return ExecutionResult(done.exit_code, stdout, stderr + note, done.end == "timeout")

    async def read_file(self, path: Path) -> bytes:
        """Read a file of at most 256 MiB.

        Raises:
            FileNotFoundError: there is none.
            SandkastenError: any other failure.
        """
        found = await self.session.read(Path(path).as_posix(), max_bytes=_MOST_FILE_BYTES)
        if found.truncated:
            raise OSError(f"{path} has more than {_MOST_FILE_BYTES:,} bytes. Read a part of it by a command.")
        return found.content

    async def write_file(self, path: Path, content: str | bytes) -> None:
        """Write a file; it is complete at once, and missing parents are made.

        Raises:
            SandkastenError: it cannot be written.
        """
        await self.session.write(Path(path).as_posix(), content)
