"""The test server with the Go daemon's limits and habits has them, one by one."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandkasten.local.launch import LocalDaemon
from tests.go_daemon import GoDaemon, capped, translated_error

MIB = 1024 * 1024


@pytest.fixture
def http(go_daemon: GoDaemon) -> Iterator[httpx.Client]:
    """Raw access: what the daemon says, not what the client makes of it."""
    headers = {"Authorization": f"Bearer {go_daemon.api_key}"}
    with httpx.Client(base_url=go_daemon.url, headers=headers, timeout=30) as http:
        yield http


@pytest.fixture
def session(http: httpx.Client) -> Iterator[str]:
    """The path of a session of its own."""
    info = http.post("/v1/sessions", json={"image": "base"}).json()
    yield f"/v1/sessions/{info['id']}"
    http.delete(f"/v1/sessions/{info['id']}")


def run(http: httpx.Client, session: str, cmd: str, timeout_ms: int = 10_000) -> httpx.Response:
    return http.post(f"{session}/exec", json={"cmd": cmd, "timeout_ms": timeout_ms})


def output_of(http: httpx.Client, session: str, cmd: str) -> str:
    return str(run(http, session, cmd).json()["output"])


def write(http: httpx.Client, session: str, path: str, content: bytes) -> httpx.Response:
    body = {"path": path, "content_base64": base64.b64encode(content).decode()}
    return http.post(f"{session}/fs/write", json=body)


def upload(http: httpx.Client, session: str, *contents: bytes) -> httpx.Response:
    files = [("files", (f"file{number}", content)) for number, content in enumerate(contents)]
    return http.post(f"{session}/fs/upload", files=files, data={"path": "/workspace"})


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    assert body.keys() == {"error_code", "message"}
    return response.status_code, body["error_code"], body["message"]


# --- limits


def test_a_write_of_a_megabyte_passes_and_one_of_two_is_refused(http: httpx.Client, session: str) -> None:
    assert write(http, session, "file", b"x" * MIB).json() == {"ok": True}
    refused = write(http, session, "file", b"x" * 2 * MIB)
    assert error_of(refused) == (400, "INVALID_REQUEST", "http: request body too large")
    assert output_of(http, session, "wc -c <file") == f"{MIB}\n"


def test_the_limit_of_json_bodies_is_exact(http: httpx.Client, session: str) -> None:
    empty = len(json.dumps({"path": "file", "text": ""}))
    for size, status in ((2 * MIB, 200), (2 * MIB + 1, 400)):
        body = json.dumps({"path": "file", "text": "x" * (size - empty)})
        assert http.post(f"{session}/fs/write", content=body).status_code == status


def test_an_upload_of_nine_megabytes_passes_and_one_of_ten_and_more_is_refused(
    http: httpx.Client, session: str
) -> None:
    assert upload(http, session, b"x" * 9 * MIB).json()["paths"] == ["/workspace/file0"]
    assert upload(http, session, b"x" * 10 * MIB).status_code == 400


def test_a_much_too_large_body_is_refused_before_it_is_sent(http: httpx.Client, session: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * MIB

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    refused = http.post(f"{session}/fs/upload", content=endless(), headers=kind)
    assert error_of(refused)[0] == 400


def test_an_upload_has_a_hundred_files_at_most(http: httpx.Client, session: str) -> None:
    assert len(upload(http, session, *[b"x"] * 100).json()["paths"]) == 100
    assert error_of(upload(http, session, *[b"x"] * 101))[:2] == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("body", [{"text": ""}, {"content_base64": ""}, {}])
def test_an_empty_write_is_refused_with_its_sentence(
    http: httpx.Client, session: str, body: dict[str, str]
) -> None:
    refused = http.post(f"{session}/fs/write", json={"path": "empty", **body})
    sentence = "either text or content_base64 must be provided"
    assert error_of(refused) == (400, "INVALID_REQUEST", sentence)


def test_an_empty_part_of_an_upload_is_accepted(http: httpx.Client, session: str) -> None:
    assert upload(http, session, b"").json() == {"ok": True, "paths": ["/workspace/file0"]}
    assert output_of(http, session, "stat -c %s file0") == "0\n"


def test_a_read_of_more_than_its_line_holds_fails(http: httpx.Client, session: str) -> None:
    output_of(http, session, "head -c 3700000 /dev/zero >fits; head -c 4000000 /dev/zero >larger")
    fits = http.get(f"{session}/fs/read", params={"path": "fits"}).json()
    assert (len(base64.b64decode(fits["content_base64"])), fits["truncated"]) == (3_700_000, False)
    failed = http.get(f"{session}/fs/read", params={"path": "larger"})
    assert error_of(failed) == (500, "INTERNAL_ERROR", "runner error: bufio.Scanner: token too long")


def test_a_slice_of_a_large_file_can_be_read(http: httpx.Client, session: str) -> None:
    output_of(http, session, "head -c 4000000 /dev/zero >larger")
    part = http.get(f"{session}/fs/read", params={"path": "larger", "max_bytes": 3_000_000}).json()
    assert (len(base64.b64decode(part["content_base64"])), part["truncated"]) == (3_000_000, True)


@pytest.mark.parametrize(("max_bytes", "status"), [("104857600", 200), ("104857601", 400), ("x", 400)])
def test_a_read_may_ask_for_a_hundred_megabytes(
    http: httpx.Client, session: str, max_bytes: str, status: int
) -> None:
    write(http, session, "file", b"content")
    answer = http.get(f"{session}/fs/read", params={"path": "file", "max_bytes": max_bytes})
    assert answer.status_code == status


def test_output_is_cut_at_a_megabyte(http: httpx.Client, session: str) -> None:
    result = run(http, session, "head -c 2000000 /dev/zero | tr '\\0' x").json()
    assert (len(result["output"]), result["truncated"]) == (MIB, True)
    assert capped("é" * MIB) == ("é" * (MIB // 2), True)


# --- errors


def test_a_missing_file_is_an_internal_error_with_the_runners_sentence(
    http: httpx.Client, session: str
) -> None:
    sentence = "runner error: open: open /workspace/x: no such file or directory"
    for path in ("x", "/workspace/x"):
        missing = http.get(f"{session}/fs/read", params={"path": path})
        assert error_of(missing) == (500, "INTERNAL_ERROR", sentence)


def test_reading_a_directory_is_an_internal_error(http: httpx.Client, session: str) -> None:
    output_of(http, session, "mkdir d")
    answer = http.get(f"{session}/fs/read", params={"path": "d"})
    assert error_of(answer) == (
        500,
        "INTERNAL_ERROR",
        "runner error: read: read /workspace/d: is a directory",
    )


def test_destroying_an_unknown_session_is_an_internal_error(http: httpx.Client, session: str) -> None:
    assert http.delete(session).json() == {"ok": True}
    session_id = session.rpartition("/")[2]
    sentence = f"session not found: {session_id}"
    assert error_of(http.delete(session)) == (500, "INTERNAL_ERROR", sentence)
    assert error_of(run(http, session, "true"))[:2] == (404, "SESSION_NOT_FOUND")


def test_codes_of_the_embedded_daemon_and_its_retry_after_are_not_passed_on() -> None:
    answer = translated_error(429, {"error_code": "CAPACITY_EXCEEDED", "message": "full"}, "")
    assert answer.status == 500
    assert json.loads(answer.body) == {"error_code": "INTERNAL_ERROR", "message": "runner error: full"}
    assert answer.headers.keys() == {"Content-Type"}


def test_a_key_is_needed_but_for_its_health(go_daemon: GoDaemon) -> None:
    assert httpx.get(f"{go_daemon.url}/healthz").json() == {"status": "ok"}
    assert error_of(httpx.get(f"{go_daemon.url}/v1/sessions"))[:2] == (401, "UNAUTHORIZED")


def test_what_is_an_extension_is_not_there(http: httpx.Client, session: str) -> None:
    assert http.post(f"{session}/interrupt").text == "404 page not found\n"
    assert "shell_restarted" not in run(http, session, "true").json()


# --- commands


def test_directory_and_variables_are_not_seen_by_the_next_command(http: httpx.Client, session: str) -> None:
    moved = run(http, session, "cd /tmp; export NAME=World; echo $NAME $PWD").json()
    assert (moved["output"], moved["cwd"]) == ("World /tmp\n", "/workspace")
    assert output_of(http, session, 'echo "[$NAME] $PWD"') == "[] /workspace\n"


def test_a_command_is_the_standard_input_of_its_shell(http: httpx.Client, session: str) -> None:
    assert output_of(http, session, "cat\nthis is not run") == "this is not run\n"
    result = run(http, session, "echo 'a  \"b\"' $((1 + 1)); exit 3").json()
    assert (result["output"], result["exit_code"]) == ('a  "b" 2\n', 3)


def test_a_commands_end_is_noticed_at_the_next_look(http: httpx.Client, session: str) -> None:
    started = time.monotonic()
    run(http, session, "true")
    assert time.monotonic() - started >= 0.05


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in response.text.strip().split("\n\n")]
    assert all(len(lines) == 2 for lines in blocks), "an id, or a keep-alive"
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_a_stream_holds_everything_back_and_sends_it_as_one_chunk(http: httpx.Client, session: str) -> None:
    body = {"cmd": "echo a; sleep 0.4; echo b; exit 2"}
    started = time.monotonic()
    with http.stream("POST", f"{session}/exec/stream", json=body) as response:
        assert time.monotonic() - started > 0.4
        response.read()
    assert response.headers["content-type"] == "text/event-stream"
    (chunk, output), (done, end) = events(response)
    assert (chunk, output["chunk"]) == ("chunk", "a\nb\n")
    assert (done, end["exit_code"], end["cwd"]) == ("done", 2, "/workspace")


def test_a_stream_that_outruns_its_time_ends_with_a_plain_error(http: httpx.Client, session: str) -> None:
    body = {"cmd": "sleep 0.5", "timeout_ms": 100}
    response = http.post(f"{session}/exec/stream", json=body)
    assert events(response) == [("error", {"error": "command timed out after 100ms"})]


def test_a_command_that_outruns_its_time_goes_on_and_speaks_up_later(
    http: httpx.Client, session: str
) -> None:
    late = run(http, session, "echo before; sleep 0.6; echo after; touch ran", timeout_ms=100)
    assert error_of(late)[:2] == (504, "COMMAND_TIMEOUT")
    result = run(http, session, "ls").json()
    assert result["output"] == "before\nafter\nran\n"


def test_a_command_behind_a_late_one_waits_in_its_own_time(http: httpx.Client, session: str) -> None:
    assert run(http, session, "sleep 1", timeout_ms=100).status_code == 504
    assert run(http, session, "echo hi", timeout_ms=100).status_code == 504


def test_a_command_waits_in_line_while_its_clients_time_runs(http: httpx.Client, session: str) -> None:
    first = threading.Thread(target=run, args=(http, session, "sleep 0.8"))
    first.start()
    time.sleep(0.2)
    with pytest.raises(httpx.ReadTimeout):
        http.post(f"{session}/exec", json={"cmd": "touch waited", "timeout_ms": 10_000}, timeout=0.2)
    first.join()
    assert output_of(http, session, "ls") == "waited\n"


def test_a_key_for_repetition_is_not_known(http: httpx.Client, session: str) -> None:
    for count in (1, 2):
        key = {"Idempotency-Key": "k"}
        result = http.post(f"{session}/exec", json={"cmd": "echo x >>f; wc -l <f"}, headers=key).json()
        assert result["output"] == f"{count}\n"


# --- as a whole


def test_after_a_restart_sessions_are_there_and_late_output_is_forgotten(daemon: LocalDaemon) -> None:
    with GoDaemon(daemon) as go_daemon:
        headers = {"Authorization": f"Bearer {go_daemon.api_key}"}
        with httpx.Client(base_url=go_daemon.url, headers=headers) as http:
            session = f"/v1/sessions/{http.post('/v1/sessions', json={'image': 'base'}).json()['id']}"
            write(http, session, "file", b"kept")
            run(http, session, "sleep 0.3; echo late", timeout_ms=50)
            go_daemon.restart()
            assert output_of(http, session, "cat file") == "kept"
            http.delete(session)


def test_large_files_pass_in_pieces_at_a_good_pace(http: httpx.Client, session: str) -> None:
    piece = bytes(range(256)) * (9 * 4096)
    started = time.monotonic()
    for number in range(20):
        files = {"file": (f"part{number:02}", piece)}
        assert http.post(f"{session}/fs/upload", files=files).status_code == 200
    seconds = time.monotonic() - started
    assert output_of(http, session, "cat part* | wc -c") == f"{20 * len(piece)}\n"
    assert 20 * len(piece) / seconds > 10 * MIB  # a GiB in less than two minutes
