"""mini-swe-agent fixes a program in a sandbox.

    pip install '.[local]' mini-swe-agent
    python docs/examples/mini_swe_agent.py

It runs without a key, since the model follows a script.
"""

from __future__ import annotations

from typing import Any

from minisweagent.agents.default import DefaultAgent
from minisweagent.exceptions import Submitted
from minisweagent.models.test_models import DeterministicModel, make_output
from pydantic import BaseModel

from sandkasten import ExecTimeoutError
from sandkasten_sync import SandboxClient, Session

DONE = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


class Config(BaseModel):
    """The options of the environment."""

    cwd: str = "/workspace"
    timeout: int = 30


class SandkastenEnvironment:
    """A session as the environment of an agent: each command is a bash of its own."""

    def __init__(self, session: Session, **options: Any) -> None:
        """Bind to a session."""
        self.session = session
        self.config = Config(**options)

    def execute(self, action: dict[str, Any], cwd: str = "") -> dict[str, Any]:
        """Run a command, and return what the model reads of it."""
        limit_ms = self.config.timeout * 1000
        try:
            result = self.session.run(
                f"exec 2>&1\n{action['command']}", cwd=cwd or self.config.cwd, timeout_ms=limit_ms
            )
        except ExecTimeoutError as error:
            return {"output": error.stdout, "returncode": -1, "exception_info": error.what}
        first, _, rest = result.stdout.lstrip().partition("\n")
        if first.strip() == DONE and result.ok:
            extra = {"exit_status": "Submitted", "submission": rest}
            raise Submitted({"role": "exit", "content": rest, "extra": extra})
        return {"output": result.stdout, "returncode": result.exit_code, "exception_info": ""}

    def get_template_vars(self, **kwargs: Any) -> dict[str, Any]:
        """Return the words that prompts may use."""
        return {**self.config.model_dump(), "system": "Linux", **kwargs}

    def serialize(self) -> dict[str, Any]:
        """Return the options, for the trajectory."""
        return {"info": {"config": {"environment": self.config.model_dump()}}}


def main() -> None:
    """Run the agent; put a real model here: `get_model("anthropic/claude-sonnet-4-5")`."""
    commands = ["python3 sum.py", "sed -i s/-/+/ sum.py; python3 sum.py", f"echo {DONE}; cat sum.py"]
    model = DeterministicModel(outputs=[make_output(f"I run {c}", [{"command": c}]) for c in commands])
    with SandboxClient() as client, client.create_session() as session:
        session.write("sum.py", "print(40 - 2)\n")
        environment = SandkastenEnvironment(session)
        agent = DefaultAgent(model, environment, system_template="Fix it.", instance_template="{{task}}")
        print(agent.run("The sum is to be 42.")["submission"], end="")


if __name__ == "__main__":
    main()
