"""A sandbox agent of the OpenAI Agents SDK waits for an approval, and goes on in another process.

    pip install '.[local,openai-agents]'
    python docs/examples/openai_sandbox.py run.json
    python docs/examples/openai_sandbox.py run.json

It runs without a key, since the model follows a script.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agents import Model, RunConfig, Runner, RunState, function_tool
from agents.sandbox import SandboxAgent, SandboxRunConfig
from agents.testing import ScriptedModel, assistant_message, function_call

from sandkasten import SandboxClient
from sandkasten.integrations.openai_agents.sandbox import SandkastenSandboxClient


@function_tool(needs_approval=True)
def publish(text: str) -> str:
    """Publish a text."""
    print(f"published: {text}")
    return "done"


def model(*, approved: bool) -> str | Model:
    """Put a real one here: `return "gpt-5"`, with OPENAI_API_KEY set."""
    write = function_call("exec_command", {"cmd": "python3 -c 'print(6 * 7)' > answer"}, call_id="1")
    ask = function_call("publish", {"text": "The answer is 42."}, call_id="2")
    read = function_call("exec_command", {"cmd": "cat answer"}, call_id="3")
    return ScriptedModel([[read], [assistant_message("All done.")]] if approved else [[write], [ask]])


async def main(saved: str | None) -> str | None:
    """Run until an approval is needed, and return the run; with one of these approve, and go on."""
    agent = SandboxAgent(name="writer", tools=[publish], model=model(approved=saved is not None))
    async with SandboxClient() as client:
        config = RunConfig(
            sandbox=SandboxRunConfig(client=SandkastenSandboxClient(client)), tracing_disabled=True
        )
        if saved is None:
            result = await Runner.run(agent, "How much is 6 * 7?", run_config=config)
            print("waits for:", *(item.name for item in result.interruptions))
            return result.to_state().to_string()
        state = await RunState.from_string(agent, saved)
        for interruption in state.get_interruptions():
            state.approve(interruption)
        result = await Runner.run(agent, state, run_config=config)
    print(f"=== {result.new_items[-2].output.splitlines()[-1]}: {result.final_output}")
    return None


if __name__ == "__main__":
    file = Path(sys.argv[1])
    if waiting := asyncio.run(main(file.read_text() if file.exists() else None)):
        file.write_text(waiting)
