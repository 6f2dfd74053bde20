"""Agents of smolagents whose code runs in our sandbox, with a model that follows a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import PIL.Image
import pytest
from smolagents import AgentError, ChatMessage, CodeAgent, FinalAnswerTool, Model, tool
from smolagents.models import MessageRole

from sandkasten import SandkastenInputError, Session, SessionNotFoundError
from sandkasten.integrations.smolagents import SandkastenExecutor
from sandkasten_sync import SandboxClient
from sandkasten_sync import Session as BlockingSession


@pytest.fixture(scope="module")
def client() -> Iterator[SandboxClient]:
    with SandboxClient() as client:
        yield client


@pytest.fixture
def session(client: SandboxClient) -> Iterator[BlockingSession]:
    with client.create_session() as session:
        yield session


class ScriptedModel(Model):
    """One that writes one code after another."""

    def __init__(self, *codes: str) -> None:
        super().__init__()
        self.codes = list(codes)
        self.heard = ""

    def generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatMessage:
        self.heard = str(messages[-1].content)
        return ChatMessage(MessageRole.ASSISTANT, f"Thought: go on\n<code>\n{self.codes.pop(0)}\n</code>")


@tool
def triple(number: int) -> int:
    """Return three times a number.

    Args:
        number: the number.
    """
    return 3 * number


def test_an_agent_computes_in_a_session_whose_variables_stay(session: BlockingSession) -> None:
    model = ScriptedModel(
        "x = triple(2)\nprint('ä☃', x)",
        "1 / 0",
        "final_answer({'answer': x * 7, 'bytes': b'\\xff', 'tuple': (1,)})",
    )
    executor = SandkastenExecutor(session)
    with CodeAgent(tools=[triple], model=model, executor=executor, verbosity_level=-1) as agent:
        assert agent.run("Go.") == {"answer": 42, "bytes": b"\xff", "tuple": (1,)}
        steps = [str(step) for step in agent.memory.steps]
    assert "ä☃ 6" in steps[1]
    assert "ZeroDivisionError" in model.heard


def test_values_come_as_text_and_pictures_as_pictures(session: BlockingSession) -> None:
    executor = SandkastenExecutor(session)
    assert executor("print('a')\n6 * 7") == executor.run_code_raise_errors("print('a')\n6 * 7")
    assert executor("6 * 7").output == "42"
    assert executor("x = 1").output is None
    code = (
        "import base64, struct, zlib\n"
        "def part(kind, data):\n"
        "    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))\n"
        "png = b'\\x89PNG\\r\\n\\x1a\\n' + part(b'IHDR', struct.pack('>IIBBBBB', 1, 1, 8, 2, 0, 0, 0)) + "
        "part(b'IDAT', zlib.compress(b'\\0\\xff\\0\\0')) + part(b'IEND', b'')\n"
        "class Figure:\n    def _repr_png_(self): return png\n"
        "Figure()"
    )
    picture = executor(code).output
    assert isinstance(picture, PIL.Image.Image)
    assert picture.getpixel((0, 0)) == (255, 0, 0)


def test_variables_reach_the_sandbox_and_a_pickle_that_comes_back_is_refused(
    session: BlockingSession,
) -> None:
    executor = SandkastenExecutor(session)
    executor.send_variables({"given": {"a": [1, "ä"]}})
    assert executor("given").output == "{'a': [1, 'ä']}"
    executor.send_tools({"final_answer": FinalAnswerTool()})
    assert executor("final_answer(1)").output == 1
    hostile = "class FinalAnswerException(Exception): value = 'pickle:gASVBAAAAA=='\n"
    raising = "def forward(*args): raise FinalAnswerException\n"
    again = "final_answer.forward = _kept(forward, final_answer.forward.__closure__[1].cell_contents)\n"
    with pytest.raises(Exception, match=r"Pickle data rejected"):
        executor(hostile + raising + again + "final_answer(1)")


def test_a_timeout_keeps_the_variables_and_has_the_output(session: BlockingSession) -> None:
    executor = SandkastenExecutor(session, timeout_ms=1000)
    with pytest.raises(AgentError, match=r"(?s)partly.*stopped after 1 seconds"):
        executor("x = 1\nprint('partly')\nimport time\ntime.sleep(60)")
    assert executor("x").output == "1"


def test_an_agent_that_is_interrupted_ends_after_its_step(session: BlockingSession) -> None:
    model, executor = ScriptedModel("x = 1", "x = 2"), SandkastenExecutor(session)
    agent = CodeAgent(
        tools=[],
        model=model,
        executor=executor,
        verbosity_level=-1,
        step_callbacks=[lambda _step, agent: agent.interrupt()],
    )
    with pytest.raises(AgentError, match="interrupted"):
        agent.run("Go.")
    assert executor("x").output == "1"


def test_ten_megabytes_lose_their_middle(session: BlockingSession) -> None:
    done = SandkastenExecutor(session)("print('x' * 10_000_000)\nprint('end')")
    assert len(done.logs) < 1_100_000
    assert done.logs.endswith("\nend\n")


def test_a_large_answer_comes_whole(session: BlockingSession) -> None:
    model = ScriptedModel("final_answer('ä' * 200_000)")
    with CodeAgent(tools=[], model=model, executor=SandkastenExecutor(session), verbosity_level=-1) as agent:
        assert agent.run("Go.") == "ä" * 200_000


def test_a_session_that_died_is_said(session: BlockingSession) -> None:
    executor = SandkastenExecutor(session)
    session.destroy()
    with pytest.raises(SessionNotFoundError):
        executor("1")


def test_sessions_and_times_that_cannot_be_meant_are_refused(session: BlockingSession) -> None:
    with pytest.raises(SandkastenInputError, match="timeout_ms"):
        SandkastenExecutor(session, timeout_ms=0)
    with pytest.raises(SandkastenInputError, match="sandkasten_sync"):
        SandkastenExecutor(Session.__new__(Session))  # type: ignore[arg-type]


def test_the_example_prints_what_its_page_says(check_example: Callable[[str], None]) -> None:
    check_example("smolagents_agent.py")
