from dataclasses import dataclass
from typing import Any

@dataclass
class CodeOutput:
    output: Any
    logs: str
    is_final_answer: bool
