# The parts of smolagents that sandkasten/integrations/smolagents uses; it is no part of `dev`.
# The signatures are those of smolagents 1.26.0.

from enum import IntEnum

class LogLevel(IntEnum):
    OFF = -1

class AgentLogger:
    def __init__(self, level: LogLevel = ...) -> None: ...

class AgentError(Exception):
    def __init__(self, message: str, logger: AgentLogger) -> None: ...
