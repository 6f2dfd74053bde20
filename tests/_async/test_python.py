"""Python that remembers: on a daemon that plays it, and on the real one."""

from __future__ import annotations

import base64
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from sandkasten._python.values import RichResult
from sandkasten.errors import (
    ExecTimeoutError,
    ExtensionMissingError,
    PythonError,
    SandkastenError,
    SandkastenInputError,
    SandkastenResponseError,
    SandkastenStreamError,
)
from sandkasten.testing import FakeDaemon, faults
from tests.soon import soon

from .seam import SandboxClient, Session

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01"


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    with FakeDaemon(extensions=("files", "idempotency", "resume", "python")) as daemon:
        yield daemon


@pytest.fixture
async def played(fake: FakeDaemon) -> AsyncIterator[Session]:
    async with SandboxClient(base_url=fake.url) as client, await client.create_session() as session:
        yield session


# --- on the real daemon


async def test_variables_stay_from_one_call_to_the_next(session: Session) -> None:
    assert (await session.python("x = 42")).ok
    result = await session.python("print(x); x + 1")
    assert (result.stdout, result.value, result.end) == ("42\n", "43", "completed")
    async with session.python_context("other") as context:
        assert (await context.run("x")).error is not None
        assert [each.name for each in await session.python_contexts()] == ["default", "other"]
    assert [each.name for each in await session.python_contexts()] == ["default"]
    variables = {each.name: each for each in await session.python_context().variables()}
    assert (variables["x"].type, variables["x"].repr) == ("int", "42")


async def test_an_exception_is_a_result_and_an_error_if_asked(session: Session) -> None:
    result = await session.python("print('before')\n1 / 0")
    assert (result.stdout, result.ok, result.value) == ("before\n", False, None)
    assert result.error is not None
    assert (result.error.name, result.error.message) == ("ZeroDivisionError", "division by zero")
    with pytest.raises(PythonError, match="ZeroDivisionError: division by zero") as caught:
        result.check()
    assert caught.value.result is result


async def test_a_stream_brings_what_is_printed_as_it_comes(session: Session) -> None:
    code = "import time\nprint('a', flush=True)\nopen('seen', 'w').close()\n" + (
        "import os\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('b')\n'c'"
    )
    text = ""
    async with session.python_stream(code) as stream:
        async for chunk in stream:
            if chunk.stream == "stdout" and not text:
                await session.write("go", "")
            text += chunk.text
    assert text == "a\nb\n"
    assert (stream.result.stdout, stream.result.value) == ("a\nb\n", "'c'")


async def test_a_stream_that_is_left_interrupts_its_code(session: Session) -> None:
    await session.python("x = 1")
    async with session.python_stream("print('begun', flush=True)\nwhile True: pass") as stream:
        async for _chunk in stream:
            break
    with soon():
        assert (await session.python("x")).value == "1"


async def test_a_deadline_keeps_the_variables(session: Session) -> None:
    await session.python("x = 1")
    with pytest.raises(ExecTimeoutError, match="variables are still there") as caught:
        await session.python("print('begun', flush=True)\nwhile True: pass", timeout_ms=200)
    assert (caught.value.stdout, caught.value.stderr) == ("begun\n", "")
    context = session.python_context()
    assert (await context.run("x")).value == "1"
    assert not await context.interrupt()
    await context.restart()
    result = await context.run("x")
    assert result.error is not None
    assert (result.error.name, result.restarted, result.execution_count) == ("NameError", False, 1)
    info = await context.info()
    assert info is not None
    assert not info.running
    await context.close()
    assert await context.info() is None


# --- on a daemon that plays it


async def test_results_come_in_all_their_forms(fake: FakeDaemon, played: Session) -> None:
    picture = {"image/png": base64.b64encode(PNG).decode(), "text/plain": "<Figure>"}
    fake.on_python(
        "show()",
        output="printed\n",
        stderr="warned\n",
        value={"text/plain": "[1]", "application/json": "[1]", "text/html": "<b>1</b>"},
        displays=[picture, {"image/svg+xml": "<svg/>", "text/latex": "$x$", "text/markdown": "*m*"}],
    )
    result = await played.python("show()", context="c", timeout_ms=5000, keep_bytes=100)
    sent = fake.requests[-1].json
    assert sent == {"code": "show()", "context": "c", "timeout_ms": 5000, "keep_bytes": 100}
    assert (result.stdout, result.stderr, result.value) == ("printed\n", "warned\n", "[1]")
    figure, drawn, value = result.results
    assert (figure.png, figure.jpeg, figure.text, figure.is_value) == (PNG, None, "<Figure>", False)
    assert (drawn.svg, drawn.latex, drawn.markdown, drawn.html) == ("<svg/>", "$x$", "*m*", None)
    assert (value.json, value.html, value.is_value) == ([1], "<b>1</b>", True)
    assert pickle.loads(pickle.dumps(result)) == result
    assert "html" in repr(value)
    chunks = [chunk async for chunk in played.python_stream("show()")]
    assert [chunk.stream for chunk in chunks] == ["stdout", "stderr", "display", "display", "result"]
    assert [chunk.result for chunk in chunks[2:]] == list(result.results)


