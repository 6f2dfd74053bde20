"""An agent of Google's ADK that writes code, which runs in a sandbox.

    pip install '.[local,google-adk]'
    python docs/examples/adk_agent.py

It runs without a key, since the model follows a script.
"""

import asyncio
from collections.abc import AsyncGenerator

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types

from sandkasten.integrations.google_adk import SandkastenCodeExecutor
from sandkasten_sync import SandboxClient

SCRIPT = iter(["```python\nprint(6 * 7)\n```", "It is 42."])


class ScriptedModel(BaseLlm):
    """Put the name of a real one in its place, such as `model="gemini-2.5-pro"`."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        yield LlmResponse(content=types.ModelContent(next(SCRIPT)))


async def main(agent: LlmAgent) -> None:
    """Run the agent, and show each message."""
    runner = InMemoryRunner(agent, app_name="app")
    for event in await runner.run_debug("How much is 6 * 7?", quiet=True):
        (part,) = event.content.parts
        print(part.text or part.code_execution_result or part.executable_code)


with SandboxClient() as client, client.create_session() as session:
    executor = SandkastenCodeExecutor(session)
    asyncio.run(main(LlmAgent(name="coder", model=ScriptedModel(model="scripted"), code_executor=executor)))
