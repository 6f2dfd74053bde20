"""An agent of deepagents writes a program in a sandbox and runs it.

    pip install '.[local,deepagents]'
    python docs/examples/deep_agent.py

It runs without a key, since the model follows a script.
"""

import asyncio
from typing import Any

from deepagents import create_deep_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall

from sandkasten import SandboxClient
from sandkasten.integrations.deepagents import SandkastenBackend


class ScriptedModel(GenericFakeChatModel):
    """Put a real one in its place, such as `"openai:gpt-5"`."""

    def bind_tools(self, *_args: Any, **_kwargs: Any) -> Any:
        return self


async def main() -> None:
    """Run the agent, and show each message."""
    file = {"file_path": "/workspace/a.py", "content": "print(6 * 7)"}
    write = ToolCall(name="write_file", args=file, id="1")
    run = ToolCall(name="execute", args={"command": "python3 /workspace/a.py"}, id="2")
    script = [AIMessage("", tool_calls=[write]), AIMessage("", tool_calls=[run]), AIMessage("It prints 42.")]
    async with SandboxClient() as client, await client.create_session() as session:
        backend = SandkastenBackend(async_session=session)
        agent = create_deep_agent(ScriptedModel(messages=iter(script)), backend=backend)
        state = await agent.ainvoke({"messages": [("user", "How much is 6 * 7?")]})
    print(*(f"{message.type}: {message.text}" for message in state["messages"]), sep="\n")


asyncio.run(main())
