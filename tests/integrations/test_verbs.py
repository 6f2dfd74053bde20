"""Verbs for processes and files, as tools of the OpenAI Agents SDK, against a real daemon."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents.tool_context import ToolContext

from sandkasten import SandkastenInputError, Session
from sandkasten.integrations.openai_agents import context_tools, sandbox_tools
from tests.integrations.test_langchain import FIGURE, PIXEL
from tests.integrations.test_openai_agents import use


async def raw(tool: Any, code: str) -> Any:
    """Return all that a tool answers, not only its text."""
    arguments = json.dumps({"code": code})
    context: Any = ToolContext(context=None, tool_name=tool.name, tool_call_id="1", tool_arguments=arguments)
    return await tool.on_invoke_tool(context, arguments)


async def test_processes_run_beside_the_shell_with_outputs_apart(session: Session) -> None:
    tools = sandbox_tools(session, max_output_chars=2000)
    script = "cat; pwd; echo oh >&2; exit 3"
    said = await use(tools, "run_process", command=script, stdin="in\n", cwd="/tmp")
    assert said == "exit code 3\nstdout:\nin\n/tmp\nstderr:\noh"
    assert await use(tools, "run_process", command="true") == "exit code 0\n(no output)"
    assert await use(tools, "run_process", command="kill -9 $$") == "exit code 137 (SIGKILL)\n(no output)"
    said = await use(tools, "run_process", command="seq 100000; seq 100000 >&2")
    assert len(said) <= 2000
    assert said.endswith("99999\n100000")
    said = await use(tools, "run_process", command="echo begun; sleep 60", timeout_seconds=1)
    assert said.startswith("error: The process was stopped after 1000 ms.")
    assert said.endswith("begun\n")


async def test_python_remembers_and_shows_values_errors_and_pictures(session: Session) -> None:
    tools = sandbox_tools(session, max_output_chars=2000)
    assert await use(tools, "run_python", code="x = 42") == "(no output)"
    said = await use(
        tools, "run_python", code="import sys\nprint('out')\nprint('err', file=sys.stderr)\nx + 1"
    )
    assert said == "stdout:\nout\nstderr:\nerr\nresult:\n43"
    said = await use(tools, "run_python", code="display('shown')\n1/0")
    assert said.startswith("exception\nresult:\n'shown'\nTraceback (most recent call last):\n")
    assert said.endswith("ZeroDivisionError: division by zero")
    said = await use(tools, "run_python", code="for n in range(9999): print(n)\nlist(range(9999))")
    assert len(said) <= 2000
    assert said.startswith("stdout:\n0\n1\n")
    assert "\n9998\nresult:\n[0,\n" in said
    assert said.endswith("...]")
    said = await use(tools, "run_python", code="while True: pass", timeout_seconds=1)
    assert said.startswith("error: ")
    assert await use(tools, "run_python", code="x") == "result:\n42"
    assert (await use(tools, "run_python", code="import os; os._exit(3)")).startswith("exited\nresult:\n")
    said = await use(tools, "run_python", code="1")
    assert said == (
        "result:\n1\n[The interpreter was lost before; this code began in a new one, without variables.]"
    )


async def test_pictures_come_beside_the_text(session: Session) -> None:
    (tool,) = sandbox_tools(session, only=["run_python"])
    text, picture = await raw(tool, FIGURE)
    assert text.text == "result:\n[picture 1] figure"
    assert picture.image_url == f"data:image/png;base64,{PIXEL}"
    many = await raw(tool, f"{FIGURE};\nfor _ in range(6): display(Figure())")
    assert len(many) == 5
    assert many[0].text.count("[picture") == 4


async def test_a_process_in_the_background_is_read_listed_and_ended(session: Session) -> None:
    tools = sandbox_tools(session, max_output_chars=2000)
    await session.exec("mkfifo p")
    started = await use(tools, "start_process", command="echo ready; read x <p; echo $x; seq 9999; sleep 60")
    process_id = started.removeprefix("started process ")
    said = await use(tools, "read_process", process_id=process_id)
    while "ready" not in said:
        said = await use(tools, "read_process", process_id=process_id, wait_seconds=1)
    position = int(said.partition("position ")[2].partition("\n")[0])
    assert said == f"running, next position {position}\nready\n"
    assert f"{process_id} running: /bin/bash -c 'echo ready" in await use(tools, "list_processes")
    assert "(nothing new)" in await use(tools, "read_process", process_id=process_id, position=position)
    await session.exec("echo go >p")
    said = await use(tools, "read_process", process_id=process_id, position=position, wait_seconds=1)
    assert said.splitlines()[1:3] == ["go", "1"]
    assert len(said) <= 2000
    assert await use(tools, "kill_process", process_id=process_id) == (
        f"process {process_id} has ended: exit code 143"
    )
    said = await use(tools, "read_process", process_id=process_id, position=0)
    assert said.startswith("exit code 143 (interrupted), next position ")
    assert "There is no process" in await use(tools, "kill_process", process_id="0" * 32)
    assert "list_processes" in await use(tools, "read_process", process_id="0" * 32)
    assert "error: process_id is 'x'" in await use(tools, "read_process", process_id="x")


async def test_files_are_found_moved_and_removed(session: Session) -> None:
    tools = sandbox_tools(session, max_output_chars=1000)
    assert await use(tools, "mkdir", path="src/deep") == "src/deep/ is there"
    assert await use(tools, "append", path="src/deep/a.py", content="import os\n") == (
        "added 10 bytes to src/deep/a.py"
    )
    await use(tools, "append", path="src/deep/a.py", content="Print(os)\n")
    assert await use(tools, "glob", pattern="**/*.py") == "src/deep/a.py\n"
    assert await use(tools, "search", pattern="^print", path="src", glob="**/*.py", ignore_case=True) == (
        "deep/a.py:2: Print(os)\n"
    )
    assert await use(tools, "search", pattern="nothing") == "(none)"
    assert "src/deep/a.py" in await use(tools, "list", path=".", depth=3)
    await use(tools, "write", path="/tmp/b", content="x")
    assert "pass overwrite" in await use(tools, "move", path="/tmp/b", to="src/deep/a.py")
    assert await use(tools, "move", path="/tmp/b", to="src/c") == "moved /tmp/b to src/c"
    assert "Pass recursive" in await use(tools, "remove", path="src")
    assert await use(tools, "remove", path="src", recursive=True) == "removed src"
    for name, arguments in {"search": {"pattern": "("}, "remove": {"path": "gone"}}.items():
        assert (await use(tools, name, **arguments)).startswith("error: ")


async def test_a_long_file_is_read_page_by_page(session: Session) -> None:
    tools = sandbox_tools(session, max_output_chars=1000)
    lines = [f"{number} é" for number in range(300)]
    await session.write("long", "\n".join(lines))
    offset, pages = 0, ""
    while offset is not None:
        said = await use(tools, "read", path="long", offset=offset)
        assert len(said) <= 1000
        head, _, rest = said.partition("\n")
        assert head.startswith(f"long, bytes {offset} to ")
        body, has_more, after = rest.partition("\n[The file goes on: offset ")
        pages += body + "\n" * bool(has_more)
        offset = int(after.removesuffix(".]")) if has_more else None
    assert pages == "\n".join(lines)
    assert (
        await use(tools, "read", path="long", offset=99_999) == "long, bytes 99999 to 99999\n(nothing there)"
    )
    within = len(b"0 ") + 1  # the second byte of a character
    assert (await use(tools, "read", path="long", offset=within)).startswith("long, bytes 4 to ")


async def test_some_of_the_tools_are_enough(session: Session) -> None:
    tools = sandbox_tools(session, only=["exec", "read"])
    assert [tool.name for tool in tools] == ["exec", "read"]
    with pytest.raises(SandkastenInputError, match=r"'reed'.*names of tools: exec, run_python, read"):
        context_tools(only=["reed"])
