"""Requests on the wire, and the results of all answers; against a server whose answers a test sets."""

from __future__ import annotations

import base64
import gc
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import httpx
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from sandkasten._errorclasses import BY_ERROR_CODE
from sandkasten.errors import (
    AuthenticationError,
    CapacityExceededError,
    ExecTimeoutError,
    SandboxFileNotFoundError,
    SandkastenAPIError,
    SandkastenConnectionError,
    SandkastenResponseError,
    SandkastenStreamError,
    SandkastenTimeoutError,
    SessionNotFoundError,
)
from tests.soon import soon

from .seam import SandboxClient, Session

INFO = {
    "id": "1a2b3c4d-5e6",
    "image": "python",
    "status": "running",
    "cwd": "/workspace",
    "created_at": "2026-01-02T03:04:05.123456789Z",
    "expires_at": "2026-01-02T03:34:05+00:00",
    "workspace_id": "",
    "a_field_of_next_year": [1, 2],
}
SESSION = "/v1/sessions/1a2b3c4d-5e6"
HEALTHY = b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{"status": "ok"}'
DONE = 'event: done\ndata: {"exit_code": 0, "cwd": "/workspace", "duration_ms": 5}\n\n'


@pytest.fixture(scope="module")
def one_server() -> Iterator[HTTPServer]:
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def server(one_server: HTTPServer) -> Iterator[HTTPServer]:
    one_server.clear()
    one_server.expect_request("/healthz", method="GET").respond_with_json({"status": "ok"})
    yield one_server
    one_server.check()


@pytest.fixture
async def client(server: HTTPServer) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(base_url=server.url_for(""), api_key="secret-key", timeout=5) as client:
        yield client


@pytest.fixture
async def session(client: SandboxClient) -> Session:
    return Session(client._connection, "1a2b3c4d-5e6")


def answers(server: HTTPServer, method: str, path: str, answer: object, status: int = 200) -> list[Request]:
    """Answer a path with JSON, and give the requests that came."""
    requests: list[Request] = []

    def handler(request: Request) -> Response:
        request.get_data()
        requests.append(request)
        return Response(json.dumps(answer), status, content_type="application/json")

    server.expect_request(path, method=method).respond_with_handler(handler)
    return requests


def streams(server: HTTPServer, body: str | bytes, content_type: str = "text/event-stream") -> None:
    server.expect_request(f"{SESSION}/exec/stream").respond_with_data(body, content_type=content_type)


# --- requests


async def test_create_sends_what_was_asked_and_nothing_else(
    server: HTTPServer, client: SandboxClient
) -> None:
    requests = answers(server, "POST", "/v1/sessions", INFO, 201)
    assert (await client.create_session()).id == "1a2b3c4d-5e6"
    await client.create_session(image="node", ttl_seconds=60, workspace_id="my-work")
    assert [request.get_json() for request in requests] == [
        {"image": "python"},
        {"image": "node", "ttl_seconds": 60, "workspace_id": "my-work"},
    ]
    assert requests[0].headers["Authorization"] == "Bearer secret-key"


async def test_exec_sends_its_options(server: HTTPServer, session: Session) -> None:
    answer = {"exit_code": 0, "cwd": "/", "output": "hi", "truncated": True, "duration_ms": 3}
    requests = answers(server, "POST", f"{SESSION}/exec", answer)
    result = await session.exec("echo hi", timeout_ms=5, raw_output=True)
    assert (result.output, result.truncated, result.duration_ms) == ("hi", True, 3)
    assert requests[0].get_json() == {"cmd": "echo hi", "timeout_ms": 5, "raw_output": True}


async def test_write_sends_text_as_text_and_bytes_as_base64(server: HTTPServer, session: Session) -> None:
    requests = answers(server, "POST", f"{SESSION}/fs/write", {"ok": True})
    await session.write("a.txt", "grüße")
    await session.write("b.bin", b"\x00\xff")
    assert [request.get_json() for request in requests] == [
        {"path": "a.txt", "text": "grüße"},
        {"path": "b.bin", "content_base64": base64.b64encode(b"\x00\xff").decode()},
    ]


async def test_an_empty_file_goes_as_an_upload(server: HTTPServer, session: Session) -> None:
    requests = answers(server, "POST", f"{SESSION}/fs/upload", {"ok": True, "paths": ["/workspace/d/e"]})
    await session.write("d/e", "")
    (part,) = requests[0].files.getlist("file")
    with part.stream:
        assert (requests[0].form["path"], part.filename, part.read()) == ("/workspace/d", "e", b"")


