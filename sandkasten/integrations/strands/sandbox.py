"""A session as the sandbox of an agent; `sandkasten.integrations.strands` says more."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from sandkasten._cut import CappedText, mark
from sandkasten.errors import CannotStartError, SandkastenError
from sandkasten.integrations._missing import missing
from sandkasten.models import ProcessResult

try:
    from strands.sandbox import LANGUAGE_PATTERN, ExecutionResult, FileInfo, Sandbox, StreamChunk, StreamType
    from strands.sandbox.errors import SandboxPathNotFoundError, SandboxTimeoutError
    from strands.types.tools import AgentTool
    from strands.vended_tools.file_editor import make_file_editor
    from strands.vended_tools.shell import make_shell
except ModuleNotFoundError as error:
    raise missing(error, "strands") from None

from sandkasten.integrations._adapters.either import AnySession, Either
from sandkasten.integrations._adapters.whole import NOTES

__all__ = ["SandkastenSandbox"]

_KEEP_BYTES = 1024 * 1024
_MOST_FILE_BYTES = 256 * 1024 * 1024


class SandkastenSandbox(Sandbox):
    """A `session` as an agent's place to work."""

    def __init__(self, session: AnySession) -> None:
        """Bind to a session of either package, whose end is somebody else's work."""
        self.session = session
        self._either = Either(session)

    async def execute_streaming(
        self,
        command: str,
        *,
        timeout: float | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[StreamChunk | ExecutionResult, None]:
        """Run a command in a fresh bash, and iterate over its output and its result.

        Of more than 1 MiB of output the result has head and tail. Leaving early, or a cancel, stops it.

        Raises:
            SandboxTimeoutError: it ran for longer than `timeout`, and nothing of it is left.
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        async with aclosing(self._run(["bash", "-c", command], timeout, cwd, env)) as pieces:
            async for piece in pieces:
                yield piece

    async def execute_code_streaming(
        self,
        code: str,
        language: str,
        *,
        timeout: float | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[StreamChunk | ExecutionResult, None]:
        """Give code to an interpreter such as `python3`, as `execute_streaming` runs a command.

        Raises:
            ValueError: `language` is no name of a program.
        """
        if not LANGUAGE_PATTERN.fullmatch(language):
            raise ValueError(f"The language {language!r} is not the name of an interpreter.")
        file = f"/tmp/code-{uuid.uuid4().hex}"  # noqa: S108  (in the sandbox)
        await self._either.call(self._either.session.write, file, code)
        args = ["bash", "-c", 'exec 3< "$1"; rm -- "$1"; exec "$0" <&3 3<&-', language, file]
        async with aclosing(self._run(args, timeout, cwd, env)) as pieces:
            async for piece in pieces:
                yield piece

    async def _run(
        self, args: Sequence[str], timeout: float | None, cwd: str | None, env: dict[str, str] | None
    ) -> AsyncGenerator[StreamChunk | ExecutionResult, None]:
        outputs = {"stdout": CappedText(_KEEP_BYTES), "stderr": CappedText(_KEEP_BYTES)}
        limit_ms = None if timeout is None else max(1, round(timeout * 1000))
        try:
            async with aclosing(self._either.stream(args, cwd=cwd, env=env, timeout_ms=limit_ms)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ProcessResult):
                        yield _end(piece, timeout, outputs["stdout"].text(), outputs["stderr"].text())
                    else:
                        name: StreamType = "stderr" if piece.stream == "stderr" else "stdout"
                        text = mark(piece.missed_bytes) if piece.missed_bytes else piece.text
                        outputs[name].add(text)
                        yield StreamChunk(text, name)
        except CannotStartError as error:
            yield ExecutionResult(127, "", f"{error.what}\n")  # its directory is missing

    async def read_file(self, path: str, **kwargs: Any) -> bytes:
        """Read a file of at most 256 MiB."""
        with _in_their_terms():
            found = await self._either.call(self._either.session.read, path, max_bytes=_MOST_FILE_BYTES)
        if found.truncated:
            raise OSError(f"{path} has more than {_MOST_FILE_BYTES:,} bytes. Read a part of it by a command.")
        return bytes(found.content)

    async def write_file(self, path: str, content: bytes, **kwargs: Any) -> None:
        """Write a file; it is complete at once, and missing parents are made."""
        with _in_their_terms():
            await self._either.call(self._either.session.write, path, content)

    async def remove_file(self, path: str, **kwargs: Any) -> None:
        """Remove a file."""
        with _in_their_terms():
            await self._either.call(self._either.session.remove, path)

    async def list_files(self, path: str, **kwargs: Any) -> list[FileInfo]:
        """List a directory."""
        try:
            with _in_their_terms():
                entries = await self._either.call(self._either.session.list, path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SandboxPathNotFoundError(path) from error
        return [FileInfo(entry.name, entry.is_dir, entry.size_bytes) for entry in entries]

    def get_tools(self) -> list[AgentTool]:
        """Return the tools that an agent with this sandbox has: a shell and an editor of files."""
        return [make_file_editor(sandbox=self, name="file_editor"), make_shell(sandbox=self, name="shell")]


def _end(result: ProcessResult, seconds: float | None, stdout: str, stderr: str) -> ExecutionResult:
    if result.end == "timeout":
        raise SandboxTimeoutError(seconds, stdout, stderr)
    note = f"{NOTES[result.end]}\n" if result.end in NOTES else ""
    return ExecutionResult(result.exit_code, stdout, stderr + note)


@contextmanager
def _in_their_terms() -> Generator[None]:
    try:
        yield
    except SandkastenError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(str(error)) from error
