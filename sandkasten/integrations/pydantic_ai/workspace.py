"""A session as the workspace of an agent; `sandkasten.integrations.pydantic_ai` says more."""

from __future__ import annotations

import posixpath
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sandkasten.client import SandboxClient
from sandkasten.errors import CannotStartError, InvalidRequestError, SandkastenInputError
from sandkasten.integrations._missing import missing
from sandkasten.models import FileStat
from sandkasten.session import Session

try:
    import anyio
    from pydantic_ai.workspaces import (
        CommandResult,
        FileEntry,
        SupportsCommands,
        SupportsFilesystem,
        SupportsRealpath,
        WorkspaceBackend,
        WorkspaceCommand,
        WorkspaceOutputLimitError,
        WorkspaceRef,
        WorkspaceTimeoutError,
        WorkspaceUnavailableError,
    )
except ModuleNotFoundError as error:
    raise missing(error, "pydantic-ai") from None

from sandkasten.integrations._adapters.whole import GONE, OutputTooLongError, run_whole, write_as_open_does

__all__ = ["SandkastenWorkspace"]

PROVIDER = "sandkasten"
_WORKING_DIR = "/workspace"
_MOST_OUTPUT_BYTES = 10 * 1024 * 1024
_HEAD_BYTES = 64 * 1024  # of an output that is too long


