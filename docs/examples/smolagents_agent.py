"""An agent of smolagents whose code runs in a sandbox.

    pip install '.[local,smolagents]'
    python docs/examples/smolagents_agent.py

It runs without a key, since the model follows a script.
"""

from typing import Any

from smolagents import ChatMessage, CodeAgent, Model, tool
from smolagents.models import MessageRole

from sandkasten.integrations.smolagents import SandkastenExecutor
from sandkasten_sync import SandboxClient

SCRIPT = iter(["x = triple(2)\nprint('x is', x)", "final_answer(f'It is {x * 7}.')"])


class ScriptedModel(Model):
    """Put a real one in its place, such as `InferenceClientModel()`."""

    def generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatMessage:
        return ChatMessage(MessageRole.ASSISTANT, f"<code>\n{next(SCRIPT)}\n</code>")


@tool
def triple(number: int) -> int:
    """Return three times a number.

    Args:
        number: any number.
    """
    return 3 * number


with SandboxClient() as client, client.create_session() as session:
    executor = SandkastenExecutor(session)
    with CodeAgent([triple], ScriptedModel(), executor=executor, verbosity_level=0) as agent:
        answer = agent.run("How much is 6 * 7?")
        print(agent.memory.steps[1].observations)
print(answer)