async def test_read_sends_its_limit_and_decodes(server: HTTPServer, session: Session) -> None:
    answer = {"path": "a b", "content_base64": base64.b64encode(b"\x00\xff").decode(), "truncated": True}
    requests = answers(server, "GET", f"{SESSION}/fs/read", answer)
    result = await session.read("a b&c", max_bytes=2)
    assert (result.content, result.truncated) == (b"\x00\xff", True)
    assert dict(requests[0].args) == {"path": "a b&c", "max_bytes": "2"}


# --- answers


async def test_times_are_read_down_to_nanoseconds_and_unknown_fields_ignored(
    server: HTTPServer, session: Session
) -> None:
    answers(server, "GET", SESSION, INFO)
    info = await session.info()
    assert info.created_at == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
    assert info.workspace_id is None


@pytest.mark.parametrize("answer", [[INFO], {"sessions": [INFO]}])
async def test_a_list_of_sessions_comes_bare_or_in_an_object(
    server: HTTPServer, client: SandboxClient, answer: object
) -> None:
    answers(server, "GET", "/v1/sessions", answer)
    assert [info.id for info in await client.list_sessions()] == ["1a2b3c4d-5e6"]


async def test_an_empty_list_may_be_null(server: HTTPServer, client: SandboxClient) -> None:
    answers(server, "GET", "/v1/workspaces", {"workspaces": None})
    assert await client.list_workspaces() == []


async def test_a_missing_memory_limit_is_none(server: HTTPServer, session: Session) -> None:
    answers(server, "GET", f"{SESSION}/stats", {"memory_bytes": 1, "memory_limit": 0, "cpu_usage_usec": 2})
    assert (await session.stats()).memory_limit is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({key: value for key, value in INFO.items() if key != "cwd"}, "lacks the field 'cwd'"),
        (INFO | {"created_at": "yesterday"}, "'created_at'"),
        (INFO | {"image": None}, "'image'"),
        ([], "cannot be read"),
        ("text", "cannot be read"),
    ],
)
async def test_an_answer_with_a_bad_field_names_it(
    server: HTTPServer, session: Session, answer: object, words: str
) -> None:
    answers(server, "GET", SESSION, answer)
    with pytest.raises(SandkastenResponseError, match=words):
        await session.info()


async def test_a_list_that_lacks_its_field_says_so(server: HTTPServer, client: SandboxClient) -> None:
    answers(server, "GET", "/v1/workspaces", {"other": []})
    with pytest.raises(SandkastenResponseError, match="lacks the field 'workspaces'"):
        await client.list_workspaces()


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        ("<html>hi</html>", "text/html", "an HTML page"),
        ("", "", "an empty body"),
        ("{cut", "application/json", "unexpected JSON"),
    ],
)
async def test_a_success_that_is_not_json_is_an_error(
    server: HTTPServer, session: Session, body: str, content_type: str, words: str
) -> None:
    server.expect_request(SESSION).respond_with_data(body, content_type=content_type)
    with pytest.raises(SandkastenResponseError, match=f"{words}.*base_url"):
        await session.info()


# --- errors


@pytest.mark.parametrize("code", sorted(BY_ERROR_CODE))
async def test_every_error_code_has_its_class(server: HTTPServer, session: Session, code: str) -> None:
    body = {"error_code": code, "message": "The sentence", "details": {"key": 1}}
    server.expect_request(SESSION).respond_with_json(body, 418, headers={"X-Request-ID": "req-7"})
    with pytest.raises(BY_ERROR_CODE[code], match=rf"The sentence\..*418 {code}, request req-7") as caught:
        await session.info()
    error = caught.value
    assert (error.status_code, error.error_code, error.message) == (418, code, "The sentence")
    assert (error.details, error.request_id) == ({"key": 1}, "req-7")
    assert isinstance(error, httpx.HTTPStatusError)
    assert error.response.status_code == 418


async def test_an_unknown_error_code_is_a_plain_api_error(server: HTTPServer, session: Session) -> None:
    answers(server, "GET", SESSION, {"error_code": "NEXT_YEAR", "message": "What?"}, 409)
    with pytest.raises(SandkastenAPIError, match="NEXT_YEAR") as caught:
        await session.info()
    assert type(caught.value) is SandkastenAPIError


async def test_old_servers_say_error(server: HTTPServer, session: Session) -> None:
    answers(server, "GET", SESSION, {"error": "it broke"}, 500)
    with pytest.raises(SandkastenAPIError, match="it broke"):
        await session.info()