async def test_a_cut_stream_goes_on_where_it_was(fake: FakeDaemon, played: Session) -> None:
    fake.on_python("code", output=["one\n", "two\n"], value="3")
    for fault in (faults.cut_before_done(), faults.cut_mid_event(after_events=1)):
        fake.fail_next(fault, where="python")
        async with played.python_stream("code") as stream:
            assert "".join([chunk.text async for chunk in stream]) == "one\ntwo\n"
        assert (stream.result.value, stream.result.stdout) == ("3", "one\ntwo\n")
    assert fake.codes == ["code", "code"]


async def test_a_stream_that_cannot_go_on_says_what_came(fake: FakeDaemon) -> None:
    with FakeDaemon(extensions=("python",)) as daemon:
        daemon.on_python("code", output="one\n")
        async with (
            SandboxClient(base_url=daemon.url) as client,
            await client.create_session() as session,
        ):
            daemon.fail_next(faults.cut_before_done(), where="python")
            stream = session.python_stream("code")
            with pytest.raises(SandkastenStreamError) as caught:
                async for _chunk in stream:
                    pass
            assert caught.value.output == "one\n"
            with pytest.raises(SandkastenError, match="no result yet"):
                _result = stream.result


async def test_a_stream_that_times_out_is_the_same_error(fake: FakeDaemon, played: Session) -> None:
    fake.on_python("code", output="one\n", timed_out=True)
    for _ in range(2):
        with pytest.raises(ExecTimeoutError):
            await played.python("code", timeout_ms=5)
    with pytest.raises(ExecTimeoutError):
        async for _chunk in played.python_stream("code", timeout_ms=5):
            pass


async def test_a_lost_answer_is_asked_for_again_and_nothing_runs_twice(
    fake: FakeDaemon, played: Session
) -> None:
    fake.on_python("code", value="1", error=("ValueError", "no"))
    fake.fail_next(faults.reset(), where="python")
    result = await played.python("code")
    assert (result.value, str(result.error)) == ("1", "ValueError: no")
    assert fake.codes == ["code"]


async def test_a_daemon_without_it_says_so() -> None:
    with FakeDaemon() as daemon:
        async with SandboxClient(base_url=daemon.url) as client, await client.create_session() as session:
            with pytest.raises(ExtensionMissingError, match="'python'"):
                await session.python("1")
            with pytest.raises(ExtensionMissingError):
                await session.python_contexts()
            with pytest.raises(ExtensionMissingError):
                await session.python_context().variables()


@pytest.mark.parametrize(
    "given",
    [
        {"code": 5},
        {"code": "x" * 1_100_000},
        {"code": "\ud800"},
        {"code": "1", "context": "a b"},
        {"code": "1", "context": ""},
        {"code": "1", "timeout_ms": -1},
        {"code": "1", "keep_bytes": -1},
    ],
    ids=lambda given: repr(given)[:40],
)
async def test_what_no_daemon_accepts_is_not_sent(
    fake: FakeDaemon, played: Session, given: dict[str, Any]
) -> None:
    asked = len(fake.requests)
    with pytest.raises(SandkastenInputError):
        await played.python(**given)
    assert len(fake.requests) == asked


async def test_answers_that_make_no_sense_are_said_to_be(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/healthz").respond_with_json({"status": "ok", "extensions": ["python"]})
    httpserver.expect_request("/v1/sessions/1a2b/python", method="POST").respond_with_json({"end": 5})
    httpserver.expect_request("/v1/sessions/1a2b/python", method="GET").respond_with_json({"contexts": 5})
    async with SandboxClient(base_url=httpserver.url_for("")) as client:
        session = Session(client._connection, "1a2b")
        with pytest.raises(SandkastenResponseError):
            await session.python("1")
        with pytest.raises(SandkastenResponseError):
            await session.python_contexts()


# --- in a notebook


def test_what_a_notebook_shows_has_no_hold_on_its_page() -> None:
    hostile = {
        "text/plain": "t",
        "text/html": "<script>alert(1)</script><b>x</b>",
        "image/svg+xml": "<svg onload=alert(1)></svg>",
        "application/javascript": "alert(1)",
        "image/png": base64.b64encode(PNG).decode(),
    }
    bundle = RichResult(hostile)._repr_mimebundle_()
    assert {*bundle} == {"text/plain", "text/html", "image/png"}
    assert '<iframe sandbox=""' in bundle["text/html"]
    assert "<script" not in bundle["text/html"]
    interactive = RichResult(hostile | {"application/vnd.plotly.v1+json": "{}"})._repr_mimebundle_()
    assert interactive["text/html"].startswith('<img src="data:image/svg+xml;base64,')
    drawn = RichResult({"image/svg+xml": hostile["image/svg+xml"]})._repr_mimebundle_()
    assert drawn["text/html"].startswith('<img src="data:image/svg+xml;base64,')
    broken = RichResult({"image/png": "?", "text/plain": "p"})._repr_mimebundle_()
    assert broken == {"text/plain": "p [not shown: not a PNG picture]"}


async def test_a_whole_result_is_shown_as_text_and_as_html(fake: FakeDaemon, played: Session) -> None:
    fake.on_python("value", value={"text/plain": "1"})
    assert (await played.python("value"))._repr_mimebundle_() == {"text/plain": "1"}
    fake.on_python("all", output="<i>", value="1", displays=[{"text/html": "<b>"}], error=("E", "<m>"))
    bundle = (await played.python("all"))._repr_mimebundle_()
    assert bundle["text/plain"].split("\n") == ["<i>", "<text/html>", "1", "E: <m>"]
    assert "&lt;i&gt;" in bundle["text/html"]
    assert "&lt;m&gt;" in bundle["text/html"]
