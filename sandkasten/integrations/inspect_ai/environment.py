"""A session as the environment of a sample; `sandkasten.integrations.inspect_ai` says more."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, overload

from sandkasten.client import SandboxClient
from sandkasten.errors import CannotStartError, SandkastenInputError
from sandkasten.integrations._missing import missing
from sandkasten.session import Session

try:
    import anyio.lowlevel
    from inspect_ai.util import (
        ExecResult,
        OutputLimitExceededError,
        SandboxEnvironment,
        SandboxEnvironmentLimits,
        SandboxUnavailableError,
        SandboxUserUnsupportedError,
        sandboxenv,
    )
    from pydantic import BaseModel, ConfigDict
except ModuleNotFoundError as error:
    raise missing(error, "inspect-ai") from None

from sandkasten.integrations._adapters.whole import GONE, OutputTooLongError, run_whole, write_as_open_does

__all__ = ["SandkastenConfig", "SandkastenEnvironment"]

_TTL_SECONDS = 86_400  # a sample may wait for its model for long


class SandkastenConfig(BaseModel):
    """The options of a task's sandboxes.

    Example::

        Task(sandbox=SandboxEnvironmentSpec("sandkasten", SandkastenConfig(image="base")))

    Attributes:
        image: as in `SandboxClient.create_session`, and so the others.
        network: `none` or `host`; None is what the daemon does by itself.
        env: variables.
        limits: what one sandbox may take, as `{"memory_bytes": "512m"}`.
        ttl_seconds: how long a sandbox lives after its last use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = "python"
    network: Literal["none", "host"] | None = None
    env: dict[str, str] | None = None
    limits: dict[str, int | float | str] | None = None
    ttl_seconds: int = _TTL_SECONDS


@dataclass
class _Shared:
    """The client of one event loop, and how many tasks and samples use it."""

    client: SandboxClient
    tasks: int = 0
    samples: int = 0


_shared: dict[object, _Shared] = {}


