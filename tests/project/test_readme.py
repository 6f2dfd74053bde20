"""The README's examples run as they stand; the blocking ones also as the async code they promise to be."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from agents.testing import ScriptedModel, assistant_message, function_call

from sandkasten.local.launch import LocalDaemon
from tests.alone import address_of, run

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

# One of these words is in each example; what follows must be in its output.
OUTPUTS = {
    "hello.py": ["Hello, World!\n"],
    "asyncio.run": ["Hello, World, from /tmp\n"],
    "x + 1": ["43\n"],
    "uname": ["Linux\n"],
    "line $i": ["line 1\nline 2\nline 3\nexit code 0 after "],
    "sort": ["9\n10\n", ">>> print(6 * 7)", "\n42"],
    "table.csv": ["blob.bin\ntable.csv\n", "ada,36", r"b'\x00\x01'"],
    "remember me": ["remember me\n", "['note.txt', 'todo.txt']"],
    "client.map": ["['42\\n', 'hello\\n']\n"],
    "counter": ["stopped after printing: working\n", "the shell still knows: 42\n", "404\n"],
}


def block_with(words: str) -> str:
    (block,) = [block for block in BLOCKS if words in block]
    return block


def as_async(code: str) -> str:
    """Do to a blocking example what the README says makes it async."""
    imports = re.findall(r"^(?:import|from) .*\n", code, re.MULTILINE)
    body = re.sub(r"^(?:import|from) .*\n", "", code, flags=re.MULTILINE)
    body = re.sub(r"\b(with|for chunk in|def)\b", r"async \1", body)
    header = "".join(imports).replace("sandkasten_sync", "sandkasten")
    return (
        f"import asyncio\n{header}\n"
        f"async def main():\n{textwrap.indent(with_await(body), '    ')}\n"
        "asyncio.run(main())\n"
    )


def with_await(code: str) -> str:
    """Put `await` before each call that waits, with parentheses so that `.output` can follow."""
    own = "create_session|get_session|delete_workspace|close|destroy|map"
    verbs = f"{own}|exec|run|python|start|write|read|upload|list"
    for start in reversed([match.start() for match in re.finditer(rf"\b\w+\.({verbs})\(", code)]):
        end = code.index("(", start) + 1
        while code[start:end].count("(") > code[start:end].count(")"):
            end += 1
        if not code[start:end].startswith("io."):
            code = f"{code[:start]}(await {code[start:end]}){code[end:]}"
    return code


def test_every_example_is_accounted_for() -> None:
    accounted = [*map(block_with, OUTPUTS), block_with("openai_agents"), block_with("langchain")]
    assert sorted(accounted) == sorted(BLOCKS)


@pytest.mark.parametrize("words", OUTPUTS)
def test_an_example_runs_and_prints_what_it_says(words: str, data_dir: Path) -> None:
    output = run(block_with(words), data_dir)
    for expected in OUTPUTS[words]:
        assert expected in output


@pytest.mark.parametrize("words", [words for words in OUTPUTS if words != "asyncio.run"])
def test_a_blocking_example_is_async_code_but_for_the_keywords(
    words: str, daemon: LocalDaemon, data_dir: Path
) -> None:
    output = run(as_async(block_with(words)), data_dir, address_of(daemon))
    for expected in OUTPUTS[words]:
        assert expected in output


def test_the_first_example_prints_hello_world() -> None:
    assert "hello.py" in BLOCKS[0]


def test_the_openai_agents_example_runs_a_whole_agent(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    monkeypatch.setenv("SANDKASTEN_DATA_DIR", str(data_dir))
    call = function_call("exec", {"command": "echo $((6 * 7))", "timeout_seconds": None}, call_id="1")
    model = ScriptedModel([[call], [assistant_message("It is 42.")]])
    names: dict[str, Any] = {}
    exec(compile(block_with("openai_agents"), "README.md", "exec"), names)
    assert asyncio.run(names["main"]("What is 6 * 7?", model)) == "It is 42."
    (output,) = [item["output"] for item in items_of(model) if item.get("type") == "function_call_output"]
    assert output == "exit code 0, directory /workspace\n42\n"


def items_of(model: ScriptedModel) -> Any:
    assert model.last_call is not None
    return model.last_call.input


def test_the_langchain_example_makes_tools_that_work(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDKASTEN_DATA_DIR", str(data_dir))
    names: dict[str, Any] = {}
    exec(compile(block_with("langchain"), "README.md", "exec"), names)
    (tool,) = [tool for tool in names["tools"] if tool.name == "exec"]
    assert tool.invoke({"command": "cd /tmp; pwd"}) == "exit code 0, directory /tmp\n/tmp\n"
    assert tool.invoke({"command": "pwd"}) == "exit code 0, directory /tmp\n/tmp\n"
    assert "error:" in tool.invoke({"command": ""})
    names["session"]._connection.close()
