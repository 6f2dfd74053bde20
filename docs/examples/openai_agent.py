"""An agent of the OpenAI Agents SDK writes a program, runs it, reads the error and fixes it.

    pip install '.[local,openai-agents]'
    python docs/examples/openai_agent.py

It runs without a key, since the model follows a script.
"""

from __future__ import annotations

import asyncio

from agents import Agent, Model, RunConfig, Runner, ToolCallOutputItem
from agents.testing import ScriptedModel, assistant_message, function_call

from sandkasten import SandboxClient
from sandkasten.integrations.openai_agents import sandbox_tools

TASK = "How many days are there from 1 March 2024 to 1 March 2028? Use a program."

BROKEN = "from datetime import date\nprint(date(2028, 3, 1) - date(2024, 3))\n"
FIXED = "from datetime import date\nprint((date(2028, 3, 1) - date(2024, 3, 1)).days)\n"


def model() -> str | Model:
    """Put a real one here: `return "gpt-5"`, with OPENAI_API_KEY set."""
    run = {"command": "python3 days.py", "timeout_seconds": None}
    return ScriptedModel(
        [
            [function_call("write", {"path": "days.py", "content": BROKEN}, call_id="1")],
            [function_call("exec", run, call_id="2")],
            [function_call("write", {"path": "days.py", "content": FIXED}, call_id="3")],
            [function_call("exec", run, call_id="4")],
            [assistant_message("There are 1461 days.")],
        ]
    )


async def main() -> None:
    """Run the agent, and show what the sandbox said to it."""
    async with SandboxClient() as client, await client.create_session() as session:
        agent = Agent(
            name="coder",
            instructions="Work in the sandbox. Read errors, and fix their cause.",
            tools=sandbox_tools(session),
            model=model(),
        )
        # Traces would be sent to OpenAI, with what the tools say.
        result = await Runner.run(agent, TASK, run_config=RunConfig(tracing_disabled=True))
    for item in result.new_items:
        if isinstance(item, ToolCallOutputItem):
            print(f"--- {item.output}")
    print(f"=== {result.final_output}")


if __name__ == "__main__":
    asyncio.run(main())