class SandkastenWorkspace(WorkspaceBackend, SupportsCommands, SupportsFilesystem, SupportsRealpath):
    """A session of a daemon, made at the first use or found by its `ref`."""

    def __init__(self, client: SandboxClient, ref: WorkspaceRef | None = None, **options: Any) -> None:
        """Send nothing yet.

        Args:
            client: the client whose daemon has the session.
            ref: the session to work in; None makes a new one.
            options: of a new session, as `SandboxClient.create_session` takes them.

        Raises:
            SandkastenInputError: a `ref` of another provider, or options for a session that exists.
        """
        if ref is not None and ref.provider != PROVIDER:
            raise SandkastenInputError(f"The ref is of the provider {ref.provider!r}, not {PROVIDER!r}.")
        if ref is not None and options:
            raise SandkastenInputError(
                "The session of the ref exists: it takes no options.", "Leave them out."
            )
        self._client = client
        self._ref = ref
        self._options = options
        self._found: Session | None = None
        self._lock = anyio.Lock()

    @property
    def ref(self) -> WorkspaceRef | None:
        """The session's id, as soon as there is one."""
        return self._ref

    async def session(self) -> Session:
        """Return the session itself, for all that workspaces do not have; make it if need be.

        Raises:
            WorkspaceUnavailableError: it is gone, or the daemon.
            SandkastenError: as `SandboxClient.create_session` does.
        """
        if self._found is not None:
            return self._found
        async with self._lock:
            with _in_their_terms():
                return await self._open()

    async def _open(self) -> Session:
        if self._found is not None:  # meanwhile
            return self._found
        # Whoever is cancelled here would leave a session behind of which nobody knows.
        with anyio.CancelScope(shield=self._ref is None):
            if self._ref is None:
                session = await self._client.create_session(**self._options)
                self._ref = WorkspaceRef(provider=PROVIDER, id=session.id)
            else:
                session = await self._client.get_session(self._ref.id)
            self._found = session
            return session
        raise AssertionError("nobody else has the scope to cancel it")

    async def destroy(self) -> None:
        """End the session, if there is one; it may have ended already."""
        try:
            if self._ref is not None:
                await (await self.session()).destroy()
        except (*GONE, WorkspaceUnavailableError):
            pass  # that is what was wanted

    async def working_dir(self) -> str:
        """Return the directory in which commands start."""
        session = await self.session()
        with _in_their_terms():
            await session.info()  # whether it is there
        return _WORKING_DIR

    async def run(
        self,
        command: WorkspaceCommand,
        *,
        shell: bool = False,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> CommandResult:
        """Run a program, or with `shell` a text that bash runs.

        Raises:
            TypeError: a text without `shell`, or a list with it.
            ValueError: a timeout that cannot be meant, or an empty command.
            WorkspaceTimeoutError: it ran for longer than `timeout`, and nothing of it is left.
            WorkspaceOutputLimitError: it printed more than 10 MiB, and was stopped.
            WorkspaceUnavailableError: the session is gone, or the daemon.
        """
        if isinstance(command, str) != shell:
            raise TypeError("A text needs shell=True, a list of words needs shell=False.")
        if timeout is not None and not 0 < timeout < float("inf"):
            raise ValueError(f"timeout is {timeout!r}: it must be a number of seconds above 0, or None.")
        timeout_ms = None if timeout is None else max(1, round(timeout * 1000))
        session = await self.session()
        with _in_their_terms():
            try:
                done = await run_whole(
                    session, command, most_bytes=_MOST_OUTPUT_BYTES, env=env, timeout_ms=timeout_ms
                )
            except CannotStartError as error:
                exit_code = 126 if error.reason == "not_executable" else 127
                return CommandResult(exit_code=exit_code, stdout="", stderr=f"{error.what}\n")
            except OutputTooLongError as error:
                raise WorkspaceOutputLimitError(
                    "The command printed more than 10 MiB and was stopped. Let it write to a file, and read "
                    "a part of that.",
                    limit=_MOST_OUTPUT_BYTES,
                    stdout=_text(error.stdout[:_HEAD_BYTES]),
                    stderr=_text(error.stderr[:_HEAD_BYTES]),
                ) from None
            if done.end == "lost":
                raise WorkspaceUnavailableError("The session ended while the command ran.")
        stdout, stderr = _text(done.stdout), _text(done.stderr)
        if done.end == "timeout":
            text = f"The command ran for longer than {timeout:g} seconds, and was stopped."
            raise WorkspaceTimeoutError(text, stdout=stdout, stderr=stderr)
        return CommandResult(exit_code=done.exit_code, stdout=stdout, stderr=stderr)

    async def read_bytes(self, path: str) -> bytes:
        """Read a file."""
        session = await self.session()
        with _in_their_terms(path):
            return (await session.read(path)).content

    async def write_bytes(self, path: str, data: bytes) -> None:
        """Write a file; it is complete at once, and missing parents are made."""
        session = await self.session()
        with _in_their_terms(path):
            await write_as_open_does(session, path, data)

    async def stat(self, path: str) -> FileEntry:
        """Return the kind and the size of a path; symlinks are followed."""
        session = await self.session()
        with _in_their_terms(path):
            return _entry(path, await session.stat(path))

    async def list_dir(self, path: str) -> Sequence[FileEntry]:
        """List a directory; entries say of a symlink where it leads."""
        session = await self.session()
        entries: list[FileEntry] = []
        with _in_their_terms(path):
            for found in await session.list(path):
                place = posixpath.join(path, found.name)
                if found.kind == "symlink":
                    entries.append(await self._target(session, place))
                else:
                    size = found.size_bytes if found.kind == "file" else None
                    entries.append(FileEntry(name=found.name, path=place, is_dir=found.is_dir, size=size))
        return entries

    async def _target(self, session: Session, path: str) -> FileEntry:
        try:
            return _entry(path, await session.stat(path))
        except (OSError, InvalidRequestError):  # it leads nowhere, or in a circle
            return FileEntry(name=posixpath.basename(path), path=path, is_dir=False, size=None)

    async def make_dir(self, path: str) -> None:
        """Make a directory and its parents; it may be there."""
        session = await self.session()
        with _in_their_terms(path):
            await session.mkdir(path, exist_ok=True)

    async def remove(self, path: str) -> None:
        """Remove a file or a directory with all that is in it; of a symlink, the symlink.

        Raises:
            ValueError: it is the working directory, or above that.
        """
        session = await self.session()
        with _in_their_terms(path):
            parent = await self.realpath(posixpath.dirname(path))
            target = posixpath.normpath(posixpath.join(parent, posixpath.basename(path)))
            if f"{_WORKING_DIR}/".startswith(f"{target.rstrip('/')}/"):
                raise ValueError(f"{path!r} is the working directory, or above it: it cannot be removed.")
            await session.remove(path, recursive=True)

    async def exists(self, path: str) -> bool:
        """Return whether there is anything at a path."""
        session = await self.session()
        with _in_their_terms(path):
            return await session.exists(path)

    async def realpath(self, path: str) -> str:
        """Return a path without symlinks and `..`, as the sandbox sees it; what is missing stays as it is.

        Raises:
            OSError: symlinks lead in a circle.
        """
        session = await self.session()
        with _in_their_terms(path):
            done = await session.run(["realpath", "-m", "-z", "--", path])
        if not done.ok:
            raise OSError(done.stderr.strip())
        return done.stdout_bytes.removesuffix(b"\0").decode(errors="surrogateescape")


@contextmanager
def _in_their_terms(path: str | None = None) -> Generator[None]:
    try:
        yield
    except GONE as error:
        raise WorkspaceUnavailableError(str(error)) from error
    except InvalidRequestError as error:
        if path is None or isinstance(error, OSError):
            raise
        raise OSError(f"{path}: {error.what}") from error


def _entry(path: str, found: FileStat) -> FileEntry:
    size = found.size_bytes if found.kind == "file" else None
    return FileEntry(name=posixpath.basename(path), path=path, is_dir=found.is_dir, size=size)


def _text(output: bytes) -> str:
    return output.decode(errors="replace")
