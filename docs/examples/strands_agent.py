"""An agent of Strands whose shell and files are those of a sandbox.

    pip install '.[local,strands]'
    python docs/examples/strands_agent.py

It runs without a key, since the model follows a script.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from strands import Agent
from strands.models.model import Model

from sandkasten import SandboxClient
from sandkasten.integrations.strands import SandkastenSandbox


class ScriptedModel(Model):
    """Put a real one in its place, such as `OpenAIModel(model_id="gpt-5")`."""

    def update_config(self, **model_config: Any) -> None: ...
    def get_config(self) -> Any: ...
    def structured_output(self, *args: Any, **kwargs: Any) -> Any: ...

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        block, start, stop = {"text": "It prints 42."}, {}, "end_turn"
        if len(messages) == 1:
            block = {"toolUse": {"input": json.dumps({"command": "python3 -c 'print(6 * 7)'"})}}
            start, stop = {"toolUse": {"name": "shell", "toolUseId": "1"}}, "tool_use"
        yield {"contentBlockStart": {"start": start}}
        yield {"contentBlockDelta": {"delta": block}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": stop}}


async def main() -> None:
    """Run the agent, and show each message."""
    async with SandboxClient() as client, await client.create_session() as session:
        agent = Agent(ScriptedModel(), sandbox=SandkastenSandbox(session), callback_handler=None)
        await agent.invoke_async("How much is 6 * 7?")
    for message in agent.messages:
        print(message["role"], message["content"][0])


asyncio.run(main())
