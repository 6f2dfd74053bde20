"""Sandboxes as tools of LangChain, against the real embedded daemon."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.checkpoint.memory import InMemorySaver

import sandkasten
import sandkasten_sync
from sandkasten import ExecResult, SandkastenInputError, SessionNotFoundError, SessionStats
from sandkasten.integrations._verbs import VERBS, Options, Verb
from sandkasten.integrations.langchain import SandboxTool, SandboxToolkit
from sandkasten.local.launch import LocalDaemon
from tests.local.box import workspace_of

EXAMPLES: dict[str, dict[str, Any]] = {
    "exec": {"command": "echo $((6 * 7))", "timeout_seconds": 5},
    "run_python": {"code": "6 * 7", "timeout_seconds": 5},
    "write": {"path": "a/b.txt", "content": "text\n"},
    "read": {"path": "present.txt", "offset": None},
    "list": {"path": ".", "depth": 1},
    "stats": {},
    "run_process": {"command": "cat; echo oh >&2", "stdin": "in", "cwd": "/tmp", "timeout_seconds": 5},
    "start_process": {"command": "sleep 60", "cwd": None},
    "read_process": {"process_id": "0" * 32, "position": 0, "wait_seconds": 0},
    "list_processes": {},
    "kill_process": {"process_id": "0" * 32},
    "append": {"path": "a/c.txt", "content": "text\n"},
    "glob": {"pattern": "*.txt", "path": None},
    "search": {"pattern": "h.re", "path": ".", "glob": "*.txt", "ignore_case": False},
    "mkdir": {"path": "a/d"},
    "move": {"path": "present.txt", "to": "moved.txt", "overwrite": False},
    "remove": {"path": "present.txt", "recursive": False},
}


# One that does not wait, and one that asks twice.
FEW = [verb for verb in VERBS if verb.tool_name in {"list", "read_process"}]


class ScriptedModel(GenericFakeChatModel):
    """LangChain's own, which says what it was given to say; tools may be bound to it."""

    def bind_tools(self, tools: Sequence[Any], **_kwargs: Any) -> Runnable[Any, AIMessage]:
        assert [tool.name for tool in tools] == [verb.tool_name for verb in VERBS]
        return self


def calls(*steps: tuple[str, dict[str, Any]]) -> ScriptedModel:
    """A model that uses one tool after another, and then says so."""
    messages = [
        AIMessage("", tool_calls=[ToolCall(name=name, args=args, id=str(number))])
        for number, (name, args) in enumerate(steps)
    ]
    return ScriptedModel(messages=iter([*messages, AIMessage("done")]))


def tool_of(toolkit: SandboxToolkit, name: str) -> BaseTool:
    (tool,) = [tool for tool in toolkit.get_tools() if tool.name == name]
    return tool


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, args=arguments, id="1", type="tool_call")


@pytest.fixture
async def same_session(
    client: sandkasten.SandboxClient, blocking_session: sandkasten_sync.Session
) -> sandkasten.Session:
    """The sandbox of `blocking_session`, for whoever awaits."""
    return await client.get_session(blocking_session.id)


@pytest.fixture
def blocking(blocking_session: sandkasten_sync.Session) -> SandboxToolkit:
    return SandboxToolkit(session=blocking_session)


@pytest.fixture
async def awaited(session: sandkasten.Session) -> SandboxToolkit:
    return SandboxToolkit(async_session=session)


def test_the_tool_for_commands_says_what_its_session_has_and_why_it_failed(blocking: SandboxToolkit) -> None:
    tool = tool_of(blocking, "exec")
    assert "It has no network. Python (python3)" in tool.description
    command = "python3 -c 'import socket; socket.getaddrinfo(\"nowhere.invalid\", 80)'"
    said = tool.invoke({"command": command})
    assert "This sandbox has no network" in said


# --- what LangChain expects of every tool


def prepare(session: sandkasten_sync.Session) -> None:
    """Make what the examples speak of."""
    session.write("present.txt", "here")
    EXAMPLES["read_process"]["process_id"] = session.start("echo output").id


class Standard:
    """Each verb in turn."""

    verb: type[Verb]

    @pytest.fixture(autouse=True, params=VERBS, ids=[verb.tool_name for verb in VERBS])
    def _each_verb(self, request: pytest.FixtureRequest) -> None:
        self.verb = request.param

    @property
    def tool_constructor(self) -> type[BaseTool]:
        return SandboxTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"verb": self.verb, "options": Options(16_000, 60_000)}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return EXAMPLES[self.verb.tool_name]


class TestUnit(Standard, ToolsUnitTests):
    """LangChain's unit tests of a tool."""


class TestIntegrationOfABlockingSession(Standard, ToolsIntegrationTests):
    """LangChain's integration tests, the awaited ones bridged by a thread."""

    @pytest.fixture
    def tool(self, blocking_session: sandkasten_sync.Session) -> BaseTool:
        prepare(blocking_session)
        return tool_of(SandboxToolkit(session=blocking_session), self.verb.tool_name)


