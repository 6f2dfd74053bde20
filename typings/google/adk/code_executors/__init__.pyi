import abc
from typing import Any

from google.adk.code_executors.code_execution_utils import CodeExecutionInput, CodeExecutionResult
from pydantic import BaseModel

class BaseCodeExecutor(BaseModel):
    stateful: bool
    timeout_seconds: int | None
    @abc.abstractmethod
    def execute_code(
        self, invocation_context: Any, code_execution_input: CodeExecutionInput
    ) -> CodeExecutionResult: ...
