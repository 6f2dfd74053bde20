"""An agent of LangChain writes a program, runs it, reads the error and fixes it.

    pip install '.[local,langchain]' langchain
    python docs/examples/langchain_agent.py

It runs without a key, since the model follows a script.
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall, ToolMessage

from sandkasten import ExecResult
from sandkasten.integrations.langchain import SandboxToolkit
from sandkasten_sync import SandboxClient

TASK = "How many days are there from 1 March 2024 to 1 March 2028? Use a program."

BROKEN = "from datetime import date\nprint(date(2028, 3, 1) - date(2024, 3))\n"
FIXED = "from datetime import date\nprint((date(2028, 3, 1) - date(2024, 3, 1)).days)\n"
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("write", {"path": "days.py", "content": BROKEN}),
    ("exec", {"command": "python3 days.py"}),
    ("write", {"path": "days.py", "content": FIXED}),
    ("exec", {"command": "python3 days.py"}),
]


class ScriptedModel(GenericFakeChatModel):
    """Says what it was given to say, whatever tools it has."""

    def bind_tools(self, *_args: Any, **_kwargs: Any) -> Any:
        """Take the tools, and ignore them."""
        return self


def model() -> str | BaseChatModel:
    """Put a real one here: `return "openai:gpt-5"`, with langchain-openai and OPENAI_API_KEY."""
    calls = [
        AIMessage("", tool_calls=[ToolCall(name=name, args=args, id=str(number))])
        for number, (name, args) in enumerate(STEPS)
    ]
    return ScriptedModel(messages=iter([*calls, AIMessage("There are 1461 days.")]))


def main() -> None:
    """Run the agent, and show what the sandbox said to it."""
    with SandboxClient() as client, client.create_session() as session:
        tools = SandboxToolkit(session=session).get_tools()
        agent: Any = create_agent(
            model(), tools, system_prompt="Work in the sandbox. Read errors, and fix their cause."
        )
        state = agent.invoke({"messages": [("user", TASK)]})
    for message in state["messages"]:
        if isinstance(message, ToolMessage):
            print(f"--- {message.text}")
            if message.name == "exec":
                # Programs need not read the text: the artifact has what `session.exec` gave.
                print(f"(took {ExecResult(**message.artifact).duration_ms} ms)")
    print(f"=== {state['messages'][-1].text}")


if __name__ == "__main__":
    main()
