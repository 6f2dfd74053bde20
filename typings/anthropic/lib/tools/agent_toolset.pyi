import os

class AgentToolContext:
    workdir: str | os.PathLike[str]
