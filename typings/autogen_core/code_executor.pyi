import abc
from dataclasses import dataclass

from autogen_core import CancellationToken

@dataclass
class CodeBlock:
    code: str
    language: str

@dataclass
class CodeResult:
    exit_code: int
    output: str

class CodeExecutor(abc.ABC):
    @abc.abstractmethod
    async def execute_code_blocks(
        self, code_blocks: list[CodeBlock], cancellation_token: CancellationToken
    ) -> CodeResult: ...
    @abc.abstractmethod
    async def start(self) -> None: ...
    @abc.abstractmethod
    async def stop(self) -> None: ...
    @abc.abstractmethod
    async def restart(self) -> None: ...