@pytest.mark.usefixtures("anyio_backend")  # by which async fixtures serve blocking tests, too
class TestIntegrationOfBothSessions(Standard, ToolsIntegrationTests):
    """LangChain's integration tests, each form with a session of its own kind; a few verbs show that."""

    @pytest.fixture(autouse=True, params=FEW, ids=[verb.tool_name for verb in FEW])
    def _each_verb(self, request: pytest.FixtureRequest) -> None:
        self.verb = request.param

    @pytest.fixture
    def tool(self, blocking_session: sandkasten_sync.Session, same_session: sandkasten.Session) -> BaseTool:
        prepare(blocking_session)
        toolkit = SandboxToolkit(session=blocking_session, async_session=same_session)
        return tool_of(toolkit, self.verb.tool_name)


# --- whole agents

FIXING = [
    ("write", {"path": "sum.py", "content": "print(sum([1, 2, '3']))\n"}),
    ("exec", {"command": "python3 sum.py"}),
    ("read", {"path": "sum.py"}),
    ("write", {"path": "sum.py", "content": "print(sum([1, 2, 3]))\n"}),
    ("exec", {"command": "python3 sum.py"}),
]


def check_fixing(state: dict[str, Any]) -> None:
    wrote, failed, read, _wrote, worked = [m for m in state["messages"] if isinstance(m, ToolMessage)]
    assert wrote.content == "wrote 24 bytes to sum.py"
    assert "TypeError: unsupported operand" in failed.text
    assert (failed.status, failed.artifact["exit_code"]) == ("success", 1)
    assert read.text.endswith("print(sum([1, 2, '3']))\n")
    assert worked.content == "exit code 0, directory /workspace\n6\n"
    assert ExecResult(**worked.artifact) == ExecResult(
        exit_code=0,
        cwd="/workspace",
        output="6\n",
        duration_ms=worked.artifact["duration_ms"],
        end="exited",
    )
    assert state["messages"][-1].content == "done"


def test_an_agent_writes_a_program_runs_it_reads_the_error_and_fixes_it(blocking: SandboxToolkit) -> None:
    agent: Any = create_agent(calls(*FIXING), blocking.get_tools())
    check_fixing(agent.invoke({"messages": [("user", "Sum the numbers.")]}))


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FIGURE = (
    "import base64\nclass Figure:\n  def __repr__(self): return 'figure'\n"
    f"  def _repr_png_(self): return base64.b64decode('{PIXEL}')\nFigure()"
)


def test_pictures_are_blocks_of_the_message(blocking: SandboxToolkit) -> None:
    message = tool_of(blocking, "run_python").invoke(call("run_python", code=FIGURE))
    assert message.content == [
        {"type": "text", "text": "result:\n[picture 1] figure"},
        {"type": "image", "base64": PIXEL, "mime_type": "image/png"},
    ]
    assert message.artifact["value"] == "figure"


async def test_an_awaited_agent_does_the_same_and_its_state_can_be_stored(awaited: SandboxToolkit) -> None:
    agent: Any = create_agent(calls(*FIXING), awaited.get_tools(), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    check_fixing(await agent.ainvoke({"messages": [("user", "Sum the numbers.")]}, config))
    stored = await agent.aget_state(config)
    check_fixing(stored.values)


def test_every_artifact_can_be_stored_as_json(
    blocking: SandboxToolkit, blocking_session: sandkasten_sync.Session
) -> None:
    for name, arguments in EXAMPLES.items():
        prepare(blocking_session)
        message = tool_of(blocking, name).invoke(call(name, **arguments))
        assert ToolMessage.model_validate_json(message.model_dump_json()).artifact == message.artifact


# --- one call


def test_a_result_is_a_text_for_the_model_and_its_fields_for_the_program(blocking: SandboxToolkit) -> None:
    message = tool_of(blocking, "exec").invoke(call("exec", command="cd /tmp; echo out; (exit 3)"))
    assert message.content == "exit code 3, directory /tmp\nout\n"
    result = ExecResult(**message.artifact)
    assert (result.exit_code, result.cwd, result.output) == (3, "/tmp", "out\n")
    # Without control groups it is counted in hundredths of a second.
    tool_of(blocking, "exec").invoke(call("exec", command="for i in {1..300000}; do :; done"))
    stats = SessionStats(**tool_of(blocking, "stats").invoke(call("stats")).artifact)
    assert stats.cpu_usage_usec > 0


def test_a_plain_string_is_the_first_argument(blocking: SandboxToolkit) -> None:
    assert tool_of(blocking, "exec").invoke("echo $((6 * 7))") == "exit code 0, directory /workspace\n42\n"


async def test_a_plain_string_is_the_first_argument_of_an_awaited_call_too(awaited: SandboxToolkit) -> None:
    assert await tool_of(awaited, "exec").ainvoke("pwd") == "exit code 0, directory /workspace\n/workspace\n"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("read", {"path": "absent"}, "Look for it with the tool list."),
        ("read", {"path": "/proc/version"}, "kernel's files"),
        ("write", {"path": "../../proc/x", "content": "x"}, "kernel's files"),
        ("exec", {"command": " "}, "it must be a str, a shell command"),
        ("exec", {"command": "echo working; sleep 60", "timeout_seconds": 1}, "until then:\nworking\n"),
        ("exec", {"command": "true", "timeout_seconds": 601}, "timeout_seconds: Input should be less"),
        ("exec", {"cmd": "true"}, "command: Field required; cmd: Extra inputs are not permitted"),
    ],
)
async def test_what_a_model_can_mend_is_told_in_a_message_of_status_error(
    blocking: SandboxToolkit, awaited: SandboxToolkit, name: str, arguments: dict[str, Any], said: str
) -> None:
    for message in (
        await tool_of(awaited, name).ainvoke(call(name, **arguments)),
        await asyncio.to_thread(tool_of(blocking, name).invoke, call(name, **arguments)),
    ):
        assert message.status == "error"
        assert message.content.startswith("error: ")
        assert said in message.content
        assert message.artifact is None


