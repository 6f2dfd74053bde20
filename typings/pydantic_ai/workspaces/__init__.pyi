# The signatures are those of pydantic-ai-slim 2.68.

from collections.abc import Mapping, Sequence
from typing import Protocol

WorkspaceCommand = str | Sequence[str]

class WorkspaceError(RuntimeError): ...
class WorkspaceUnavailableError(WorkspaceError): ...

class WorkspaceOutputLimitError(WorkspaceError):
    def __init__(self, message: str, *, limit: int, stdout: str = ..., stderr: str = ...) -> None: ...

class WorkspaceTimeoutError(WorkspaceError, TimeoutError):
    def __init__(self, message: str, *, stdout: str = ..., stderr: str = ...) -> None: ...

class WorkspaceRef:
    provider: str
    id: str
    def __init__(self, *, provider: str, id: str) -> None: ...  # noqa: A002

class CommandResult:
    exit_code: int
    stdout: str
    stderr: str
    def __init__(self, *, exit_code: int, stdout: str, stderr: str) -> None: ...

class FileEntry:
    name: str
    path: str
    is_dir: bool
    size: int | None
    def __init__(self, *, name: str, path: str, is_dir: bool, size: int | None) -> None: ...

class SupportsCommands(Protocol):
    async def run(
        self,
        command: WorkspaceCommand,
        *,
        shell: bool = ...,
        env: Mapping[str, str] | None = ...,
        timeout: float | None = ...,
    ) -> CommandResult: ...

class SupportsFilesystem(Protocol):
    async def read_bytes(self, path: str) -> bytes: ...
    async def write_bytes(self, path: str, data: bytes) -> None: ...
    async def stat(self, path: str) -> FileEntry: ...
    async def list_dir(self, path: str) -> Sequence[FileEntry]: ...
    async def make_dir(self, path: str) -> None: ...
    async def remove(self, path: str) -> None: ...
    async def exists(self, path: str) -> bool: ...

class SupportsRealpath(Protocol):
    async def realpath(self, path: str) -> str: ...

class WorkspaceBackend(Protocol):
    @property
    def ref(self) -> WorkspaceRef | None: ...
    async def working_dir(self) -> str: ...
