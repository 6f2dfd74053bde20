import abc
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal

from strands.types.tools import AgentTool

StreamType = Literal["stdout", "stderr"]

LANGUAGE_PATTERN: re.Pattern[str]

@dataclass
class StreamChunk:
    data: str
    stream_type: StreamType = ...

@dataclass
class FileInfo:
    name: str
    is_dir: bool | None = ...
    size: int | None = ...

@dataclass
class ExecutionResult:
    exit_code: int
    stdout: str
    stderr: str

class Sandbox(abc.ABC):
    @abc.abstractmethod
    def execute_streaming(
        self,
        command: str,
        *,
        timeout: float | None = ...,
        cwd: str | None = ...,
        env: dict[str, str] | None = ...,
        **kwargs: Any,
    ) -> AsyncGenerator[StreamChunk | ExecutionResult]: ...
    @abc.abstractmethod
    def execute_code_streaming(
        self,
        code: str,
        language: str,
        *,
        timeout: float | None = ...,
        cwd: str | None = ...,
        env: dict[str, str] | None = ...,
        **kwargs: Any,
    ) -> AsyncGenerator[StreamChunk | ExecutionResult]: ...
    @abc.abstractmethod
    async def read_file(self, path: str, **kwargs: Any) -> bytes: ...
    @abc.abstractmethod
    async def write_file(self, path: str, content: bytes, **kwargs: Any) -> None: ...
    @abc.abstractmethod
    async def remove_file(self, path: str, **kwargs: Any) -> None: ...
    @abc.abstractmethod
    async def list_files(self, path: str, **kwargs: Any) -> list[FileInfo]: ...
    def get_tools(self) -> list[AgentTool]: ...