@pytest.mark.parametrize(
    ("sentence", "error_class"),
    [
        ("runner error: open: open /workspace/x: no such file or directory", SandboxFileNotFoundError),
        ("session not found: 1a2b3c4d-5e6", SessionNotFoundError),
    ],
)
async def test_the_go_daemons_sentences_have_classes_too(
    server: HTTPServer, session: Session, sentence: str, error_class: type[SandkastenAPIError]
) -> None:
    answers(server, "GET", f"{SESSION}/fs/read", {"error_code": "INTERNAL_ERROR", "message": sentence}, 500)
    with pytest.raises(error_class) as caught:
        await session.read("x")
    assert caught.value.status_code == 500


async def test_a_proxys_html_is_told_as_such(server: HTTPServer, session: Session) -> None:
    server.expect_request(SESSION).respond_with_data("<html>", 502, content_type="text/html")
    with pytest.raises(
        SandkastenAPIError, match="502 with an HTML page, which no Sandkasten daemon does"
    ) as caught:
        await session.info()
    assert caught.value.error_code is None


async def test_a_401_without_a_body_is_about_the_key(server: HTTPServer, session: Session) -> None:
    server.expect_request(SESSION).respond_with_data("", 401)
    with pytest.raises(AuthenticationError, match="api_key"):
        await session.info()


async def test_the_key_is_in_no_error(server: HTTPServer, client: SandboxClient) -> None:
    answers(server, "GET", "/v1/sessions", {"error_code": "UNAUTHORIZED", "message": "No."}, 401)
    with pytest.raises(AuthenticationError) as caught:
        await client.list_sessions()
    assert "secret-key" not in f"{caught.value!r} {caught.value} {client._connection._target!r}"


async def test_a_full_daemon_says_when_to_come_back(server: HTTPServer, client: SandboxClient) -> None:
    body = {"error_code": "CAPACITY_EXCEEDED", "message": "Full"}
    server.expect_request("/v1/sessions").respond_with_json(body, 429, headers={"Retry-After": "3"})
    with pytest.raises(CapacityExceededError) as caught:
        await client.create_session()
    assert caught.value.retry_after_seconds == 3.0


async def test_a_timeout_brings_what_was_printed(server: HTTPServer, session: Session) -> None:
    details = {"output": "so far", "cwd": "/tmp", "shell_restarted": True}
    answers(
        server,
        "POST",
        f"{SESSION}/exec",
        {"error_code": "COMMAND_TIMEOUT", "message": "m", "details": details},
        504,
    )
    with pytest.raises(ExecTimeoutError) as caught:
        await session.exec("sleep 9", timeout_ms=1)
    assert (caught.value.output, caught.value.cwd, caught.value.shell_restarted) == ("so far", "/tmp", True)


async def test_a_timeout_of_a_daemon_that_tells_no_details(server: HTTPServer, session: Session) -> None:
    answers(server, "POST", f"{SESSION}/exec", {"error_code": "COMMAND_TIMEOUT", "message": "m"}, 504)
    with pytest.raises(ExecTimeoutError) as caught:
        await session.exec("sleep 9", timeout_ms=1)
    assert (caught.value.output, caught.value.cwd, caught.value.shell_restarted) == ("", None, False)


# --- connections


async def test_no_daemon_at_the_url_says_which_url_and_what_to_do() -> None:
    async with SandboxClient(base_url="http://127.0.0.1:9") as client:
        with pytest.raises(
            SandkastenConnectionError, match=r"http://127\.0\.0\.1:9 .*Start a daemon"
        ) as caught:
            await client.health()
    assert isinstance(caught.value, httpx.TransportError)
    assert isinstance(caught.value.__context__, httpx.ConnectError)


async def test_no_daemon_at_the_socket_says_which(tmp_path: object) -> None:
    async with SandboxClient(base_url=f"unix://{tmp_path}/no.sock") as client:
        with pytest.raises(SandkastenConnectionError, match=r"no\.sock"):
            await client.health()
    gc.collect()  # a socket that was left behind would complain here


async def test_a_silent_daemon_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with SandboxClient(base_url=url, timeout=0.3) as client:
            with soon(), pytest.raises(SandkastenTimeoutError, match="silent"):
                await client.health()


async def test_an_exec_may_be_silent_for_its_own_timeout_longer(server: HTTPServer) -> None:
    given_up = threading.Event()

    def slow(request: Request) -> Response:
        given_up.wait(0.8 if request.json["timeout_ms"] > 100 else 30)
        return Response(
            json.dumps({"exit_code": 0, "cwd": "/", "output": ""}), content_type="application/json"
        )

    server.expect_request(f"{SESSION}/exec").respond_with_handler(slow)
    async with SandboxClient(base_url=server.url_for(""), timeout=0.3) as client:
        session = Session(client._connection, "1a2b3c4d-5e6")
        assert (await session.exec("sleep 0.8", timeout_ms=20_000)).ok
        with pytest.raises(SandkastenTimeoutError, match="its time in the queue counts"):
            await session.exec("sleep 30", timeout_ms=100)
    given_up.set()


