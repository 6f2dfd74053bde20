"""The backend: a session as the sandbox of an agent of deepagents."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anyio import to_thread

import sandkasten_sync
from sandkasten.errors import (
    ExecTimeoutError,
    InsufficientStorageError,
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandboxNotADirectoryError,
    SandboxPermissionError,
    SandkastenAPIError,
    SandkastenError,
    SandkastenInputError,
    TooLargeError,
)
from sandkasten.integrations._missing import missing
from sandkasten.session import Session as AsyncSession

try:
    from deepagents.backends.protocol import (
        ExecuteResponse,
        FileDownloadResponse,
        FileUploadResponse,
        GlobResult,
        GrepResult,
        LsResult,
    )
    from deepagents.backends.sandbox import BaseSandbox
except ModuleNotFoundError as error:
    raise missing(error, "deepagents") from None

from sandkasten.integrations._adapters.whole import NOTES
from sandkasten.integrations._text import FIXABLE
from sandkasten.integrations._verb import MAX_TIMEOUT_SECONDS
from sandkasten.integrations.deepagents.searches import current_search, searching

if TYPE_CHECKING:
    from deepagents.backends.protocol import DeleteResult

    from sandkasten.models import DirEntry, ProcessResult, ReadResult

__all__ = ["SandkastenBackend"]

DEFAULT_TIMEOUT_MS = 120_000
DEFAULT_MAX_FILE_BYTES = 64 * 1024 * 1024

_MAX_TIMEOUT_MS = MAX_TIMEOUT_SECONDS * 1000
_TIMED_OUT = 124  # as the program timeout has it
_REFUSED = 1
# In the order in which they are looked for.
_CODES: tuple[tuple[type[SandkastenError], str], ...] = (
    (SandboxFileNotFoundError, "file_not_found"),
    (SandboxIsDirectoryError, "is_directory"),
    (SandboxPermissionError, "permission_denied"),
)

_LIST_CODES: tuple[tuple[type[SandkastenError], str], ...] = (
    (SandboxFileNotFoundError, "path_not_found"),
    (SandboxNotADirectoryError, "not_a_directory"),
    (SandboxPermissionError, "permission_denied"),
)


class SandkastenBackend(BaseSandbox):
    """A session as the backend of an agent: its files and its commands.

    Give it the session of the package that your program uses, or one of each with the same id. A single
    blocking session serves `ainvoke` too, from threads; then cancelling does not stop a command. With only an
    async session, `invoke` raises an error.
    """

    def __init__(
        self,
        *,
        session: sandkasten_sync.Session | None = None,
        async_session: AsyncSession | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
    ) -> None:
        """Take sessions; nothing is sent.

        Args:
            session: a session of `sandkasten_sync`.
            async_session: a session of `sandkasten`.
            timeout_ms: the time limit of a command for which the model sets none, in milliseconds.
            max_file_bytes: the size of the largest file that `download_files` reads, in bytes.

        Raises:
            SandkastenInputError: there is no session, or there are two sandboxes; a limit is out of range.
        """
        if session is None and async_session is None:
            raise SandkastenInputError("There is no session.", "Pass session= (blocking) or async_session=.")
        if session is not None and async_session is not None and session.id != async_session.id:
            raise SandkastenInputError(
                f"The sessions are two sandboxes, {session.id} and {async_session.id}.",
                "Get the second one by get_session() of its client, with the id of the first.",
            )
        if not 1 <= timeout_ms <= _MAX_TIMEOUT_MS:
            raise SandkastenInputError(f"timeout_ms is {timeout_ms}: it must be 1 to {_MAX_TIMEOUT_MS}.")
        if max_file_bytes < 1:
            raise SandkastenInputError(f"max_file_bytes is {max_file_bytes}: it must be at least 1.")
        self._session = session
        self._async_session = async_session
        self._timeout_ms = timeout_ms
        self._max_file_bytes = max_file_bytes

    @property
    def id(self) -> str:
        """The session's id."""
        session = self._session or self._async_session
        assert session is not None
        return session.id

    # ---- blocking

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a command in a fresh bash, and return its output, standard error included.

        Args:
            command: any bash.
            timeout: when to stop it, in seconds; None is the backend's default, 0 the daemon's maximum, as is
                more than that (10 minutes).

        Raises:
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        limit_ms = self._limit_ms(timeout)
        try:
            if search := current_search():
                return search.run(self._blocking(), _merged(command), limit_ms)
            return _answer(self._blocking().run(_merged(command), timeout_ms=limit_ms))
        except FIXABLE as error:
            return _refusal(error, limit_ms)

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files; each of them has its own result.

        Raises:
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        return [self._upload(path, content) for path, content in files]

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files; each of them has its own result.

        Raises:
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        return [self._download(path) for path in paths]

    def _upload(self, path: str, content: bytes) -> FileUploadResponse:
        try:
            self._blocking().write(_checked(path), content)
        except (*FIXABLE, TooLargeError) as error:
            return FileUploadResponse(path, _code(error))
        return FileUploadResponse(path)

    def _download(self, path: str) -> FileDownloadResponse:
        try:
            found = self._blocking().read(_checked(path), max_bytes=self._max_file_bytes)
        except (*FIXABLE, TooLargeError) as error:
            return FileDownloadResponse(path, None, _code(error))
        return self._content(path, found)

    def ls(self, path: str) -> LsResult:
        """List a directory, however many names are in it; symlinks are not followed.

        Raises:
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        try:
            return _listed(path, self._blocking().list(_checked(path)))
        except FIXABLE as error:
            return LsResult(error=_why_not_listed(path, error))

    def glob(self, pattern: str, path: str | None = None) -> GlobResult:
        """Find files by a pattern, as deepagents does, but up to 64 MiB of results.

        Raises:
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        with searching() as search:
            return search.marked(super().glob(pattern, path))

    def grep(
        self, pattern: str, path: str | None = None, glob: str | None = None, **options: Any
    ) -> GrepResult:
        """Search in files for a text, as deepagents does, but up to 64 MiB of results.

        Raises:
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        with searching() as search:
            return search.marked(super().grep(pattern, path, glob, **options))

    # ---- async

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a command as `execute` does; cancelling stops it."""
        session = await self._awaited()
        if session is None:
            return await super().aexecute(command, timeout=timeout)  # `execute` in a thread
        limit_ms = self._limit_ms(timeout)
        try:
            if search := current_search():
                return await search.arun(session, _merged(command), limit_ms)
            return _answer(await session.run(_merged(command), timeout_ms=limit_ms))
        except FIXABLE as error:
            return _refusal(error, limit_ms)

    async def aupload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files as `upload_files` does."""
        session = await self._awaited()
        if session is None:
            return await super().aupload_files(files)
        responses: list[FileUploadResponse] = []
        for path, content in files:
            try:
                await session.write(_checked(path), content)
            except (*FIXABLE, TooLargeError) as error:
                responses.append(FileUploadResponse(path, _code(error)))
            else:
                responses.append(FileUploadResponse(path))
        return responses

    async def adownload_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files as `download_files` does."""
        session = await self._awaited()
        if session is None:
            return await super().adownload_files(paths)
        responses: list[FileDownloadResponse] = []
        for path in paths:
            try:
                found = await session.read(_checked(path), max_bytes=self._max_file_bytes)
            except (*FIXABLE, TooLargeError) as error:
                responses.append(FileDownloadResponse(path, None, _code(error)))
            else:
                responses.append(self._content(path, found))
        return responses

    async def adelete(self, file_path: str) -> DeleteResult:
        """Remove a file, or a directory with all that is in it; deepagents asks for that from 0.7 on."""
        from deepagents.backends.protocol import DeleteResult  # noqa: PLC0415  (0.6 does not have it)

        session = await self._awaited()
        if session is None:
            return await super().adelete(file_path)
        try:
            await session.remove(_checked(file_path), recursive=True)
        except SandboxFileNotFoundError:
            return DeleteResult(error=f"Error: '{file_path}' not found")
        except FIXABLE as error:
            return DeleteResult(error=f"Error deleting file '{file_path}': {error}")
        return DeleteResult(path=file_path)

    async def als(self, path: str) -> LsResult:
        """List a directory as `ls` does."""
        session = await self._awaited()
        if session is None:
            return await to_thread.run_sync(self.ls, path)
        try:
            return _listed(path, await session.list(_checked(path)))
        except FIXABLE as error:
            return LsResult(error=_why_not_listed(path, error))

    async def aglob(self, pattern: str, path: str | None = None) -> GlobResult:
        """Find files as `glob` does."""
        with searching() as search:
            return search.marked(await super().aglob(pattern, path))

    async def agrep(
        self, pattern: str, path: str | None = None, glob: str | None = None, **options: Any
    ) -> GrepResult:
        """Search in files as `grep` does."""
        with searching() as search:
            return search.marked(await super().agrep(pattern, path, glob, **options))

    # ---- the parts

    def _blocking(self) -> sandkasten_sync.Session:
        if self._session is None:
            raise NotImplementedError(
                "This backend has an async session only. Use ainvoke() or astream(), or give "
                "SandkastenBackend a session of sandkasten_sync as session=."
            )
        return self._session

    async def _awaited(self) -> AsyncSession | None:
        return self._async_session

    def _limit_ms(self, timeout_seconds: int | None) -> int:
        if timeout_seconds is None:
            return self._timeout_ms
        return min(timeout_seconds * 1000, _MAX_TIMEOUT_MS) or _MAX_TIMEOUT_MS

    def _content(self, path: str, found: ReadResult) -> FileDownloadResponse:
        if found.truncated:
            problem = f"The file has more than {self._max_file_bytes} bytes. Read a part of it."
            return FileDownloadResponse(path, None, problem)
        return FileDownloadResponse(path, found.content)


