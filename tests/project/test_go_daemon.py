"""The limits and habits of the Go daemon, one by one: those of the stand-in, and of a real one.

`tests/go_peer.py` says how a real one is named; then every test with `http` runs against that as well.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandkasten._prompts import without_prompts
from sandkasten.local.launch import LocalDaemon
from tests.go_daemon import GoDaemon
from tests.go_peer import KEY, NAMED, URL, GoPeer, new_workspace_id
from tests.go_rules import Config, go_duration, with_prompts

MIB = 1024 * 1024
EVERY_BYTE = bytes(range(256))
UNKNOWN = "/v1/sessions/12345678-abc"


def client_of(url: str, api_key: str) -> httpx.Client:
    """Raw access: what the daemon says, not what the client makes of it."""
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=60)


@pytest.fixture
def http(go_peer: GoPeer) -> Iterator[httpx.Client]:
    with client_of(go_peer.url, go_peer.api_key) as http:
        yield http


@pytest.fixture
def workspace(http: httpx.Client) -> Iterator[str]:
    """The path of a workspace of its own."""
    workspace = f"/v1/workspaces/{new_workspace_id()}"
    yield workspace
    http.delete(workspace)


@pytest.fixture
def session(http: httpx.Client, workspace: str) -> Iterator[str]:
    """The path of a session that may write to its workspace."""
    yield (session := made_session(http, workspace_id=workspace.rpartition("/")[2]))
    http.delete(session)


def made_session(http: httpx.Client, **fields: str | int) -> str:
    info = http.post("/v1/sessions", json={"image": "base", **fields}).json()
    return f"/v1/sessions/{info['id']}"


def run(http: httpx.Client, session: str, cmd: str, timeout_ms: int = 10_000) -> httpx.Response:
    return http.post(f"{session}/exec", json={"cmd": cmd, "timeout_ms": timeout_ms})


def output_of(http: httpx.Client, session: str, cmd: str) -> str:
    return without_prompts(run(http, session, cmd).json()["output"])


def write(http: httpx.Client, owner: str, path: str, content: bytes) -> httpx.Response:
    body = {"path": path, "content_base64": base64.b64encode(content).decode()}
    return http.post(f"{owner}/fs/write", json=body)


def upload(http: httpx.Client, owner: str, *contents: bytes, path: str = "") -> httpx.Response:
    files = [("files", (f"file{number}", content)) for number, content in enumerate(contents)]
    return http.post(f"{owner}/fs/upload", files=files, data={"path": path} if path else None)


def read(http: httpx.Client, owner: str, path: str, **query: int | str) -> httpx.Response:
    return http.get(f"{owner}/fs/read", params={"path": path, **query})


def content_of(response: httpx.Response) -> bytes:
    return base64.b64decode(response.raise_for_status().json()["content_base64"])


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    assert body.keys() - {"details"} == {"error_code", "message"}
    return response.status_code, body["error_code"], body["message"]


def internal_of(response: httpx.Response) -> str:
    status, code, message = error_of(response)
    assert (status, code) == (500, "INTERNAL_ERROR")
    return message


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in response.text.strip().split("\n\n")]
    assert all(len(lines) == 2 for lines in blocks), "an id, or a keep-alive"
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_the_same_rows_hold_on_a_real_one() -> None:
    if not NAMED:
        pytest.skip(f"{URL} and {KEY} name no real Go daemon, so only the stand-in was looked at.")
    assert httpx.get(f"{NAMED}/healthz").json() == {"status": "ok"}


# --- files of sessions


def test_base64_is_exact_and_a_form_destroys_what_is_not_utf8(http: httpx.Client, session: str) -> None:
    write(http, session, "exact", EVERY_BYTE)
    assert content_of(read(http, session, "exact")) == EVERY_BYTE
    assert upload(http, session, EVERY_BYTE, b"", "ünï😀".encode()).json()["paths"] == [
        "/workspace/file0",
        "/workspace/file1",
        "/workspace/file2",
    ]
    assert content_of(read(http, session, "file0")) == EVERY_BYTE[:128] + "\ufffd".encode() * 128
    assert content_of(read(http, session, "file1")) == b""
    assert content_of(read(http, session, "file2")) == "ünï😀".encode()


def test_a_write_of_1_57_megabytes_passes_and_one_of_1_58_is_refused(
    http: httpx.Client, session: str
) -> None:
    content = os.urandom(1_570_000)
    assert write(http, session, "file", content).json() == {"ok": True}
    refused = error_of(write(http, session, "file", os.urandom(1_580_000)))
    assert refused == (400, "INVALID_REQUEST", "invalid json: http: request body too large")
    assert content_of(read(http, session, "file")) == content


def test_the_limit_of_json_bodies_is_exact(http: httpx.Client, session: str) -> None:
    empty = len(json.dumps({"path": "file", "text": ""}))
    for size, status in ((2 * MIB, 200), (2 * MIB + 1, 400)):
        body = json.dumps({"path": "file", "text": "x" * (size - empty)})
        assert http.post(f"{session}/fs/write", content=body).status_code == status


def test_an_upload_of_text_is_limited_by_a_line_and_by_its_form(http: httpx.Client, session: str) -> None:
    assert upload(http, session, b"x" * 5_000_000).status_code == 200
    assert internal_of(upload(http, session, b"x" * 6_000_000)).endswith("broken pipe")
    too_large = error_of(upload(http, session, b"x" * 10 * MIB))
    assert too_large == (400, "INVALID_REQUEST", "request body too large")
    assert len(upload(http, session, *[b"x"] * 100).json()["paths"]) == 100
    assert error_of(upload(http, session, *[b"x"] * 101))[:2] == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("body", [{"text": ""}, {"content_base64": ""}, {}])
def test_an_empty_write_is_refused(
    http: httpx.Client, session: str, workspace: str, body: dict[str, str]
) -> None:
    sentence = "either 'text' or 'content_base64' must be provided"
    for owner in (session, workspace):
        refused = http.post(f"{owner}/fs/write", json={"path": "empty", **body})
        assert error_of(refused) == (400, "INVALID_REQUEST", sentence)


def test_base64_may_have_line_ends(http: httpx.Client, session: str) -> None:
    body = {"path": "f", "content_base64": "YWJj\nYWJj\r\n"}
    assert http.post(f"{session}/fs/write", json=body).json() == {"ok": True}
    assert content_of(read(http, session, "f", max_bytes=0)) == b"abcabc"


def test_of_a_files_name_the_last_part_counts(http: httpx.Client, session: str, workspace: str) -> None:
    files = [("file", ("a/b/name", b"content"))]
    assert http.post(f"{session}/fs/upload", files=files).json()["paths"] == ["/workspace/name"]
    assert http.post(f"{workspace}/fs/upload", files=files).json()["paths"] == ["name"]
    two_dots = http.post(f"{session}/fs/upload", files=[("file", ("a..b", b"x"))])
    assert error_of(two_dots) == (400, "INVALID_REQUEST", "invalid filename: a..b")


def test_a_read_of_more_than_its_line_holds_fails_and_a_part_of_it_does_not(
    http: httpx.Client, session: str
) -> None:
    output_of(http, session, "head -c 3930000 /dev/zero >fits; head -c 5000000 /dev/zero >larger")
    assert content_of(read(http, session, "fits")) == bytes(3_930_000)
    assert internal_of(read(http, session, "larger")) == "read: read response: bufio.Scanner: token too long"
    part = read(http, session, "larger", max_bytes=3_500_000)
    assert (content_of(part), part.json()["truncated"]) == (bytes(3_500_000), True)


@pytest.mark.parametrize(
    ("max_bytes", "status"), [("104857600", 200), ("104857601", 400), ("0", 200), ("-1", 400), ("x", 400)]
)
def test_a_read_may_ask_for_a_hundred_megabytes(
    http: httpx.Client, session: str, max_bytes: str, status: int
) -> None:
    write(http, session, "file", b"content")
    assert read(http, session, "file", max_bytes=max_bytes).status_code == status


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("x", "runner error: open: open /workspace/x: no such file or directory"),
        ("/workspace/x", "runner error: open: open /workspace/x: no such file or directory"),
        ("d", "runner error: read: read /workspace/d: is a directory"),
        (".", "runner error: invalid path: must be a file under /workspace"),
        ("/workspace", "path must point to a file under /workspace"),
        ("../etc/passwd", "path must be under /workspace"),
    ],
)
def test_what_is_wrong_with_a_file_is_in_the_sentence_only(
    http: httpx.Client, session: str, path: str, answer: str
) -> None:
    output_of(http, session, "mkdir d")
    status, code, message = error_of(read(http, session, path))
    assert message == answer
    assert (status, code) == (
        (400, "INVALID_REQUEST") if message.startswith("path ") else (500, "INTERNAL_ERROR")
    )


def test_without_a_workspace_nothing_can_be_written(http: httpx.Client) -> None:
    session = made_session(http)
    read_only = "runner error: write: open /workspace/x: read-only file system"
    assert internal_of(write(http, session, "x", b"content")) == read_only
    files = [("file", ("x", b""))]
    assert internal_of(http.post(f"{session}/fs/upload", files=files)) == read_only
    staged = "stage exec script: runner error: mkdir: mkdir /workspace/.sandkasten: read-only file system"
    assert internal_of(run(http, session, f"# {'x' * 17_000}")) == staged
    assert output_of(http, session, "echo fine") == "fine\n"
    http.delete(session)


# --- workspaces


def test_paths_in_a_workspace_are_seen_from_its_root(
    http: httpx.Client, session: str, workspace: str
) -> None:
    for path in ("x", "/c", "sub/y", "/workspace/z"):
        assert write(http, workspace, path, path.encode()).json() == {"ok": True}
    found = output_of(http, session, "find . -type f | sort")
    assert found == "./c\n./sub/y\n./workspace/z\n./x\n"
    names = [("c", False), ("sub", True), ("workspace", True), ("x", False)]
    for path in (".", "/", "", "..", "a..b"):  # two dots stand for the root
        entries = http.get(f"{workspace}/fs", params={"path": path}).json()["entries"]
        assert [(entry["name"], entry["is_dir"]) for entry in entries] == names
        assert all(entry.keys() == {"name", "is_dir"} for entry in entries)
    assert content_of(read(http, workspace, "/c")) == b"/c"
    for path in (".", "a..b"):
        assert internal_of(read(http, workspace, path)) == "invalid file path"
        assert internal_of(write(http, workspace, path, b"x")) == "invalid file path"


def test_a_workspace_takes_and_gives_bytes_as_they_are(http: httpx.Client, workspace: str) -> None:
    large = os.urandom(10 * MIB - 64 * 1024)
    assert upload(http, workspace, EVERY_BYTE, b"", path="sub").json()["paths"] == ["sub/file0", "sub/file1"]
    assert upload(http, workspace, large, path=".").json()["paths"] == ["file0"]
    assert upload(http, workspace, b"text", path="/workspace").json()["paths"] == ["workspace/file0"]
    assert content_of(read(http, workspace, "sub/file0")) == EVERY_BYTE
    assert content_of(read(http, workspace, "sub/file1")) == b""
    assert content_of(read(http, workspace, "file0")) == large
    assert error_of(upload(http, workspace, large, large))[:2] == (400, "INVALID_REQUEST")
    assert write(http, workspace, "json", large[:1_570_000]).status_code == 200
    assert write(http, workspace, "json", large[:1_580_000]).status_code == 400


def test_what_is_wrong_in_a_workspace_is_in_the_sentence_only(http: httpx.Client, workspace: str) -> None:
    name = workspace.rpartition("/")[2]
    assert internal_of(http.get(f"{workspace}/fs")) == f"workspace not found: {name}"
    missing = internal_of(read(http, workspace, "x"))
    assert missing.endswith(f"/workspaces/{name}: no such file or directory")
    assert http.delete(workspace).json() == {"ok": True}
    write(http, workspace, "d/f", b"content")
    assert internal_of(read(http, workspace, "d")) == "path is a directory"
    assert internal_of(read(http, workspace, "x")).endswith(f"/{name}/x: no such file or directory")
    assert internal_of(write(http, workspace, "d", b"x")) == "write file: is a directory"


def test_files_of_workspace_calls_belong_to_root(http: httpx.Client, session: str, workspace: str) -> None:
    write(http, workspace, "f", b"root's")
    denied = "runner error: write: open /workspace/f: permission denied"
    assert internal_of(write(http, session, "f", b"mine")) == denied
    assert content_of(read(http, session, "f")) == b"root's"


# --- sessions


def test_a_destroyed_session_is_still_listed_and_can_be_destroyed_again(
    http: httpx.Client, session: str
) -> None:
    session_id = session.rpartition("/")[2]
    assert [http.delete(session).json() for _ in range(2)] == [{"ok": True}] * 2
    assert http.get(session).json()["status"] == "destroyed"
    listed = {info["id"]: info["status"] for info in http.get("/v1/sessions").json()}
    assert listed[session_id] == "destroyed"
    ended = f"session not running: {session_id} (status=destroyed)"
    assert internal_of(run(http, session, "true")) == ended
    assert internal_of(read(http, session, "x")) == ended
    streamed = http.post(f"{session}/exec/stream", json={"cmd": "true"})
    assert (streamed.status_code, events(streamed)) == (200, [("error", {"error": ended})])
    stats = internal_of(http.get(f"{session}/stats"))
    assert stats.startswith("read state: open ")
    assert stats.endswith("/state.json: no such file or directory")


def test_an_unknown_session_is_not_found_except_where_it_is_destroyed(http: httpx.Client) -> None:
    sentence = "session not found: 12345678-abc"
    for answer in (http.get(UNKNOWN), run(http, UNKNOWN, "true"), http.get(f"{UNKNOWN}/stats")):
        assert error_of(answer) == (404, "SESSION_NOT_FOUND", sentence)
    assert internal_of(http.delete(UNKNOWN)) == sentence
    streamed = http.post(f"{UNKNOWN}/exec/stream", json={"cmd": "true"})
    assert events(streamed) == [("error", {"error": sentence})]


def test_an_unknown_image_is_an_internal_error(http: httpx.Client) -> None:
    refused = internal_of(http.post("/v1/sessions", json={"image": "no-such-image"}))
    assert refused.startswith("create sandbox: image no-such-image not found at /")
    unsafe = http.post("/v1/sessions", json={"image": "../x"})
    assert error_of(unsafe) == (400, "INVALID_IMAGE", "image not allowed: ../x")


def test_a_key_is_needed_except_for_its_health(go_peer: GoPeer) -> None:
    assert httpx.get(f"{go_peer.url}/healthz").json() == {"status": "ok"}
    assert error_of(httpx.get(f"{go_peer.url}/v1/sessions"))[:2] == (401, "UNAUTHORIZED")


def test_what_is_an_extension_is_not_there(http: httpx.Client, session: str) -> None:
    for call in ("interrupt", "fs/raw", "fs"):
        assert http.post(f"{session}/{call}").status_code in {404, 405}
    assert "shell_restarted" not in run(http, session, "true").json()


# --- commands


def test_directory_and_variables_are_not_seen_by_the_next_command(http: httpx.Client, session: str) -> None:
    moved = run(http, session, "cd /tmp; export NAME=World; echo $NAME $PWD").json()
    assert (without_prompts(moved["output"]), moved["cwd"]) == ("World /tmp\n", "/workspace")
    assert output_of(http, session, 'echo "[$NAME] $PWD"') == "[] /workspace\n"


def test_a_command_is_the_standard_input_of_its_shell(http: httpx.Client, session: str) -> None:
    assert output_of(http, session, "cat\nthis is not run") == "this is not run"
    result = run(http, session, "echo 'a  \"b\"' $((1 + 1)); exit 3").json()
    assert (without_prompts(result["output"]), result["exit_code"]) == ('a  "b" 2\n', 3)


@pytest.mark.parametrize(
    ("cmd", "printed"),
    [("true", ""), ("echo a; echo b", "a\nb\n"), ("printf x", "x"), ("echo; echo", "\n\n")],
)
def test_prompts_are_around_every_output(http: httpx.Client, session: str, cmd: str, printed: str) -> None:
    output = run(http, session, cmd).json()["output"]
    prompt = output.partition("\n")[0]
    assert prompt.endswith("$ ")
    assert output == f"{prompt}\n{printed}{prompt}\n"


def test_raw_output_has_the_terminals_own_sequences(http: httpx.Client, session: str) -> None:
    body = {"cmd": r"printf '\033[31mred\n'"}
    raw = http.post(f"{session}/exec", json={**body, "raw_output": True}).json()["output"]
    assert raw.startswith("\x1b[?2004h")
    assert "\x1b[31mred\r\n" in raw
    assert output_of(http, session, body["cmd"]) == "red\n"


def test_output_is_cut_at_five_mebibytes(http: httpx.Client, session: str) -> None:
    whole = run(http, session, "head -c 5000000 /dev/zero | tr '\\0' x").json()
    assert (without_prompts(whole["output"]), whole["truncated"]) == ("x" * 5_000_000, False)
    lines = run(http, session, "yes | head -c 4900000")
    assert internal_of(lines) == "exec: read response: bufio.Scanner: token too long"


def test_a_stream_holds_everything_back_and_sends_it_as_one_chunk(http: httpx.Client, session: str) -> None:
    body = {"cmd": "echo a; sleep 0.4; echo b; exit 2"}
    started = time.monotonic()
    with http.stream("POST", f"{session}/exec/stream", json=body) as response:
        lines = response.iter_lines()
        begun = [next(lines)]
        assert time.monotonic() - started > 0.4
        begun += lines
    assert response.headers["content-type"] == "text/event-stream"
    names, data = begun[0::3], [json.loads(line.removeprefix("data: ")) for line in begun[1::3]]
    assert names == ["event: chunk", "event: done"]
    assert without_prompts(data[0]["chunk"]) == "a\nb\n"
    assert (data[1]["exit_code"], data[1]["cwd"]) == (2, "/workspace")


def test_a_command_that_outruns_its_time_is_told_of_and_goes_on(http: httpx.Client, session: str) -> None:
    sentence = "command timeout: timeout: command exceeded 100ms"
    late = run(http, session, "sleep 0.4; touch ran", timeout_ms=100)
    assert error_of(late) == (504, "COMMAND_TIMEOUT", sentence)
    assert "ran\n" in output_of(http, session, "ls")
    streamed = http.post(f"{session}/exec/stream", json={"cmd": "sleep 0.5", "timeout_ms": 100})
    assert events(streamed) == [("error", {"error": sentence})]


def test_a_command_behind_a_late_one_waits_in_its_own_time(http: httpx.Client, session: str) -> None:
    assert run(http, session, "sleep 2", timeout_ms=100).status_code == 504
    assert run(http, session, "echo hi", timeout_ms=100).status_code == 504


def test_a_key_for_repetition_is_not_known(http: httpx.Client, session: str) -> None:
    for count in (1, 2):
        key = {"Idempotency-Key": "k"}
        body = {"cmd": "echo x >>f; wc -l <f"}
        result = http.post(f"{session}/exec", json=body, headers=key).json()
        assert without_prompts(result["output"]) == f"{count}\n"


# --- only of the stand-in: what needs another set-up, or a fault


@pytest.fixture
def stand_in(daemon: LocalDaemon) -> Iterator[GoDaemon]:
    config = Config(readonly_rootfs=False, workspaces=False, pool_size=1, max_exec_timeout_ms=200)
    with GoDaemon(daemon, config) as stand_in:
        yield stand_in


def test_workspaces_may_not_be_enabled(stand_in: GoDaemon) -> None:
    with client_of(stand_in.url, stand_in.api_key) as http:
        calls = [http.get("/v1/workspaces"), write(http, "/v1/workspaces/ab", "x", b"x")]
        assert [internal_of(call) for call in calls] == ["workspaces not enabled"] * 2


def test_sessions_of_its_pool_are_listed_and_time_limits_are_cut(stand_in: GoDaemon) -> None:
    with client_of(stand_in.url, stand_in.api_key) as http:
        assert [info["status"] for info in http.get("/v1/sessions").json()] == ["pool_idle"]
        session = made_session(http)
        listed = [info["status"] for info in http.get("/v1/sessions").json()]
        assert sorted(listed) == ["pool_idle", "running"]
        sentence = "command timeout: timeout: command exceeded 200ms"
        assert error_of(run(http, session, "sleep 1", 60_000))[2] == sentence
        for info in http.get("/v1/sessions").json():
            http.delete(f"/v1/sessions/{info['id']}")
        with pytest.raises(AssertionError):  # its pool gives a session that is none
            assert run(http, made_session(http), "true").status_code == 200


def test_a_command_waits_in_line_while_its_clients_time_runs(go_daemon: GoDaemon) -> None:
    with client_of(go_daemon.url, go_daemon.api_key) as http:
        session = made_session(http)
        first = threading.Thread(
            target=run, args=(http, session, "touch begun; until [ -e go ]; do sleep 0.01; done")
        )
        first.start()
        while read(http, session, "begun").status_code != 200:
            time.sleep(0.01)
        with pytest.raises(httpx.ReadTimeout):
            http.post(f"{session}/exec", json={"cmd": "touch waited"}, timeout=0.2)
        http.post(f"{session}/fs/write", json={"path": "go", "text": "x"}).raise_for_status()
        first.join()
        assert "waited\n" in output_of(http, session, "ls")
        http.delete(session)


def test_after_a_restart_sessions_are_there(daemon: LocalDaemon) -> None:
    with (
        GoDaemon(daemon, Config(readonly_rootfs=False)) as go_daemon,
        client_of(go_daemon.url, go_daemon.api_key) as http,
    ):
        session = made_session(http)
        write(http, session, "file", b"kept")
        go_daemon.restart()
        assert output_of(http, session, "cat file") == "kept"
        http.delete(session)


def test_durations_and_prompts_look_like_the_real_ones() -> None:
    assert [go_duration(ms) for ms in (5, 1000, 1500, 60_000, 120_000)] == [
        "5ms",
        "1s",
        "1.5s",
        "1m0s",
        "2m0s",
    ]
    line = "\x1b[?2004hI have no name!@sk-12345678:/workspace$ \x1b[?2004l\r\r\n"
    assert with_prompts("12345678-abc", "hi\n", raw=True) == f"{line}hi\r\n{line}\r"