async def test_a_lost_session_is_raised_as_it_is_since_no_model_can_mend_it(
    client: sandkasten.SandboxClient, blocking_client: sandkasten_sync.SandboxClient
) -> None:
    session = await client.create_session()
    toolkit = SandboxToolkit(
        session=blocking_client.get_session(session.id), async_session=session, timeout_ms=1000
    )
    await session.destroy()
    with pytest.raises(SessionNotFoundError):
        await tool_of(toolkit, "stats").ainvoke(call("stats"))
    with pytest.raises(SessionNotFoundError):
        tool_of(toolkit, "stats").invoke(call("stats"))
    agent: Any = create_agent(calls(("stats", {})), toolkit.get_tools())
    with pytest.raises(SessionNotFoundError):
        await agent.ainvoke({"messages": [("user", "Go.")]})


def test_the_bounds_are_the_toolkits(blocking_session: sandkasten_sync.Session) -> None:
    toolkit = SandboxToolkit(session=blocking_session, max_output_chars=2000)
    message = tool_of(toolkit, "exec").invoke(call("exec", command="seq 100000"))
    assert len(message.content) <= 2000
    assert len(message.artifact["output"]) > 500_000
    hasty = SandboxToolkit(session=blocking_session, timeout_ms=300)
    assert "300 ms" in tool_of(hasty, "exec").invoke(call("exec", command="sleep 60")).content


# --- the form in which a tool is asked


async def test_a_blocking_session_serves_awaited_calls_without_blocking_the_loop(
    daemon: LocalDaemon, blocking_session: sandkasten_sync.Session, blocking: SandboxToolkit
) -> None:
    workspace = workspace_of(daemon, blocking_session.id)

    async def release() -> None:
        while not (workspace / "begun").exists():
            await asyncio.sleep(0.01)
        (workspace / "go").touch()

    releasing = asyncio.create_task(release())  # in the loop, which the call must leave to others
    command = "touch begun; until [ -e go ]; do sleep 0.01; done; echo released"
    message = await tool_of(blocking, "exec").ainvoke(call("exec", command=command))
    await releasing
    assert message.artifact["output"] == "released\n"


async def test_an_async_session_alone_refuses_a_blocking_call_and_says_what_to_do(
    awaited: SandboxToolkit,
) -> None:
    for ask in (tool_of(awaited, "stats").invoke, lambda _: tool_of(awaited, "exec").invoke("pwd")):
        with pytest.raises(NotImplementedError, match=r"has an async session only\. Use ainvoke\(\)"):
            ask(call("stats"))


async def test_with_both_each_form_uses_its_own(
    session: sandkasten.Session, blocking_session: sandkasten_sync.Session
) -> None:
    tool = tool_of(SandboxToolkit(session=blocking_session, async_session=session), "exec")
    await session.exec("name=async")
    blocking_session.exec("name=blocking")
    assert "async" in (await tool.ainvoke(call("exec", command="echo $name"))).content
    assert "blocking" in tool.invoke(call("exec", command="echo $name")).content


def test_threads_may_share_a_tool(blocking: SandboxToolkit) -> None:
    tool = tool_of(blocking, "exec")
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = tool.invoke(call("exec", command=f"sleep 0.05; echo {number}")).artifact["output"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"{number}\n" for number in range(8)}


def test_a_toolkit_without_a_session_or_with_the_wrong_one_is_refused(
    blocking_session: sandkasten_sync.Session,
) -> None:
    with pytest.raises(SandkastenInputError, match="There is no session"):
        SandboxToolkit().get_tools()
    with pytest.raises(SandkastenInputError, match="max_output_chars is 10"):
        SandboxToolkit(session=blocking_session, max_output_chars=10).get_tools()
    wrong: Any = blocking_session
    with pytest.raises(ValueError, match="async_session"):
        SandboxToolkit(async_session=wrong)


def test_a_session_does_not_show_in_what_a_tool_tells_about_itself(blocking: SandboxToolkit) -> None:
    for tool in blocking.get_tools():
        assert not {"session", "async_session", "verb", "options"} & set(tool.model_dump())
        assert len(tool.description) > 40
        schema: Any = tool.tool_call_schema
        assert set(schema.model_json_schema()["properties"]) == set(EXAMPLES[tool.name])