async def test_a_connection_lost_before_the_answer_says_so() -> None:
    with closing_server(b"") as url:
        async with SandboxClient(base_url=url) as client:
            with pytest.raises(SandkastenConnectionError, match="lost before the answer"):
                await client.health()


# --- streams


async def test_a_stream_ignores_keep_alives_and_unknown_events(server: HTTPServer, session: Session) -> None:
    body = (
        ": keep-alive\n\n"
        'id: 1\nevent: chunk\ndata: {"chunk": "a\\n", "timestamp": 1700000000123}\n\n'
        ": keep-alive\n\n"
        "event: of-next-year\ndata: {}\n\n"
        f"{DONE}"
    )
    streams(server, body)
    first, last = [chunk async for chunk in session.exec_stream("x")]
    assert (first.output, first.done, first.exit_code) == ("a\n", False, None)
    assert first.timestamp == datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)
    assert (last.done, last.exit_code, last.cwd, last.duration_ms) == (True, 0, "/workspace", 5)


async def test_line_separators_within_the_output_survive(server: HTTPServer, session: Session) -> None:
    chunk = json.dumps({"chunk": "a\u2028b\x85c\r\nd"}, ensure_ascii=False)
    streams(server, f"event: chunk\ndata: {chunk}\n\n{DONE}".encode())
    first, _ = [chunk async for chunk in session.exec_stream("x")]
    assert first.output == "a\u2028b\x85c\r\nd"


async def test_a_stream_without_its_end_was_cut(server: HTTPServer, session: Session) -> None:
    streams(server, 'event: chunk\ndata: {"chunk": "a", "timestamp": 1}\n\n')
    outputs = []
    with pytest.raises(SandkastenStreamError, match="cut before the command's end"):
        async for chunk in session.exec_stream("x"):
            outputs.append(chunk.output)
    assert outputs == ["a"]


async def test_a_connection_that_breaks_within_a_stream_was_cut() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    event = b'event: chunk\ndata: {"chunk": "a", "timestamp": 1}\n\n'
    with closing_server(head + b"%x\r\n%s\r\n5\r\neve" % (len(event), event)) as url:
        async with SandboxClient(base_url=url) as client:
            outputs = []
            with pytest.raises(SandkastenStreamError, match="cut"):
                async for chunk in Session(client._connection, "1a2b3c4d-5e6").exec_stream("x"):
                    outputs.append(chunk.output)
            assert outputs == ["a"]


async def test_an_error_event_is_the_error_of_its_code(server: HTTPServer, session: Session) -> None:
    data = {"error": "stopped", "error_code": "COMMAND_TIMEOUT", "details": {"cwd": "/tmp"}}
    streams(server, f"event: error\ndata: {json.dumps(data)}\n\n")
    with pytest.raises(ExecTimeoutError, match="stopped") as caught:
        await session.exec_stream("x").__anext__()
    assert caught.value.cwd == "/tmp"


async def test_an_error_event_without_a_code_is_a_stream_error(server: HTTPServer, session: Session) -> None:
    streams(server, 'event: error\ndata: {"error": "exec failed"}\n\n')
    with pytest.raises(SandkastenStreamError, match="exec failed"):
        await session.exec_stream("x").__anext__()


async def test_an_answer_that_is_no_stream_is_an_error(server: HTTPServer, session: Session) -> None:
    streams(server, "<html>", content_type="text/html")
    with pytest.raises(SandkastenResponseError, match="stream of events was expected"):
        await session.exec_stream("x").__anext__()


async def test_an_error_status_of_a_stream_is_its_error(server: HTTPServer, session: Session) -> None:
    answers(
        server, "POST", f"{SESSION}/exec/stream", {"error_code": "SESSION_NOT_FOUND", "message": "m"}, 404
    )
    with pytest.raises(SessionNotFoundError):
        await session.exec_stream("x").__anext__()


@pytest.mark.parametrize("data", ["{cut", "{}", '{"chunk": 7}'])
async def test_event_data_that_cannot_be_read_is_an_error(
    server: HTTPServer, session: Session, data: str
) -> None:
    streams(server, f"event: chunk\ndata: {data}\n\n{DONE}")
    with pytest.raises(SandkastenResponseError):
        await session.exec_stream("x").__anext__()


class closing_server:  # noqa: N801  (reads as a function does)
    """A server that answers every connection with some bytes and closes it; what HTTPServer cannot do."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    is_health = connection.recv(65536).startswith(b"GET /healthz")
                    connection.sendall(HEALTHY if is_health and self._answer else self._answer)
