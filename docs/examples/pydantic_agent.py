"""An agent of Pydantic AI runs a program in its workspace, which is a sandbox.

    pip install '.[local,pydantic-ai]'
    python docs/examples/pydantic_agent.py

It runs without a key, since the model follows a script.
"""

from __future__ import annotations

import asyncio

from pydantic_ai import Agent, ModelMessage, ModelResponse, RunContext, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sandkasten import SandboxClient
from sandkasten.integrations.pydantic_ai import SandkastenWorkspace


def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Play the model."""
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("run", {"command": "python3 -c 'print(6 * 7)'"})])
    return ModelResponse(parts=[TextPart("It prints 42.")])


async def main() -> None:
    """Run the agent; put a real model here, such as "openai:gpt-5" with OPENAI_API_KEY set."""
    agent = Agent(FunctionModel(script))

    @agent.tool
    async def run(ctx: RunContext[None], command: str) -> str:
        result = await ctx.workspace.run(command, shell=True, timeout=30)  # noqa: S604
        print(f"tool: exit code {result.exit_code}: {result.stdout.strip()}")
        return result.stdout + result.stderr

    async with SandboxClient() as client:
        answer = await agent.run("How much is 6 * 7?", workspace=SandkastenWorkspace(client))
    print(answer.output)


if __name__ == "__main__":
    asyncio.run(main())
