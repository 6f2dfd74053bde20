# The signatures are those of inspect-ai 0.3.285.

import abc
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar, overload

from pydantic import BaseModel

S = TypeVar("S", bound=type[SandboxEnvironment])
ST = TypeVar("ST", bound=SandboxEnvironment)
T = TypeVar("T", str, bytes)

class SandboxUserUnsupportedError(RuntimeError): ...
class SandboxUnavailableError(RuntimeError): ...

class OutputLimitExceededError(Exception):
    def __init__(self, limit_str: str, truncated_output: str | None) -> None: ...

class SandboxEnvironmentLimits:
    MAX_EXEC_OUTPUT_SIZE: int
    MAX_EXEC_OUTPUT_SIZE_STR: str
    MAX_READ_FILE_SIZE: int
    MAX_READ_FILE_SIZE_STR: str

class ExecResult(Generic[T]):
    success: bool
    returncode: int
    stdout: T
    stderr: T
    def __init__(self, success: bool, returncode: int, stdout: T, stderr: T) -> None: ...

def sandboxenv(name: str) -> Callable[[S], S]: ...

class SandboxEnvironment(abc.ABC):
    def __init__(self) -> None: ...
    @abc.abstractmethod
    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = ...,  # noqa: A002
        cwd: str | None = ...,
        env: dict[str, str] | None = ...,
        user: str | None = ...,
        timeout: int | None = ...,
        timeout_retry: bool = ...,
        concurrency: bool = ...,
    ) -> ExecResult[str]: ...
    @abc.abstractmethod
    async def write_file(self, file: str, contents: str | bytes) -> None: ...
    @overload
    async def read_file(self, file: str, text: Literal[True] = ...) -> str: ...
    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...
    def as_type(self, sandbox_cls: type[ST]) -> ST: ...
    def default_polling_interval(self) -> float: ...
    @classmethod
    async def task_init(cls, task_name: str, config: BaseModel | str | None) -> None: ...
    @classmethod
    async def sample_init(
        cls, task_name: str, config: BaseModel | str | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]: ...
    @classmethod
    @abc.abstractmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: BaseModel | str | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None: ...
    @classmethod
    async def task_cleanup(cls, task_name: str, config: BaseModel | str | None, cleanup: bool) -> None: ...
    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel: ...