@sandboxenv(name="sandkasten")
class SandkastenEnvironment(SandboxEnvironment):
    """A session, as Inspect's tools and scorers use it.

    Attributes:
        session: the session.
    """

    def __init__(self, session: Session) -> None:
        """Bind to a session, whose end is somebody else's work."""
        super().__init__()
        self.session = session
        self._user: tuple[str, str] | None = None

    async def exec(  # noqa: PLR0917  (as Inspect calls it)
        self,
        cmd: list[str],
        input: str | bytes | None = None,  # noqa: A002  (its name there)
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a program; `timeout_retry` and `concurrency` change nothing.

        A program that is not there is a result with the exit code 127, as in a shell.

        Raises:
            TimeoutError: it ran for longer than `timeout`, and nothing of it is left.
            PermissionError: it cannot be executed.
            OutputLimitExceededError: it printed more than Inspect takes, and was stopped.
            SandboxUserUnsupportedError: `user` is not the sandbox's.
            SandboxUnavailableError: the session is gone, or the daemon.
        """
        with _in_their_terms():
            if user is not None:
                await self._check_user(user)
            most_bytes = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
            timeout_ms = None if timeout is None else max(1, round(timeout * 1000))
            try:
                done = await run_whole(
                    self.session, cmd,
                    most_bytes=most_bytes, stdin=input, cwd=cwd, env=env, timeout_ms=timeout_ms,
                )  # fmt: skip
            except CannotStartError as error:
                if error.reason == "not_executable":
                    raise PermissionError(error.what) from error
                return ExecResult(False, 127, "", f"{error.what}\n")
            except OutputTooLongError as error:
                text = _text(error.stdout or error.stderr)
                limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR
                raise OutputLimitExceededError(limit, text) from None
        if done.end == "lost":
            raise SandboxUnavailableError("The session ended while the command ran.")
        if done.end == "timeout":
            raise TimeoutError(f"The command ran for longer than {timeout} seconds, and was stopped.")
        return ExecResult(done.exit_code == 0, done.exit_code, _text(done.stdout), _text(done.stderr))

    async def _check_user(self, user: str) -> None:
        if self._user is None:
            found = await self.session.run("id -u; id -un")
            uid, _, name = found.stdout.strip().partition("\n")
            self._user = uid, name
        if user not in self._user:
            raise SandboxUserUnsupportedError(
                f"The sandbox has one user, {self._user[1] or self._user[0]}, and none can be added: it does "
                f"not run commands as {user}. Leave out user=."
            )

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file; it is complete at once, and missing parents are made.

        Raises:
            PermissionError: the file may not be written to.
            IsADirectoryError: it is a directory.
            SandboxUnavailableError: the session is gone, or the daemon.
        """
        with _in_their_terms():
            await write_as_open_does(self.session, file, contents)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Read a file, as text or as bytes.

        Raises:
            FileNotFoundError: there is none.
            IsADirectoryError: it is a directory.
            PermissionError: it may not be read.
            UnicodeDecodeError: it is not UTF-8, and `text` is true.
            OutputLimitExceededError: it is larger than Inspect takes.
            SandboxUnavailableError: the session is gone, or the daemon.
        """
        with _in_their_terms():
            found = await self.session.read(file, max_bytes=SandboxEnvironmentLimits.MAX_READ_FILE_SIZE)
        if found.truncated:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
        return found.content.decode() if text else found.content

    @classmethod
    async def task_init(cls, task_name: str, config: BaseModel | str | None) -> None:
        """Have a client for the task's samples."""
        _here().tasks += 1

    @classmethod
    async def sample_init(
        cls, task_name: str, config: BaseModel | str | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """Make a session for a sample.

        Raises:
            SandkastenInputError: a configuration of another kind.
            SandkastenError: as `SandboxClient.create_session` does.
        """
        options = _options(config)
        shared = _here()
        session = await shared.client.create_session(
            image=options.image,
            network=options.network,
            env=options.env,
            limits=options.limits,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            ttl_seconds=options.ttl_seconds,
        )
        shared.samples += 1
        return {"default": cls(session)}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: BaseModel | str | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        """End the sessions of a sample."""
        shared = _here()
        with anyio.CancelScope(shield=True):
            for environment in environments.values():
                shared.samples -= 1
                with suppress(*GONE):  # gone is what was wanted
                    await environment.as_type(cls).session.destroy()
            if shared.tasks <= 0 and shared.samples <= 0:
                await _close()

    @classmethod
    async def task_cleanup(cls, task_name: str, config: BaseModel | str | None, cleanup: bool) -> None:
        """Close the client with the last task; an embedded daemon ends with it."""
        shared = _here()
        shared.tasks -= 1
        if shared.tasks <= 0:
            with anyio.CancelScope(shield=True):
                await _close()

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        """Read the options of a task from a log."""
        return SandkastenConfig.model_validate(config)

    def default_polling_interval(self) -> float:
        """Return how often Inspect asks for requests of its services, in seconds."""
        return 0.2


def _options(config: BaseModel | str | None) -> SandkastenConfig:
    if isinstance(config, str):
        return SandkastenConfig(image=config)
    if config is None or isinstance(config, SandkastenConfig):
        return config or SandkastenConfig()
    raise SandkastenInputError(
        f"The sandbox's configuration is of type {type(config).__name__}.",
        "Pass the name of an image, or a SandkastenConfig.",
    )


def _here() -> _Shared:
    """Return what the samples of this event loop share; connections belong to a loop."""
    loop = anyio.lowlevel.current_token().native_token
    if loop not in _shared:
        _shared[loop] = _Shared(SandboxClient())
    return _shared[loop]


async def _close() -> None:
    shared = _shared.pop(anyio.lowlevel.current_token().native_token, None)
    if shared is not None:
        await shared.client.close()


@contextmanager
def _in_their_terms() -> Generator[None]:
    try:
        yield
    except GONE as error:
        raise SandboxUnavailableError(str(error)) from error


def _text(output: bytes) -> str:
    return output.decode(errors="replace")
