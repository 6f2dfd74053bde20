"""Sandboxes as function tools of the OpenAI Agents SDK, against the real embedded daemon."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from typing import Any

import pytest
from agents import Agent, FunctionTool, Runner, Tool, UserError
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext

import sandkasten_sync
from sandkasten import (
    SandboxClient,
    SandboxFileNotFoundError,
    SandkastenInputError,
    Session,
    SessionNotFoundError,
)
from sandkasten.integrations._verbs import VERBS
from sandkasten.integrations.openai_agents import (
    context_tools,
    sandbox_for_user,
    sandbox_tools,
    workspace_id_for_user,
)
from sandkasten.testing import FakeDaemon
from tests.go_daemon import GoDaemon
from tests.soon import soon

NAMES = [verb.tool_name for verb in VERBS]


async def use(tools: list[Tool], name: str, context: Any = None, **arguments: Any) -> str:
    """Call a tool as the SDK does."""
    return await use_raw(tools, name, json.dumps(arguments), context)


async def use_raw(tools: list[Tool], name: str, arguments: str, context: Any = None) -> str:
    (tool,) = [tool for tool in tools if tool.name == name]
    assert isinstance(tool, FunctionTool)
    call = ToolContext(context=context, tool_name=name, tool_call_id="1", tool_arguments=arguments)
    answer = await tool.on_invoke_tool(call, arguments)
    assert isinstance(answer, str)
    return answer


def results_of(model: ScriptedModel) -> list[str]:
    """The texts of all tools that the model saw in its last call."""
    assert model.last_call is not None
    items: Any = model.last_call.input
    return [item["output"] for item in items if item.get("type") == "function_call_output"]


async def test_an_agent_writes_a_program_runs_it_reads_the_error_and_fixes_it(session: Session) -> None:
    model = ScriptedModel(
        [
            [function_call("write", {"path": "sum.py", "content": "print(sum([1, 2, '3']))\n"}, call_id="1")],
            [function_call("exec", {"command": "python3 sum.py", "timeout_seconds": None}, call_id="2")],
            [function_call("read", {"path": "sum.py"}, call_id="3")],
            [function_call("write", {"path": "sum.py", "content": "print(sum([1, 2, 3]))\n"}, call_id="4")],
            [function_call("exec", {"command": "python3 sum.py", "timeout_seconds": 20}, call_id="5")],
            [assistant_message("It is 6.")],
        ]
    )
    agent = Agent(name="coder", tools=sandbox_tools(session), model=model)
    result = await Runner.run(agent, "Sum the numbers.")
    assert result.final_output == "It is 6."
    model.assert_complete()
    wrote, failed, read, wrote_again, worked = results_of(model)
    assert wrote == "wrote 24 bytes to sum.py"
    assert failed.startswith("exit code 1, directory /workspace\nTraceback")
    assert "TypeError: unsupported operand" in failed
    assert read == "sum.py, 24 bytes\nprint(sum([1, 2, '3']))\n"
    assert wrote_again == "wrote 22 bytes to sum.py"
    assert worked == "exit code 0, directory /workspace\n6\n"
    assert (await session.read("sum.py")).text == "print(sum([1, 2, 3]))\n"


async def test_an_agent_streams_and_calls_several_tools_at_once(session: Session) -> None:
    calls = [
        function_call("exec", {"command": f"echo {n}; sleep 0.1", "timeout_seconds": None}, call_id=str(n))
        for n in range(4)
    ]
    model = ScriptedModel([calls, [assistant_message("done")]])
    streamed = Runner.run_streamed(Agent(name="coder", tools=sandbox_tools(session), model=model), "Go.")
    async for _event in streamed.stream_events():
        pass
    assert streamed.final_output == "done"
    assert results_of(model) == [f"exit code 0, directory /workspace\n{n}\n" for n in range(4)]


async def test_the_schemas_are_strict_and_every_argument_is_explained(session: Session) -> None:
    tools = sandbox_tools(session)
    assert [tool.name for tool in tools] == NAMES
    for tool in tools:
        assert isinstance(tool, FunctionTool)
        schema = tool.params_json_schema
        assert tool.strict_json_schema
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])
        assert "description" not in schema
        for argument in schema["properties"].values():
            assert argument["description"]
            assert "default" not in argument
        assert len(tool.description) > 40
        assert "\n" not in tool.description


async def test_the_tool_for_commands_says_what_its_session_has(
    client: SandboxClient, session: Session
) -> None:
    exec_tool = next(tool for tool in sandbox_tools(session) if tool.name == "exec")
    assert isinstance(exec_tool, FunctionTool)
    assert "It has no network. Python (python3)" in exec_tool.description
    has_node = (await session.exec("command -v node")).ok
    assert ("Node (node) are installed." if has_node else "There is no Node.") in exec_tool.description
    async with await client.create_session(network="host") as connected:
        descriptions = {
            t.name: t.description for t in sandbox_tools(connected) if isinstance(t, FunctionTool)
        }
        assert "It has the network of its host." in descriptions["exec"]
        assert not any("network" in text for name, text in descriptions.items() if name != "exec")
    of_any_session = next(tool for tool in context_tools() if tool.name == "exec")
    assert isinstance(of_any_session, FunctionTool)
    assert "network" not in of_any_session.description


async def test_a_command_that_lacks_a_network_says_why(session: Session) -> None:
    tools = sandbox_tools(session)
    command = "python3 -c 'import socket; socket.getaddrinfo(\"nowhere.invalid\", 80)'"
    said = await use(tools, "exec", command=command)
    assert "socket.gaierror" in said
    assert said.splitlines()[-1].startswith("[This sandbox has no network, so nothing can be downloaded.")
    assert "network" not in await use(tools, "exec", command="ls nothing")


async def test_list_shows_a_directory_and_leaves_the_shell_where_it_is(session: Session) -> None:
    tools = sandbox_tools(session)
    assert await use(tools, "list", path=".") == "(empty)"
    await session.exec(
        "mkdir -p sub '/workspace/-x $(touch hacked)'; touch sub/a .hidden; cd /tmp; alias ls=false"
    )
    listed = await use(tools, "list", path=".")
    assert [line[38:] for line in listed.splitlines()] == ["-x $(touch hacked)/", ".hidden", "sub/"]
    assert [line.split()[:2] for line in listed.splitlines()[1:2]] == [["file", "0"]]
    assert await use(tools, "list", path="-x $(touch hacked)") == "(empty)"
    assert " a\n" in await use(tools, "list", path="/workspace/sub")
    assert (await session.exec("pwd; find / -name hacked 2>/dev/null")).output == "/tmp\n"


def test_a_session_of_the_blocking_package_is_refused() -> None:
    with FakeDaemon() as daemon, sandkasten_sync.SandboxClient(base_url=daemon.url) as client:
        session = client.create_session()
        with pytest.raises(SandkastenInputError, match=r"sandkasten_sync.*is async"):
            sandbox_tools(session)  # type: ignore[arg-type]


async def test_stats_are_told(session: Session) -> None:
    assert "CPU time" in await use(sandbox_tools(session), "stats")


async def test_a_timeout_is_told_with_what_was_printed_and_the_session_goes_on(session: Session) -> None:
    tools = sandbox_tools(session)
    with soon():
        said = await use(tools, "exec", command="x=1; echo working; sleep 60", timeout_seconds=1)
    assert said.startswith("error: ")
    assert "1000 ms" in said
    assert "larger timeout_seconds" in said
    assert said.endswith("It printed until then:\nworking\n")
    assert "\n1\n" in await use(tools, "exec", command="echo $x", timeout_seconds=None)


async def test_a_command_without_a_limit_has_the_one_of_the_tools(session: Session) -> None:
    tools = sandbox_tools(session, timeout_ms=300)
    assert "300 ms" in await use(tools, "exec", command="sleep 60")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("read", {"path": "absent"}, "absent"),
        ("read", {"path": "/proc/version"}, "kernel's files"),
        ("read", {"path": "/workspace"}, "Use the tool list for directories."),
        ("read", {"path": ""}, "it must be a path"),
        ("write", {"path": "../../proc/x", "content": "x"}, "kernel's files"),
        ("write", {"path": "a\0b", "content": "x"}, "NUL"),
        ("exec", {"command": " ", "timeout_seconds": None}, "it must be a str, a shell command"),
        ("exec", {"command": "true", "timeout_seconds": 601}, "timeout_seconds: Input should be less"),
        ("exec", {"cmd": "true"}, "command: Field required; cmd: Extra inputs are not permitted"),
        ("list", {"path": "a\0b"}, "NUL"),
        ("list", {"path": "absent"}, "does not exist"),
        ("list", {"path": "/proc"}, "kernel's files"),
    ],
)
async def test_what_a_model_can_mend_is_told_as_text(
    session: Session, name: str, arguments: dict[str, Any], said: str
) -> None:
    answer = await use(sandbox_tools(session), name, **arguments)
    assert answer.startswith("error: ")
    assert said in answer
    assert len(answer) < 500


async def test_arguments_that_are_not_json_are_told(session: Session) -> None:
    assert (await use_raw(sandbox_tools(session), "exec", '{"command": ')).startswith("error: The arguments")
    assert "CPU time" in await use_raw(sandbox_tools(session), "stats", "")


async def test_output_has_a_bound_and_binary_files_are_not_dumped(session: Session) -> None:
    tools = sandbox_tools(session, max_output_chars=2000)
    said = await use(tools, "exec", command="seq 100000", timeout_seconds=None)
    assert len(said) <= 2000
    assert said.startswith("exit code 0, directory /workspace\n1\n2\n")
    assert said.endswith("\n99999\n100000\n")
    assert "characters left out" in said
    await session.exec("seq 300000 > big.txt; cp /bin/true binary")
    said = await use(tools, "read", path="big.txt")
    assert len(said) <= 2000
    assert said.startswith("big.txt, more than 1048576 bytes\n1\n2\n")
    assert said.endswith("[The file goes on after this.]")
    assert "This is not UTF-8 text" in await use(tools, "read", path="binary")


@pytest.mark.parametrize("limits", [{"max_output_chars": 999}, {"timeout_ms": 0}, {"timeout_ms": 600_001}])
async def test_limits_that_cannot_be_meant_are_refused(session: Session, limits: dict[str, int]) -> None:
    with pytest.raises(SandkastenInputError, match=next(iter(limits))):
        sandbox_tools(session, **limits)


async def test_a_lost_session_ends_the_run_since_no_model_can_mend_it(client: SandboxClient) -> None:
    session = await client.create_session()
    model = ScriptedModel([[function_call("stats", {}, call_id="1")], [assistant_message("never said")]])
    agent = Agent(name="coder", tools=sandbox_tools(session), model=model)
    await session.destroy()
    with pytest.raises(UserError) as caught:
        await Runner.run(agent, "Go.")
    assert isinstance(caught.value.__cause__, SessionNotFoundError)
    assert model.remaining_steps == 1


async def is_there(session: Session, path: str) -> bool:
    try:
        await session.read(path)
    except SandboxFileNotFoundError:
        return False
    return True


async def test_a_run_that_is_cancelled_stops_its_command(session: Session) -> None:
    command = "touch started; sleep 60; touch done"
    call = function_call("exec", {"command": command, "timeout_seconds": None}, call_id="1")
    agent = Agent(name="coder", tools=sandbox_tools(session), model=ScriptedModel([[call]]))
    run = asyncio.create_task(Runner.run(agent, "Go."))
    while not await is_there(session, "started"):
        await asyncio.sleep(0.02)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (await session.exec("pgrep sleep; ls", timeout_ms=5000)).output == "started\n"


@dataclass
class Context:
    """A context that a service might hand to its runs."""

    sandbox: Session
    user_name: str


async def test_one_agent_serves_many_users_each_in_their_own_sandbox(client: SandboxClient) -> None:
    tools = context_tools()

    async def serve(user: str) -> str:
        command = function_call("exec", {"command": "cat name; pwd", "timeout_seconds": None}, call_id="1")
        model = ScriptedModel([[command], [assistant_message("done")]])
        async with sandbox_for_user(client, user) as session:
            await session.write("name", user)
            context = Context(session, user)
            agent = Agent[Context](name="coder", tools=tools, model=model)
            await Runner.run(agent, "Go.", context=context)
        return results_of(model)[0]

    users = [f"user {secrets.token_hex(6)}" for _ in range(5)]
    said = await asyncio.gather(*map(serve, users))
    assert said == [f"exit code 0, directory /workspace\n{user}/workspace\n" for user in users]
    for user in users:
        await client.delete_workspace(workspace_id_for_user(user))


async def test_the_context_may_be_the_session_or_be_asked_by_a_function(session: Session) -> None:
    assert "CPU time" in await use(context_tools(), "stats", context=session)
    tools = context_tools(lambda context: context["box"])
    assert "CPU time" in await use(tools, "stats", context={"box": session})


@pytest.mark.parametrize("context", [None, "text", Context(sandbox=None, user_name="x")])  # type: ignore[arg-type]
async def test_a_context_without_a_sandbox_says_what_to_pass(context: Any) -> None:
    with pytest.raises(UserError, match=r"has no sandbox\. Pass Runner\.run\(\.\.\., context=\.\.\.\)"):
        await use(context_tools(), "stats", context=context)


async def test_the_tools_work_with_other_daemons_too(go_daemon: GoDaemon) -> None:
    client = SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key)
    async with client, await client.create_session() as session:
        tools = sandbox_tools(session)
        assert await use(tools, "write", path="a/b.txt", content="") == "wrote 0 bytes to a/b.txt"
        assert await use(tools, "read", path="a/b.txt") == "a/b.txt, 0 bytes\n(empty)"
        assert (await use(tools, "read", path="absent")).endswith("Look for it with the tool list.")
        assert (await use(tools, "read", path="a")).endswith("Use the tool list for directories.")
        assert "b.txt" in await use(tools, "list", path="a")
        assert "echoed" in await use(tools, "exec", command="echo echoed")
        assert "larger timeout_seconds" in await use(tools, "exec", command="sleep 9", timeout_seconds=1)
        assert (await use(tools, "start_process", command="true")).endswith("Do it with the tool exec.")
        assert "stderr:\noh" in await use(tools, "run_process", command="echo oh >&2")