def _merged(command: str) -> str:
    """Return a command whose standard error comes among its output, in the order in which it is written."""
    if not isinstance(command, str) or not command.strip():
        raise SandkastenInputError("The command is empty.", "Pass a shell command.")
    return f"exec 2>&1\n{command}"


def _answer(result: ProcessResult) -> ExecuteResponse:
    output = result.output
    if note := NOTES.get(result.end):
        output = f"{output.rstrip()}\n{note}\n".lstrip()
    return ExecuteResponse(output, result.exit_code, result.truncated)


def _refusal(error: SandkastenError, limit_ms: int) -> ExecuteResponse:
    """Return what the model gets of a command that did not run, or not to its end."""
    if isinstance(error, ExecTimeoutError):
        sentence = (
            f"Error: the command was stopped after {limit_ms / 1000:g} seconds, with all that it started. "
            f"Pass a larger timeout (at most {MAX_TIMEOUT_SECONDS} seconds)."
        )
        return ExecuteResponse(_after(error.output, sentence), _TIMED_OUT, error.truncated)
    if isinstance(error, InsufficientStorageError):
        return ExecuteResponse(_after(error.output, f"Error: {error}"), _REFUSED, error.truncated)
    return ExecuteResponse(f"Error: {error}", _REFUSED)


def _after(output: str, sentence: str) -> str:
    return f"{output.rstrip()}\n{sentence}".lstrip()


def _checked(path: str) -> str:
    if not path.startswith("/"):
        raise SandkastenInputError(f"{path!r} is not an absolute path.", "Begin it with a slash.")
    return path


def _listed(path: str, entries: Sequence[DirEntry]) -> LsResult:
    return LsResult(
        entries=[{"path": posixpath.join(path, each.name), "is_dir": each.is_dir} for each in entries]
    )


def _why_not_listed(path: str, error: SandkastenError) -> str:
    """Return the sentence that deepagents has for a directory that is not there, or the error's own words."""
    for kind, word in _LIST_CODES:
        if isinstance(error, kind):
            return f"Path '{path}': {word}"
    return f"Path '{path}': {error}"


def _code(error: SandkastenError) -> str:
    """Return the code that deepagents has for an error of a file, or the error's own words."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    is_about_room = isinstance(error, InsufficientStorageError | TooLargeError)
    is_about_path = isinstance(error, SandkastenInputError | SandkastenAPIError) and not is_about_room
    return "invalid_path" if is_about_path else str(error)
