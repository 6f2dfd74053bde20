"""The fake daemon follows its script, and breaks the answers that a test chooses, for both twins."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import httpx
import pytest

import sandkasten
from sandkasten.errors import (
    AuthenticationError,
    CapacityExceededError,
    ExecTimeoutError,
    InvalidImageError,
    InvalidPatternError,
    InvalidRequestError,
    SandboxDirectoryNotEmptyError,
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandkastenAPIError,
    SandkastenConnectionError,
    SandkastenStreamError,
    SessionExpiredError,
    SessionNotFoundError,
    WorkspaceNotFoundError,
)
from sandkasten.testing import FakeDaemon, Fault, faults
from sandkasten.testing._multipart import Part, parts_of
from sandkasten_sync import SandboxClient, Session
from tests.soon import soon

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/testing.md").read_text("utf-8")


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as daemon:
        yield daemon


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[SandboxClient]:
    with SandboxClient(base_url=daemon.url, timeout=5, max_retries=0) as client:
        yield client


@pytest.fixture
def session(client: SandboxClient) -> Session:
    return client.create_session()


@pytest.fixture
def http(daemon: FakeDaemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=1) as http:
        yield http


# --- commands


def test_without_a_script_simple_code_runs(session: Session) -> None:
    result = session.exec("make")
    assert (result.exit_code, result.output, result.cwd) == (0, "", "/workspace")
    session.write("data/a.txt", "text")
    assert session.read("/workspace/data/a.txt").text == "text"
    assert session.info().image == "python"
    assert session.stats().memory_bytes == 4
    session.destroy()


def test_the_async_twin_speaks_to_it_too(daemon: FakeDaemon) -> None:
    daemon.on_exec("make", output="a\nb\n", exit_code=2)

    async def main() -> None:
        async with (
            sandkasten.SandboxClient(base_url=daemon.url) as client,
            await client.create_session() as session,
        ):
            assert (await session.exec("make")).exit_code == 2
            assert [chunk.output async for chunk in session.exec_stream("make")] == ["a\n", "b\n", ""]

    asyncio.run(main())
    assert daemon.sessions == {}


@pytest.mark.parametrize("match", ["git push", re.compile("git "), lambda cmd: cmd.endswith("push")])
def test_a_command_is_matched_by_its_text_its_beginning_or_a_function(
    daemon: FakeDaemon, session: Session, match: object
) -> None:
    daemon.on_exec(match, output="rejected\n", exit_code=1, cwd="/tmp")  # type: ignore[arg-type]
    assert session.exec("./git").ok
    result = session.exec("git push")
    assert (result.output, result.exit_code, result.cwd) == ("rejected\n", 1, "/tmp")
    assert session.exec("pwd").cwd == "/tmp"


def test_the_newest_rule_goes_first_and_may_end(daemon: FakeDaemon, session: Session) -> None:
    daemon.on_exec(re.compile("."), output=lambda cmd: f"any {cmd}\n")
    daemon.on_exec("make", output="busy\n", exit_code=1, times=1)
    assert [session.exec("make").output for _ in range(2)] == ["busy\n", "any make\n"]


def test_a_command_may_make_files(daemon: FakeDaemon, session: Session) -> None:
    daemon.on_exec("make", writes={"out/a.txt": "text", "b.bin": b"\xff"})
    session.exec("make")
    assert (session.read("out/a.txt").text, session.read("b.bin").content) == ("text", b"\xff")
    assert daemon.sessions[session.id].files.keys() == {"out/a.txt", "b.bin"}


def test_a_stream_gets_lines_or_the_given_pieces(daemon: FakeDaemon, session: Session) -> None:
    daemon.on_exec("lines", output="a\nb")
    daemon.on_exec("pieces", output=["a", "\nb\n", "c"], exit_code=3)
    assert [chunk.output for chunk in session.exec_stream("lines")] == ["a\n", "b", ""]
    *pieces, end = session.exec_stream("pieces")
    assert [chunk.output for chunk in pieces] == ["a", "\nb\n", "c"]
    assert (end.done, end.exit_code) == (True, 3)
    assert session.exec("pieces").output == "a\nb\nc"


def test_a_command_takes_its_time(daemon: FakeDaemon, session: Session) -> None:
    daemon.on_exec("slow", output="a\nb\n", pause_seconds=0.1)
    started = time.monotonic()
    assert session.exec("slow").duration_ms == 200
    assert time.monotonic() - started >= 0.2
    started = time.monotonic()
    arrived = [time.monotonic() - started for _ in session.exec_stream("slow")]
    assert arrived[0] >= 0.1
    assert arrived[1] >= 0.2


def test_a_command_may_outrun_its_time(daemon: FakeDaemon, session: Session) -> None:
    daemon.on_exec("sleep", output="begun\n", timed_out=True)
    with pytest.raises(ExecTimeoutError, match="500 ms") as caught:
        session.exec("sleep", timeout_ms=500)
    assert caught.value.output == "begun\n"
    outputs = []
    with pytest.raises(ExecTimeoutError):
        for chunk in session.exec_stream("sleep"):
            outputs.append(chunk.output)
    assert outputs == ["begun\n"]


def test_an_error_in_a_function_of_the_test_is_shown(daemon: FakeDaemon, session: Session) -> None:
    daemon.on_exec("boom", output=lambda _cmd: str(1 // 0))
    with pytest.raises(SandkastenAPIError, match="ZeroDivisionError"):
        session.exec("boom")


# --- sessions, files, workspaces


def test_sessions_come_and_go(daemon: FakeDaemon, client: SandboxClient) -> None:
    first, second = client.create_session(image="node", ttl_seconds=60), client.create_session()
    info = client.list_sessions()[0]
    assert (info.id, info.image, (info.expires_at - info.created_at).seconds) == (first.id, "node", 60)
    second.destroy()
    with pytest.raises(SessionNotFoundError):
        client.get_session(second.id)
    daemon.sessions[first.id].is_expired = True
    with pytest.raises(SessionExpiredError):
        first.exec("true")
    with pytest.raises(InvalidImageError, match="base, python, node"):
        client.create_session(image="ruby")


def test_files_are_read_in_part_or_not_found(session: Session) -> None:
    session.upload(io.BytesIO(b"\r\n--\x00content"), dest_path="d", filename="übung 1.bin")
    part = session.read("d/übung 1.bin", max_bytes=4)
    assert (part.content, part.truncated) == (b"\r\n--", True)
    with pytest.raises(SandboxFileNotFoundError):
        session.read("d/missing")
    with pytest.raises(SandboxIsDirectoryError):
        session.read("d")
    with pytest.raises(InvalidRequestError, match="outside"):
        session.write("../x", "x")
    session.write("empty", "")
    assert session.read("empty").content == b""


def test_paths_are_changed(session: Session) -> None:
    session.mkdir("a/b")
    session.mkdir("a/b", exist_ok=True)
    with pytest.raises(FileExistsError):
        session.mkdir("a/b")
    with pytest.raises(FileNotFoundError):
        session.mkdir("x/y", parents=False)
    assert session.list("a/b") == []
    session.write("a/f", "x")
    session.copy("a", "c")
    session.move("c/f", "d/g")
    session.chmod("d/g", 0o600)
    with pytest.raises(FileExistsError):
        session.copy("a/f", "d/g")
    with pytest.raises(SandboxDirectoryNotEmptyError):
        session.remove("a")
    session.remove("a", recursive=True)
    session.remove("a", missing_ok=True)
    with pytest.raises(FileNotFoundError):
        session.remove("a")
    for call in (lambda: session.remove("."), lambda: session.copy("d", "d/e")):
        with pytest.raises(InvalidRequestError):
            call()
    assert [entry.name for entry in session.list()] == ["c", "d"]
    assert session.read("d/g").content == b"x"


def test_trees_are_listed_and_searched(session: Session) -> None:
    session.write("a/b/f.py", "one\ntwo\n")
    session.write("g.py", "two")
    session.mkdir("empty")
    assert [entry.name for entry in session.list(depth=2)] == ["a", "a/b", "g.py"]
    assert session.glob("**/*.py") == ["a/b/f.py", "g.py"]
    assert session.glob("*.py", "a/b") == ["f.py"]
    found = session.search("^two$")
    assert [(match.path, match.line_number) for match in found.matches] == [("a/b/f.py", 2), ("g.py", 1)]
    assert session.search("two", max_results=1).truncated
    with pytest.raises(InvalidPatternError):
        session.search("(")
    with pytest.raises(SandboxFileNotFoundError):
        session.glob("*", "missing")
    session.append("g.py", "!")
    assert session.read("g.py", offset=1).content == b"wo!"


def test_workspaces_outlive_sessions(daemon: FakeDaemon, client: SandboxClient) -> None:
    with client.create_session(workspace_id="my-work") as session:
        session.write("d/a.txt", "text")
    workspace = client.workspace("my-work")
    workspace.write("b.txt", b"bytes")
    assert {(entry.name, entry.is_dir) for entry in workspace.list()} == {("d", True), ("b.txt", False)}
    assert [entry.name for entry in workspace.list("d")] == ["a.txt"]
    with pytest.raises(SandboxFileNotFoundError):
        workspace.list("gone")
    assert daemon.workspaces["my-work"]["b.txt"] == b"bytes"
    assert [info.id for info in client.list_workspaces()] == ["my-work"]
    client.delete_workspace("my-work")
    with pytest.raises(WorkspaceNotFoundError):
        workspace.read("b.txt")


def test_uploads_are_taken_apart_byte_by_byte() -> None:
    head = b'--B\r\nContent-Disposition: form-data; name="path"\r\n\r\nd\r\n'
    file = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a%22b"\r\n\r\n\r\n--\r\n\r\n--B--\r\n'
    )
    parts = list(parts_of("multipart/form-data; boundary=B", head + file))
    assert parts == [Part("path", None, b"d"), Part("file", 'a"b', b"\r\n--\r\n")]
    assert list(parts_of("application/json", head)) == []


# --- what was asked


def test_requests_are_recorded_without_their_key(daemon: FakeDaemon) -> None:
    with SandboxClient(base_url=daemon.url, api_key="very-secret") as client:
        client.create_session(image="node").exec("make", timeout_ms=5)
    created, executed = [request for request in daemon.requests if request.call != "health"]
    assert (created.call, created.method, created.path) == ("create_session", "POST", "/v1/sessions")
    assert created.json == {"image": "node"}
    assert (executed.call, executed.json["cmd"], executed.json["timeout_ms"]) == ("exec", "make", 5)
    assert daemon.commands == ["make"]
    assert "very-secret" not in repr(daemon.requests) + repr(vars(daemon)) + repr(executed.headers)


def test_a_key_may_be_needed() -> None:
    with FakeDaemon(api_key="right") as daemon:
        assert "right" not in repr(daemon)
        with SandboxClient(base_url=daemon.url, api_key="right") as client:
            client.create_session()
        with SandboxClient(base_url=daemon.url, api_key="wrong") as client:
            client.health()
            with pytest.raises(AuthenticationError):
                client.list_sessions()


def test_any_request_can_be_answered_by_script(daemon: FakeDaemon, http: httpx.Client) -> None:
    path = re.compile(r"/v1/sessions/[^/]+/ports")
    daemon.on_request("GET", path, json=[8080], status=203, headers={"X-More": "1"})
    answer = http.get("/v1/sessions/abc/ports")
    assert (answer.status_code, answer.json(), answer.headers["x-more"]) == (203, [8080], "1")
    assert http.get("/v1/other").json()["error_code"] == "NOT_FOUND"


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_what_is_not_json_is_refused(http: httpx.Client, body: bytes) -> None:
    assert http.post("/v1/sessions", content=body).status_code == 400


def test_chunked_requests_are_read(daemon: FakeDaemon, http: httpx.Client) -> None:
    assert http.post("/v1/sessions", content=iter([b'{"image":', b' "node"}'])).status_code == 201
    assert daemon.requests[0].json == {"image": "node"}


def test_many_connections_at_once_are_served(daemon: FakeDaemon, client: SandboxClient) -> None:
    daemon.on_exec("wait", output="done\n", pause_seconds=0.6)
    sessions = [client.create_session() for _ in range(20)]
    threads = [threading.Thread(target=session.exec, args=("wait",)) for session in sessions]
    with soon():  # one after another they take 12 seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert daemon.commands == ["wait"] * 20


# --- faults, on the bare wire


def execute(http: httpx.Client, kind: str = "exec") -> httpx.Response:
    session_id = http.post("/v1/sessions").json()["id"]
    return http.post(f"/v1/sessions/{session_id}/{kind}", json={"cmd": "make", "timeout_ms": 1})


def broken(daemon: FakeDaemon, http: httpx.Client, fault: Fault, kind: str = "exec") -> bytes:
    """Return the part of an answer that arrives before the connection breaks."""
    daemon.on_exec("make", output="a\nb\n")
    session_id = http.post("/v1/sessions").json()["id"]
    daemon.fail_next(fault)
    got = b""
    with (
        pytest.raises(httpx.TransportError),
        http.stream("POST", f"/v1/sessions/{session_id}/{kind}", json={"cmd": "make"}) as answer,
    ):
        for part in answer.iter_raw():
            got += part
    return got


def test_a_reset_comes_before_anything(daemon: FakeDaemon, http: httpx.Client) -> None:
    with pytest.raises(httpx.ReadError, match="reset"):
        daemon.fail_next(faults.reset())
        http.get("/v1/sessions")
    assert http.get("/v1/sessions").status_code == 200


def test_a_reset_or_a_cut_comes_within_the_body(daemon: FakeDaemon, http: httpx.Client) -> None:
    whole = execute(http).content
    assert 0 < len(broken(daemon, http, faults.cut())) < len(whole)
    assert len(broken(daemon, http, faults.cut(after_bytes=7))) == 7
    assert len(broken(daemon, http, faults.reset_mid_body(after_bytes=7))) == 7
    assert daemon.commands == ["make"] * 4


def test_a_stream_is_cut_after_whole_events_or_within_one(daemon: FakeDaemon, http: httpx.Client) -> None:
    kind = "exec/stream"
    assert broken(daemon, http, faults.cut(), kind).count(b"\n\n") == 1
    got = broken(daemon, http, faults.cut_mid_event(), kind)
    assert got.count(b"\n\n") == 1
    assert got.count(b"event: ") == 2
    got = broken(daemon, http, faults.cut_mid_event(after_events=0), kind)
    assert got.count(b"\n\n") == 0
    assert got.startswith(b"event: chunk")
    got = broken(daemon, http, faults.cut_before_done(), kind)
    assert got.count(b"event: chunk") == 2
    assert b"event: done" not in got


def test_a_stream_may_lack_its_end_in_good_order(daemon: FakeDaemon, http: httpx.Client) -> None:
    daemon.on_exec("make", output="a\nb\n")
    daemon.fail_next(faults.cut_before_done(in_good_order=True), where="exec_stream")
    text = execute(http, "exec/stream").text
    assert (text.count("event: chunk"), text.count("event: done")) == (2, 0)


def test_nothing_comes_at_all_or_any_more(daemon: FakeDaemon, http: httpx.Client) -> None:
    daemon.fail_next(faults.silence(), where="health")
    with pytest.raises(httpx.ReadTimeout):
        http.get("/healthz", timeout=0.1)
    daemon.fail_next(faults.silence(after_bytes=3), where="health")
    with pytest.raises(httpx.ReadTimeout), http.stream("GET", "/healthz", timeout=0.1) as answer:
        assert answer.status_code == 200
        answer.read()


def test_a_trickle_is_whole_but_slow(daemon: FakeDaemon, http: httpx.Client) -> None:
    daemon.fail_next(faults.trickle(piece_bytes=20, pause_seconds=0.02), where="exec")
    started = time.monotonic()
    assert execute(http).json()["exit_code"] == 0
    assert time.monotonic() - started > 0.1


def test_a_status_is_answered_in_the_daemons_stead(daemon: FakeDaemon, http: httpx.Client) -> None:
    daemon.fail_next(faults.status(503), times=2, where="create_session")
    assert [http.post("/v1/sessions").status_code for _ in range(3)] == [503, 503, 201]
    assert len(daemon.sessions) == 1
    daemon.fail_next(faults.status(429, retry_after=2, error_code="CAPACITY_EXCEEDED"))
    full = http.post("/v1/sessions")
    assert (full.headers["retry-after"], full.json()["error_code"]) == ("2", "CAPACITY_EXCEEDED")
    daemon.fail_next(faults.bad_gateway())
    page = http.get("/v1/sessions")
    assert (page.status_code, page.headers["content-type"], page.text[:6]) == (502, "text/html", "<html>")


def test_an_answer_makes_no_sense(daemon: FakeDaemon, http: httpx.Client) -> None:
    daemon.fail_next(faults.garbage_json(), where="exec")
    with pytest.raises(json.JSONDecodeError):
        execute(http).json()
    daemon.fail_next(faults.missing_fields("cwd"), where="exec")
    assert execute(http).json().keys() == {"exit_code", "output", "duration_ms", "truncated"}
    daemon.fail_next(faults.missing_fields(), where="exec_stream")
    assert execute(http, "exec/stream").text == "event: done\ndata: {}\n\n"
    daemon.fail_next(faults.wrong_content_type("text/html"), where="exec")
    assert execute(http).headers["content-type"] == "text/html"


def test_connections_are_refused_for_a_while(daemon: FakeDaemon, http: httpx.Client) -> None:
    session_id = http.post("/v1/sessions").json()["id"]
    url = daemon.url
    with daemon.refusing(), pytest.raises(httpx.ConnectError):
        http.get("/v1/sessions")
    assert daemon.url == url
    assert http.get(f"/v1/sessions/{session_id}").status_code == 200


def test_faults_are_for_the_requests_that_were_meant(daemon: FakeDaemon, http: httpx.Client) -> None:
    daemon.fail_next(faults.status(500), where=lambda request: request.path.endswith("/stats"))
    daemon.fail_next(faults.status(503))
    assert http.get("/healthz").status_code == 200
    assert http.post("/v1/sessions").status_code == 503
    session_id = execute(http).url.path.split("/")[3]
    assert http.get(f"/v1/sessions/{session_id}/stats").status_code == 500
    with pytest.raises(ValueError, match="There is no call 'exce'"):
        daemon.fail_next(faults.reset(), where="exce")


def test_faults_for_the_same_requests_come_one_after_another(daemon: FakeDaemon, http: httpx.Client) -> None:
    daemon.fail_next(faults.status(503), times=2)
    daemon.fail_next(faults.status(500))
    assert [http.get("/v1/sessions").status_code for _ in range(4)] == [503, 503, 500, 200]


def test_stopping_ends_answers_that_never_come(daemon: FakeDaemon, http: httpx.Client) -> None:
    daemon.fail_next(faults.silence())

    def stop() -> None:
        while not daemon.requests:  # else it would not be an answer that never comes
            time.sleep(0.01)
        daemon.stop()

    threading.Thread(target=stop).start()
    with soon(), pytest.raises(httpx.RemoteProtocolError):
        http.get("/v1/sessions", timeout=30)


# --- extensions


@pytest.fixture
def able() -> Iterator[FakeDaemon]:
    with FakeDaemon(extensions=["idempotency", "resume"], replay_bytes=5) as daemon:
        yield daemon


def test_extensions_are_listed(able: FakeDaemon, daemon: FakeDaemon) -> None:
    assert httpx.get(f"{able.url}/healthz").json()["extensions"] == ["idempotency", "resume"]
    assert httpx.get(f"{daemon.url}/healthz").json()["extensions"] == ["files"]


def test_directories_go_in_and_out_and_are_listed(
    daemon: FakeDaemon, session: Session, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("text")
    assert session.upload(tmp_path / "d") == ["/workspace/d"]
    assert session.read("d/a.txt").text == "text"
    (entry,) = session.list("d")
    assert (entry.name, entry.kind, entry.size_bytes) == ("a.txt", "file", 4)
    assert (session.download("d", tmp_path / "copy") / "a.txt").read_text() == "text"
    assert daemon.commands == []


def test_a_fault_is_for_a_verb_whichever_way_it_travels(daemon: FakeDaemon, session: Session) -> None:
    session.write("a", "text")
    for call in (lambda: session.read("a"), lambda: session.read("a", max_bytes=2)):
        daemon.fail_next(faults.status(400), where="read")
        with pytest.raises(SandkastenAPIError):
            call()
        assert call().content
    with pytest.raises(TypeError, match="no fault"):
        daemon.fail_next("reset")  # type: ignore[arg-type]


@pytest.mark.parametrize("is_able", [True, False])
def test_with_a_key_nothing_is_done_twice(able: FakeDaemon, daemon: FakeDaemon, is_able: bool) -> None:
    chosen, key = able if is_able else daemon, {"Idempotency-Key": "k"}
    with httpx.Client(base_url=chosen.url, headers=key) as http:
        ids = {http.post("/v1/sessions").json()["id"] for _ in range(2)}
        path = f"/v1/sessions/{ids.pop()}/exec"
        chosen.on_exec("count", output=lambda _cmd: f"{len(chosen.commands)}")
        outputs = [http.post(path, json={"cmd": "count"}).json()["output"] for _ in range(2)]
    assert (len(chosen.sessions), outputs) == ((1, ["0", "0"]) if is_able else (2, ["0", "1"]))


def stream(daemon: FakeDaemon, last_event_id: str | None = None, key: str = "k") -> list[str]:
    """The event blocks of a stream of the first session, without times."""
    with httpx.Client(base_url=daemon.url) as http:
        session_id = next(iter(daemon.sessions), None) or http.post("/v1/sessions").json()["id"]
        headers = {"Idempotency-Key": key} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        path = f"/v1/sessions/{session_id}/exec/stream"
        text = http.post(path, json={"cmd": "make"}, headers=headers).text
    return [re.sub(r',"timestamp":\d+|"cwd".*', "", block) for block in text.strip().split("\n\n")]


def test_a_stream_has_ids_and_goes_on_after_the_last_that_was_seen(able: FakeDaemon) -> None:
    able.on_exec("make", output="ä\nbc\n")
    first, second, end = stream(able)
    assert (first[:5], second[:5], end[:5]) == ("id: 3", "id: 6", "id: 6")
    assert stream(able, "3") == [second, end]
    assert stream(able, "6") == [end]
    assert able.commands == ["make"]


def test_a_stream_that_is_not_known_cannot_go_on(able: FakeDaemon) -> None:
    (answer,) = stream(able, "3", key="another")
    assert json.loads(answer)["error_code"] == "INVALID_REQUEST"


def test_what_fell_out_of_the_buffer_is_a_gap(able: FakeDaemon) -> None:
    able.on_exec("make", output="aa\nbb\ncc\n")
    stream(able)
    gap, rest, *_ = stream(able, "3")
    assert gap == 'id: 4\nevent: gap\ndata: {"missed_bytes":1}'
    assert rest == 'id: 6\nevent: chunk\ndata: {"chunk":"b\\n"}'


def test_without_the_extension_a_stream_has_no_ids(daemon: FakeDaemon) -> None:
    daemon.on_exec("make", output="a\n")
    assert [block[:6] for block in stream(daemon, "1")] == ["event:", "event:"]


@pytest.mark.parametrize("fault", [faults.cut(), faults.cut_mid_event(), faults.cut_before_done()])
def test_a_test_can_see_what_becomes_of_a_cut_stream(fault: Fault) -> None:
    """Both halves: with the extensions the client goes on, without them it says what it had."""
    for extensions in (["idempotency", "resume"], []):
        with FakeDaemon(extensions=extensions) as daemon, SandboxClient(base_url=daemon.url) as client:
            daemon.on_exec("make", output="a\nb\nc\n")
            session = client.create_session()
            daemon.fail_next(fault, where="exec_stream")
            if extensions:
                assert "".join(chunk.output for chunk in session.exec_stream("make")) == "a\nb\nc\n"
            else:
                with pytest.raises(SandkastenStreamError) as caught:
                    list(session.exec_stream("make"))
                assert caught.value.output.startswith("a\n")
            assert daemon.commands == ["make"]


def test_a_command_that_is_left_is_told_off(able: FakeDaemon) -> None:
    able.on_exec("long", output="a\nb\n", pause_seconds=0.1)
    with SandboxClient(base_url=able.url) as client:
        session = client.create_session()
        with session.exec_stream("long") as chunks:
            next(iter(chunks))
        assert able.cancelled == ["long"]


def test_files_travel_as_they_are_where_they_can(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a.bin").write_bytes(bytes(range(256)) * 5000)
    (tree / "sub/run.sh").write_text("#!/bin/sh\n")
    (tree / "sub/run.sh").chmod(0o755)
    with FakeDaemon(extensions=["files"]) as able, SandboxClient(base_url=able.url) as client:
        session = client.create_session()
        session.upload(tree)
        assert able.sessions[session.id].files.keys() == {"tree/a.bin", "tree/sub/run.sh"}
        session.download("tree", tmp_path / "copy")
        assert (tmp_path / "copy/sub/run.sh").read_text() == "#!/bin/sh\n"
        able.fail_next(faults.cut(after_bytes=1_000_000), where="get_raw")
        assert session.read("tree/a.bin").content == bytes(range(256)) * 5000
        session.write("large", b"x" * 5_000_000)
        assert session.read("large", max_bytes=3_000_000).truncated
        assert able.commands == []
    # That "tree" is a directory, both halves of a.bin, and large.
    assert [request.call for request in able.requests].count("get_raw") == 4


def test_an_interrupt_needs_its_extension(daemon: FakeDaemon) -> None:
    with FakeDaemon(extensions=["interrupt"]) as able:
        for chosen, status in ((able, 200), (daemon, 404)):
            session_id = httpx.post(f"{chosen.url}/v1/sessions").json()["id"]
            assert httpx.post(f"{chosen.url}/v1/sessions/{session_id}/interrupt").status_code == status


# --- errors of the client's that a user will want to test for


def test_the_clients_errors_can_be_provoked(daemon: FakeDaemon, session: Session) -> None:
    daemon.fail_next(faults.status(429, retry_after=7, error_code="CAPACITY_EXCEEDED"), where="exec")
    with pytest.raises(CapacityExceededError) as caught:
        session.exec("make")
    assert caught.value.retry_after_seconds == 7
    daemon.fail_next(faults.reset(), where="exec")
    with pytest.raises(SandkastenConnectionError):
        session.exec("make")


# --- the plugin

PLUGIN_TEST = """
import os
from sandkasten_sync import SandboxClient

