"""A session as the SDK's sandbox agents use it; `sandkasten.integrations.openai_agents.sandbox` says more."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal, cast

from agents.sandbox import User
from agents.sandbox.errors import (
    ConfigurationError,
    ErrorCode,
    ExecTimeoutError,
    ExecTransportError,
    ExposedPortUnavailableError,
    WorkspaceArchiveReadError,
    WorkspaceArchiveWriteError,
    WorkspaceReadNotFoundError,
    WorkspaceRootNotFoundError,
    WorkspaceStartError,
    WorkspaceWriteTypeError,
)
from agents.sandbox.session import BaseSandboxSession, SandboxSessionState
from agents.sandbox.session.pty_types import (
    PtyExecUpdate,
    clamp_pty_yield_time_ms,
    resolve_pty_write_yield_time_ms,
)
from agents.sandbox.session.runtime_helpers import RESOLVE_WORKSPACE_PATH_HELPER, RuntimeHelperScript
from agents.sandbox.types import ExecResult, ExposedPortEndpoint
from anyio import to_thread

from sandkasten.errors import (
    CannotStartError,
    ExtensionMissingError,
    SandboxFileNotFoundError,
    SandkastenError,
)
from sandkasten.integrations._adapters.whole import (
    GONE,
    NOTES,
    OutputTooLongError,
    run_whole,
    write_as_open_does,
)
from sandkasten.integrations._text import FIXABLE
from sandkasten.integrations.openai_agents.archives import without
from sandkasten.integrations.openai_agents.options import SandkastenSandboxClientOptions
from sandkasten.integrations.openai_agents.ports import Ports
from sandkasten.integrations.openai_agents.terminals import Terminals
from sandkasten.session import Session

MOST_OUTPUT_BYTES = 64 * 1024 * 1024
MOST_FILE_BYTES = 256 * 1024 * 1024

_DEFAULT_WAIT_SECONDS = 10.0
_DEFAULT_ANSWER_SECONDS = 0.25
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


class SandkastenSandboxSessionState(SandboxSessionState):
    """The parts of a sandbox that a paused run keeps, for whoever goes on with it.

    Attributes:
        sandbox_id: the session's id.
        options: of the session that takes its place if it is gone.
    """

    type: Literal["sandkasten"] = "sandkasten"  # pyright: ignore[reportIncompatibleVariableOverride]
    sandbox_id: str
    options: SandkastenSandboxClientOptions


class SandkastenSandboxSession(BaseSandboxSession):
    """A session as a sandbox of the SDK.

    Attributes:
        state: what a paused run keeps.
        session: the session itself.
    """

    state: SandkastenSandboxSessionState

    def __init__(
        self, state: SandkastenSandboxSessionState, session: Session, *, has_files: bool = False
    ) -> None:
        """Bind to a session, which `has_files` if it is the one of the state, or has its workspace."""
        self.state = state  # pyright: ignore[reportIncompatibleVariableOverride]
        self.session = session
        self._terminals = Terminals()
        self._ports = Ports()
        self._set_start_state_preserved(has_files)

    # ---- commands

    def supports_pty(self) -> bool:
        """Return true: a command may go on while the agent thinks, and may have a terminal."""
        return True

    def _prepare_exec_command(
        self, *command: str | Path, shell: bool | list[str], user: str | User | None
    ) -> list[str]:
        refuse_user(user)
        return super()._prepare_exec_command(*command, shell=shell, user=None)

    async def _exec_internal(self, *command: str | Path, timeout: float | None = None) -> ExecResult:
        args = [str(part) for part in command]
        env = await self.state.manifest.environment.resolve()
        timeout_ms = None if timeout is None else max(1, round(timeout * 1000))
        try:
            done = await run_whole(
                self.session,
                args,
                most_bytes=MOST_OUTPUT_BYTES,
                cwd=self.state.manifest.root,
                env=env,
                timeout_ms=timeout_ms,
            )
        except FIXABLE as error:
            return ExecResult(stdout=b"", stderr=f"{error}\n".encode(), exit_code=self._refusal(error))
        except OutputTooLongError as error:
            said = (
                f"The command printed more than {MOST_OUTPUT_BYTES:,} bytes, and was stopped. Let it write "
                "to a file, and read parts of that."
            )
            raise ExecTransportError(command=args, message=said, cause=error, retryable=False) from error
        except SandkastenError as error:
            raise _transport_error(args, error) from error
        if done.end == "lost":
            said = "The session ended while the command ran."
            raise ExecTransportError(command=args, message=said, retryable=False)
        if done.end == "timeout":
            outputs = {"stdout": _text(done.stdout), "stderr": _text(done.stderr)}
            raise ExecTimeoutError(command=args, timeout_s=timeout, context=outputs)
        note = f"{NOTES[done.end]}\n".encode() if done.end in NOTES else b""
        return ExecResult(stdout=done.stdout, stderr=done.stderr + note, exit_code=done.exit_code)

    async def pty_exec_start(
        self,
        *command: str | Path,
        timeout: float | None = None,
        shell: bool | list[str] = True,
        user: str | User | None = None,
        tty: bool = False,
        yield_time_s: float | None = None,
        max_output_tokens: int | None = None,
    ) -> PtyExecUpdate:
        """Start a command, and return what it prints in `yield_time_s`; it may go on afterwards.

        Of more than 1 MiB of output head and tail are kept.

        Raises:
            ExecTransportError: the session is gone, or the daemon; it starts no processes.
            ConfigurationError: another user.
        """
        args = self._prepare_exec_command(*command, shell=shell, user=user)
        wait_seconds = _DEFAULT_WAIT_SECONDS if yield_time_s is None else yield_time_s
        try:
            return await self._terminals.start(
                self.session,
                args,
                cwd=self.state.manifest.root,
                env=await self.state.manifest.environment.resolve(),
                is_terminal=tty,
                timeout_ms=None if timeout is None else max(1, round(timeout * 1000)),
                wait_ms=clamp_pty_yield_time_ms(round(wait_seconds * 1000)),
                max_tokens=max_output_tokens,
            )
        except ExtensionMissingError as error:
            # The SDK then runs it to its end, by `exec`.
            context = {"retry_safe": True}
            raise ExecTransportError(
                command=args, message=str(error), context=context, cause=error
            ) from error
        except FIXABLE as error:
            return PtyExecUpdate(None, f"{error}\n".encode(), self._refusal(error), None)
        except SandkastenError as error:
            raise _transport_error(args, error) from error

    async def pty_write_stdin(
        self,
        *,
        session_id: int,
        chars: str,
        yield_time_s: float | None = None,
        max_output_tokens: int | None = None,
    ) -> PtyExecUpdate:
        """Type into the terminal of a command, and return what comes; without `chars` only that.

        Raises:
            PtySessionNotFoundError: there is no such command, or it has ended.
            RuntimeError: it has no terminal.
            ExecTransportError: the session is gone, or the daemon.
        """
        wait_seconds = _DEFAULT_ANSWER_SECONDS if yield_time_s is None else yield_time_s
        wait_ms = resolve_pty_write_yield_time_ms(
            yield_time_ms=round(wait_seconds * 1000), input_empty=not chars
        )
        try:
            return await self._terminals.write(
                session_id, chars, wait_ms=wait_ms, max_tokens=max_output_tokens
            )
        except SandkastenError as error:
            raise _transport_error(["write_stdin", str(session_id)], error) from error

    async def pty_terminate_all(self) -> None:
        """End all commands that still run, with all that they started."""
        await self._terminals.end_all()

    def _refusal(self, error: SandkastenError) -> int:
        """Return the exit code of a command that did not start."""
        if not isinstance(error, CannotStartError):
            return _NOT_EXECUTABLE
        if error.reason == "no_directory":
            raise WorkspaceRootNotFoundError(path=self._workspace_root_path(), cause=error) from error
        return _NOT_EXECUTABLE if error.reason == "not_executable" else _NOT_FOUND

    async def _resolve_exposed_port(self, port: int) -> ExposedPortEndpoint:
        try:
            return ExposedPortEndpoint("127.0.0.1", await self._ports.listen(self.session, port))
        except (SandkastenError, OSError) as error:
            raise ExposedPortUnavailableError(
                port=port,
                exposed_ports=self.state.exposed_ports,
                reason="backend_unavailable",
                context={"detail": str(error)},
                cause=error,
            ) from error

    # ---- files

    async def read(self, path: Path, *, user: str | User | None = None) -> io.IOBase:
        """Read a file of at most 256 MiB.

        Raises:
            WorkspaceReadNotFoundError: there is none.
            WorkspaceArchiveReadError: it cannot be read, or is larger.
        """
        refuse_user(user)
        content = await self._read_bounded(path, max_bytes=MOST_FILE_BYTES + 1)
        if len(content) > MOST_FILE_BYTES:
            context = {"reason": f"it has more than {MOST_FILE_BYTES:,} bytes"}
            raise WorkspaceArchiveReadError(path=path, context=context, retryable=False)
        return io.BytesIO(content)

    async def _read_bounded(self, path: Path, *, max_bytes: int) -> bytes:
        place = await self._validate_path_access(path)
        try:
            return (await self.session.read(place.as_posix(), max_bytes=max_bytes)).content
        except SandboxFileNotFoundError as error:
            raise WorkspaceReadNotFoundError(path=path, cause=error) from error
        except SandkastenError as error:
            raise _read_error(path, error) from error

    async def write(self, path: Path, data: io.IOBase, *, user: str | User | None = None) -> None:
        """Write a file; it is complete at once, and missing parents are made.

        Raises:
            WorkspaceArchiveWriteError: it cannot be written.
            WorkspaceWriteTypeError: `data` gives something other than bytes and text.
        """
        refuse_user(user)
        content = cast("object", data.read())
        if not isinstance(content, str | bytes | bytearray):
            raise WorkspaceWriteTypeError(path=path, actual_type=type(content).__name__)
        place = await self._validate_path_access(path, for_write=True)
        with _writing(place):
            given = content if isinstance(content, str) else bytes(content)
            await write_as_open_does(self.session, place.as_posix(), given)

    async def _validate_path_access(self, path: Path | str, *, for_write: bool = False) -> Path:
        return await self._validate_remote_path_access(path, for_write=for_write)

    def _runtime_helpers(self) -> tuple[RuntimeHelperScript, ...]:
        return (RESOLVE_WORKSPACE_PATH_HELPER,)

    def _current_runtime_helper_cache_key(self) -> object:
        return self.state.sandbox_id

    # ---- from the beginning to the end

    async def _prepare_backend_workspace(self) -> None:
        root = self._workspace_root_path()
        try:
            await self.session.mkdir(root.as_posix(), exist_ok=True)
        except SandkastenError as error:
            raise WorkspaceStartError(path=root, message=str(error), cause=error) from error

    async def running(self) -> bool:
        """Return whether the session is there, and has the files that it is to have."""
        if not self.state.workspace_root_ready:
            return False
        try:
            await self.session.info()
        except GONE:
            return False
        return True

    async def _shutdown_backend(self) -> None:
        await self._ports.close()
        with suppress(*GONE):  # gone is what was wanted
            await self.session.destroy()

    async def persist_workspace(self) -> io.IOBase:
        """Return the workspace as a tar archive, in a temporary file.

        Raises:
            WorkspaceArchiveReadError: it cannot be had.
        """
        root = self._workspace_root_path()
        archive: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (the SDK closes it)
        try:
            async for piece in self.session.archive(root.as_posix()):
                await to_thread.run_sync(archive.write, piece)
            skipped = [path.as_posix() for path in self._persist_workspace_skip_relpaths()]
            if skipped:
                with archive:
                    archive = await to_thread.run_sync(without, archive, skipped)
        except BaseException as error:
            archive.close()
            if isinstance(error, SandkastenError):
                raise _read_error(root, error) from error
            raise
        archive.seek(0)
        return cast("io.IOBase", archive)

    async def hydrate_workspace(self, data: io.IOBase) -> None:
        """Unpack a tar archive into the workspace; nothing of it comes to lie elsewhere.

        Raises:
            WorkspaceArchiveWriteError: it is no such archive, or there is no room for it.
        """
        root = self._workspace_root_path()
        with _writing(root):
            await self.session.unpack(cast("IO[bytes]", data), root.as_posix())


def refuse_user(user: str | User | None) -> None:
    """Raise an error if there is a user.

    Raises:
        ConfigurationError: there is one.
    """
    if user is not None:
        name = user if isinstance(user, str) else user.name
        raise ConfigurationError(
            message=(
                f"The sandbox has one user, and none can be added: it runs nothing as {name}. "
                "Leave out the user."
            ),
            error_code=ErrorCode.SANDBOX_CONFIG_INVALID,
            op="exec",
            context={"user": name},
            retryable=False,
        )


def _transport_error(args: Sequence[str], error: SandkastenError) -> ExecTransportError:
    return ExecTransportError(command=args, message=str(error), cause=error, retryable=False)


def _read_error(path: Path, error: Exception) -> WorkspaceArchiveReadError:
    return WorkspaceArchiveReadError(path=path, context={"reason": str(error)}, cause=error)


@contextmanager
def _writing(path: Path) -> Generator[None]:
    try:
        yield
    except (SandkastenError, PermissionError) as error:
        raise WorkspaceArchiveWriteError(path=path, message=str(error), cause=error) from error


def _text(output: bytes) -> str:
    return output.decode(errors="replace")
