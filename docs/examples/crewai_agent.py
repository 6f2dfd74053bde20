"""An agent of CrewAI with a tool that runs commands in a sandbox.

    pip install '.[local]' crewai
    python docs/examples/crewai_agent.py

It runs without a key, since the model follows a script.
"""

from typing import Any

from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import tool

from sandkasten import SandkastenError
from sandkasten_sync import SandboxClient

SCRIPT = iter(
    [
        'Thought: I compute it.\nAction: bash\nAction Input: {"command": "python3 -c \'print(6 * 7)\'"}',
        "Thought: I know it.\nFinal Answer: It is 42.",
    ]
)


class ScriptedModel(BaseLLM):
    """Put the name of a real one in its place, such as `llm="gpt-5"`."""

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        return next(SCRIPT)


with SandboxClient() as client, client.create_session() as session:

    @tool("bash")
    def bash(command: str) -> str:
        """Run a command in a Linux sandbox; the shell remembers directory and variables."""
        try:
            result = session.exec(command)
        except SandkastenError as error:
            return str(error)
        print(f"$ {command}\n{result.output}exit code {result.exit_code}")
        return f"exit code {result.exit_code}\n{result.output}"

    model = ScriptedModel(model="scripted")
    agent = Agent(role="coder", goal="Answer.", backstory="", llm=model, tools=[bash])
    task = Task(description="How much is 6 * 7?", expected_output="A number.", agent=agent)
    print(Crew(agents=[agent], tasks=[task]).kickoff().raw)
