from strands.sandbox import Sandbox
from strands.types.tools import AgentTool

def make_shell(*, sandbox: Sandbox | None = ..., name: str = ..., description: str = ...) -> AgentTool: ...