def test_fake(fake_sandkasten):
    fake_sandkasten.on_exec("make", exit_code=2)
    with SandboxClient() as client, client.create_session() as session:
        assert session.exec("make").exit_code == 2

def test_local(sandkasten_local):
    with SandboxClient() as client:
        assert client.create_session(image="base").exec("echo $((6 * 7))").output == "42\\n"

def test_local_again(sandkasten_local):
    with SandboxClient() as client:
        assert client.list_sessions() == []

def test_nothing_is_left():
    assert "SANDKASTEN_BASE_URL" not in os.environ
"""


def pytest_run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(code)
    # No plugins but this one: others have warnings of their own, and load what they like.
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugin = ("-p", "sandkasten.pytest_plugin")
    argv = [sys.executable, "-m", "pytest", "-q", *plugin, "-W", "error", "test_it.py"]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_pytest_finds_the_plugin_by_itself() -> None:
    (plugin,) = entry_points(group="pytest11", name="sandkasten")
    assert plugin.value == "sandkasten.pytest_plugin"


def test_the_plugins_fixtures_work(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, PLUGIN_TEST)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_loads_nothing_before_it_is_used(tmp_path: Path) -> None:
    code = """
        import sys

        def test_what_is_loaded(pytestconfig):
            assert "sandkasten.pytest_plugin" in sys.modules
            assert not {"sandkasten.client", "sandkasten_sync", "httpx"} & sys.modules.keys()
    """
    done = pytest_run(tmp_path, textwrap.dedent(code))
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_daemon_that_cannot_run_fails_the_test_in_its_own_words(tmp_path: Path) -> None:
    code = """
        import sandkasten.local.launch as launch
        launch._NEEDED = ("a_module_that_is_not_there",)

        def test_local(sandkasten_local):
            pass
    """
    done = pytest_run(tmp_path, textwrap.dedent(code))
    assert "The embedded daemon is not installed (a_module_that_is_not_there missing)" in done.stdout
    assert "Traceback" not in done.stdout
    assert "1 error" in done.stdout


# --- the page

EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_of_the_page_pass(number: int, tmp_path: Path) -> None:
    done = pytest_run(tmp_path, EXAMPLES[number])
    assert re.search(r"\d passed", done.stdout), done.stdout + done.stderr
    assert done.returncode == 0


def test_the_page_names_every_fault() -> None:
    assert all(f"`{name}" in PAGE for name in faults.__all__ if name != "Fault")
