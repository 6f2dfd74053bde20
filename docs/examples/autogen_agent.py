"""An agent of AutoGen that writes code, which runs in a sandbox.

    pip install '.[local,autogen]' autogen-agentchat 'autogen-ext[openai]'
    python docs/examples/autogen_agent.py

It runs without a key, since the model follows a script.
"""

import asyncio

from autogen_agentchat.agents import ApprovalRequest, ApprovalResponse, CodeExecutorAgent
from autogen_ext.models.replay import ReplayChatCompletionClient

from sandkasten import SandboxClient
from sandkasten.integrations.autogen import SandkastenCodeExecutor

SCRIPT = ["```python\nprint(6 * 7)\n```", "It is 42."]


def approve(request: ApprovalRequest) -> ApprovalResponse:
    """Let all code run: it is in a sandbox."""
    return ApprovalResponse(approved=True, reason="It runs in a sandbox.")


async def main() -> None:
    """Run the agent; put a real model here, such as `OpenAIChatCompletionClient(model="gpt-5")`."""
    model = ReplayChatCompletionClient(SCRIPT)
    async with SandboxClient() as client, SandkastenCodeExecutor(client) as executor:
        agent = CodeExecutorAgent("coder", executor, model_client=model, approval_func=approve)
        async for event in agent.run_stream(task="How much is 6 * 7?"):
            if hasattr(event, "to_text"):
                print(f"{event.source}: {event.to_text()!r}")


asyncio.run(main())
