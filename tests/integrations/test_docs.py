"""The code in docs/agents.md runs, with models that follow a script."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

import pytest
from agents.testing import ScriptedModel, assistant_message, function_call
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall

from sandkasten import SandboxClient
from sandkasten.integrations.users import workspace_id_for_user

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "agents.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def names_of(words: str) -> dict[str, Any]:
    """Run the one block that has some words in it."""
    (block,) = [block for block in BLOCKS if words in block]
    names: dict[str, Any] = {}
    exec(compile(block, "docs/agents.md", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _embedded_daemon_keeps_its_files_here(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDKASTEN_DATA_DIR", str(data_dir))


def scripted(command: str) -> ScriptedModel:
    call = function_call("exec", {"command": command, "timeout_seconds": None}, call_id="1")
    return ScriptedModel([[call], [assistant_message("done")]])


def said_to(model: ScriptedModel) -> str:
    assert model.last_call is not None
    items: Any = model.last_call.input
    (output,) = [item["output"] for item in items if item.get("type") == "function_call_output"]
    return str(output)


def test_every_block_is_run_by_a_test() -> None:
    assert len(BLOCKS) == 3


async def test_the_tools_of_a_session() -> None:
    model = scripted("echo $((6 * 7))")
    assert await names_of("sandbox_tools")["answer"]("What is 6 * 7?", model) == "done"
    assert said_to(model) == "exit code 0, directory /workspace\n42\n"


async def test_an_agent_for_all_users(client: SandboxClient) -> None:
    names, user = names_of("context_tools"), f"ada {secrets.token_hex(8)}"
    for expected in ("1\n", "2\n"):  # the second time the file of the first is there
        model = scripted("echo visit >> visits; wc -l < visits")
        agent = names["make_agent"](model)
        assert await names["answer_user"](client, agent, user, "Hello") == "done"
        assert said_to(model).endswith(expected)
    await client.delete_workspace(workspace_id_for_user(user))


def test_langchain() -> None:
    class Model(GenericFakeChatModel):
        def bind_tools(self, *_args: Any, **_kwargs: Any) -> Any:
            return self

    call = ToolCall(name="exec", args={"command": "true"}, id="1")
    model = Model(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("done")]))
    assert names_of("SandboxToolkit")["answer"]("Go.", model) == "done"
