"""The wire, as clients that err, attack or go away use it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from sandkasten.local.api.bodies import MAX_UPLOAD_PARTS
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from tests.local.box import Box, boxes, connect, until
from tests.processes import processes_with
from tests.soon import soon


def assert_clear_error(answer: httpx.Response, *statuses: int) -> None:
    """It is a client's error, in JSON, with a code and a sentence that is short and says something."""
    assert answer.status_code in (statuses or range(400, 500)), f"{answer.status_code}: {answer.text[:500]}"
    body = answer.json()
    assert re.fullmatch(r"[A-Z_]+", body["error_code"]), body
    assert 8 < len(body["message"]) < 1000, body
    assert answer.headers["x-request-id"]


def raw(daemon: LocalDaemon, data: bytes, *, half_close: bool = False, seconds: float = 5) -> bytes:
    """Send bytes as they are, and read all that comes back until the daemon closes or falls silent."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(daemon.target.socket_path or "")
        client.settimeout(seconds)
        client.sendall(data)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while part := client.recv(65536):
                received += part
                if b"\r\n\r\n" in received and b"Connection: close" not in data:
                    client.settimeout(0.1)
        except (TimeoutError, ConnectionResetError):
            pass
        return received


@pytest.fixture(scope="module")
def shared_box(daemon: LocalDaemon) -> Iterator[Box]:
    """One session for all requests that are refused."""
    with boxes(daemon) as make:
        yield make()


# --- who may ask

ENDPOINTS = [
    ("POST", "/v1/sessions"),
    ("GET", "/v1/sessions"),
    ("GET", "/v1/sessions/x"),
    ("DELETE", "/v1/sessions/x"),
    ("GET", "/v1/sessions/x/stats"),
    ("POST", "/v1/sessions/x/exec"),
    ("POST", "/v1/sessions/x/exec/stream"),
    ("POST", "/v1/sessions/x/fs/write"),
    ("POST", "/v1/sessions/x/fs/upload"),
    ("GET", "/v1/sessions/x/fs"),
    ("GET", "/v1/sessions/x/fs/read"),
    ("GET", "/v1/sessions/x/fs/stat"),
    ("GET", "/v1/workspaces"),
    ("DELETE", "/v1/workspaces/xx"),
    ("GET", "/v1/workspaces/xx/fs"),
    ("POST", "/v1/workspaces/xx/fs/write"),
    ("POST", "/v1/workspaces/xx/fs/upload"),
    ("GET", "/v1/workspaces/xx/fs/read"),
    ("GET", "/v1/workspaces/xx/fs/stat"),
    ("GET", "/does/not/exist"),
    ("GET", "/healthz/"),
    ("GET", "//healthz"),
    ("GET", "/healthz/../v1/sessions"),
]
WRONG = {
    "none": None,
    "empty": "",
    "wrong": "Bearer wrong",
    "no scheme": "KEY",
    "other scheme": "Basic KEY",
    "lower case": "bearer KEY",
    "longer": "Bearer KEYx",
    "shorter": "Bearer K",
    "spaces": "Bearer  KEY",
    "prefix": "xBearer KEY",
}


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_nothing_but_health_answers_without_the_key(client: httpx.Client, method: str, path: str) -> None:
    del client.headers["authorization"]
    answer = client.request(method, path)
    assert_clear_error(answer, 401)
    assert answer.json()["error_code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("name", WRONG)
def test_a_key_that_is_not_the_key_is_refused(client: httpx.Client, daemon: LocalDaemon, name: str) -> None:
    header = WRONG[name]
    del client.headers["authorization"]
    if header is not None:
        client.headers["authorization"] = header.replace("KEY", str(daemon.target.api_key)).replace(
            "Bearer K", f"Bearer {str(daemon.target.api_key)[:-1]}" if name == "shorter" else "Bearer K"
        )
    assert_clear_error(client.get("/v1/sessions"), 401)


def test_a_key_of_strange_bytes_is_refused(daemon: LocalDaemon) -> None:
    for key in (b"\xff\xfe", "ключ".encode(), b"\x80" * 1000):
        answer = raw(
            daemon, b"GET /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + b"\r\n\r\n"
        )
        assert answer.split(b" ")[1] in {b"401", b"400"}


def test_health_needs_no_key_and_names_the_server(client: httpx.Client) -> None:
    del client.headers["authorization"]
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert answer.json()["server"] == "sandkasten-local"
    assert isinstance(answer.json()["extensions"], list)


@pytest.mark.parametrize("given", ["abc", "A.b-c_9", "x" * 128])
def test_a_request_id_comes_back(client: httpx.Client, given: str) -> None:
    assert client.get("/v1/sessions", headers={"X-Request-ID": given}).headers["x-request-id"] == given
    assert client.get("/nowhere", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "<script>", "a\tb", "ä".encode()])
def test_a_request_id_that_is_not_one_is_replaced(client: httpx.Client, given: str | bytes) -> None:
    answers = [client.get("/healthz", headers={"X-Request-ID": given}) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value) for value in ids)


def test_the_socket_is_private(daemon: LocalDaemon) -> None:
    path = daemon.target.socket_path or ""
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700


# --- what is not there


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v2/sessions",
        "/v1/sessions/x/y",
        "/v1/sessions/x/exec/x",
        "/v1/workspaces/x/y",
        "/V1/SESSIONS",
        "/%00",
        "/%ff",
        "/%2e%2e/etc/passwd",
        "/v1/sessions/%2e%2e/%2e%2e",
        "/v1//sessions",
        "/" + "x" * 5000,
        "/v1/sessions?" + "x" * 5000,
    ],
)
def test_unknown_paths_are_not_found(client: httpx.Client, path: str) -> None:
    if "?" in path:
        assert client.get(path).status_code == 200
    else:
        assert_clear_error(client.get(path), 404)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/v1/sessions", "/healthz", "/v1/sessions/x/exec", "/v1/workspaces"])
def test_unknown_methods_are_not_allowed(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    if answer.status_code == 400:
        return  # the parser does not even know the word
    assert_clear_error(answer, 405)


@pytest.mark.parametrize(
    "session_id", ["x", "00000000-000", "..", "%00", "%2e%2e%2fx", "a" * 4000, "💥", "%ff", "a%0ab", "*"]
)
def test_unknown_sessions_are_not_found_by_any_verb(client: httpx.Client, session_id: str) -> None:
    url = f"/v1/sessions/{session_id}"
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "", {}),
        ("DELETE", "", {}),
        ("GET", "/stats", {}),
        ("POST", "/exec", {"json": {"cmd": "true"}}),
        ("POST", "/exec/stream", {"json": {"cmd": "true"}}),
        ("POST", "/fs/write", {"json": {"path": "x", "text": "x"}}),
        ("GET", "/fs/read?path=x", {}),
        ("POST", "/fs/upload", {"files": {"file": ("x", b"x")}}),
    ]
    for method, path, more in requests:
        answer = client.request(method, url + path, **more)
        if session_id == "..":  # httpx resolves it
            assert answer.status_code < 500
        else:
            assert_clear_error(answer, 404)


def test_a_destroyed_session_is_said_to_be_destroyed(box: Box) -> None:
    box.destroy()
    for answer in (box.ask("true"), box.read("x"), box.client.get(box.url)):
        assert_clear_error(answer, 404)
        assert answer.json()["error_code"] == "SESSION_NOT_FOUND"


# --- bodies

NOT_OBJECTS = {
    "nothing": b"",
    "white space": b"  \n",
    "text": b"hello",
    "cut": b'{"cmd": "tru',
    "array": b"[]",
    "string": b'"cmd"',
    "number": b"1",
    "null": b"null",
    "two": b"{}{}",
    "NaN": b"NaN",
    "single quotes": b"{'cmd': 'true'}",
    "bytes": b"\xff\xfe\x00",
    "UTF-16": '{"cmd":"x"}'.encode("utf-16-be")[:-1],
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep inside": b'{"cmd": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "huge integer": b'{"cmd": "true", "timeout_ms": ' + b"9" * 10_000 + b"}",
    "broken UTF-8": b'{"cmd": "\xff"}',
    "form": b"cmd=true&timeout_ms=1",
    "trailing comma": b'{"cmd": "true",}',
    "comment": b'{"cmd": "true"} // x',
    "BOM and cut": b"\xef\xbb\xbf{",
}
JSON_ENDPOINTS = ["exec", "exec/stream", "fs/write"]


@pytest.mark.parametrize("endpoint", JSON_ENDPOINTS)
@pytest.mark.parametrize("name", NOT_OBJECTS)
def test_a_body_that_is_not_an_object_is_refused(shared_box: Box, endpoint: str, name: str) -> None:
    assert_clear_error(shared_box.client.post(f"{shared_box.url}/{endpoint}", content=NOT_OBJECTS[name]), 400)


@pytest.mark.parametrize("name", set(NOT_OBJECTS) - {"nothing", "huge integer", "deep inside"})
def test_a_session_is_not_made_of_a_body_that_is_not_an_object(client: httpx.Client, name: str) -> None:
    before = len(client.get("/v1/sessions").json())
    assert_clear_error(client.post("/v1/sessions", content=NOT_OBJECTS[name]), 400)
    assert len(client.get("/v1/sessions").json()) == before


EXEC_BODIES: dict[str, Any] = {
    "no cmd": {},
    "null": {"cmd": None},
    "number": {"cmd": 5},
    "list": {"cmd": ["true"]},
    "object": {"cmd": {}},
    "empty": {"cmd": ""},
    "bool": {"cmd": True},
    "NUL": {"cmd": "a\0b"},
    "surrogate": {"cmd": "\ud800"},
    "surrogate pair reversed": {"cmd": "\udc00\ud800"},
    "timeout text": {"cmd": "true", "timeout_ms": "5"},
    "timeout float": {"cmd": "true", "timeout_ms": 1.5},
    "timeout negative": {"cmd": "true", "timeout_ms": -1},
    "timeout too long": {"cmd": "true", "timeout_ms": 600_001},
    "timeout huge": {"cmd": "true", "timeout_ms": 10**30},
    "timeout bool": {"cmd": "true", "timeout_ms": True},
    "timeout list": {"cmd": "true", "timeout_ms": [1]},
    "raw text": {"cmd": "true", "raw_output": "yes"},
    "raw number": {"cmd": "true", "raw_output": 1},
    "raw list": {"cmd": "true", "raw_output": []},
    "too long": {"cmd": "x" * (1024 * 1024 + 1)},
    "too long in bytes": {"cmd": "ä" * (512 * 1024 + 1)},
}


@pytest.mark.parametrize("endpoint", ["exec", "exec/stream"])
@pytest.mark.parametrize("name", EXEC_BODIES)
def test_a_command_of_wrong_fields_is_refused(shared_box: Box, endpoint: str, name: str) -> None:
    content = json.dumps(EXEC_BODIES[name])
    assert_clear_error(shared_box.client.post(f"{shared_box.url}/{endpoint}", content=content), 400)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400", "1e3", "0.0"])
def test_a_timeout_that_is_no_whole_number_is_refused(shared_box: Box, literal: str) -> None:
    assert_clear_error(
        shared_box.client.post(
            f"{shared_box.url}/exec", content=f'{{"cmd": "true", "timeout_ms": {literal}}}'
        ),
        400,
    )


def test_unknown_fields_and_nulls_and_wrong_content_types_are_no_errors(shared_box: Box) -> None:
    body = json.dumps({"cmd": "echo x", "timeout_ms": None, "raw_output": None, "unknown": [1], "": 2})
    for content_type in (
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "nonsense",
        "",
    ):
        answer = shared_box.client.post(
            f"{shared_box.url}/exec", content=body, headers={"Content-Type": content_type}
        )
        assert (answer.status_code, answer.json()["output"]) == (200, "x\n")


CREATE_BODIES: dict[str, tuple[Any, str]] = {
    "image number": ({"image": 1}, "INVALID_REQUEST"),
    "image unknown": ({"image": "nope"}, "INVALID_IMAGE"),
    "image path": ({"image": "../../etc"}, "INVALID_IMAGE"),
    "image long": ({"image": "x" * 100_000}, "INVALID_IMAGE"),
    "image NUL": ({"image": "\0"}, "INVALID_IMAGE"),
    "image surrogate": ({"image": "\ud800"}, "INVALID_REQUEST"),
    "image list": ({"image": ["base"]}, "INVALID_REQUEST"),
    "ttl text": ({"ttl_seconds": "5"}, "INVALID_REQUEST"),
    "ttl negative": ({"ttl_seconds": -1}, "INVALID_REQUEST"),
    "ttl float": ({"ttl_seconds": 1.5}, "INVALID_REQUEST"),
    "ttl too long": ({"ttl_seconds": 86_401}, "INVALID_REQUEST"),
    "ttl huge": ({"ttl_seconds": 10**400}, "INVALID_REQUEST"),
    "ttl bool": ({"ttl_seconds": True}, "INVALID_REQUEST"),
    "workspace path": ({"workspace_id": "../x"}, "INVALID_WORKSPACE"),
    "workspace short": ({"workspace_id": "a"}, "INVALID_WORKSPACE"),
    "workspace upper": ({"workspace_id": "ABC"}, "INVALID_WORKSPACE"),
    "workspace NUL": ({"workspace_id": "a\0b"}, "INVALID_WORKSPACE"),
    "workspace line end": ({"workspace_id": "abc\n"}, "INVALID_WORKSPACE"),
    "workspace number": ({"workspace_id": 5}, "INVALID_REQUEST"),
    "workspace long": ({"workspace_id": "x" * 10_000}, "INVALID_WORKSPACE"),
}


@pytest.mark.parametrize("name", CREATE_BODIES)
def test_a_session_of_wrong_fields_is_refused(client: httpx.Client, name: str) -> None:
    body, code = CREATE_BODIES[name]
    answer = client.post("/v1/sessions", content=json.dumps(body))
    assert_clear_error(answer, 400)
    assert answer.json()["error_code"] == code


def test_a_session_of_all_defaults_needs_no_body(make_box: Callable[..., Box], client: httpx.Client) -> None:
    for content in (
        b"",
        b"{}",
        b'{"image": null, "ttl_seconds": null, "workspace_id": null}',
        b'{"image": "", "ttl_seconds": 0}',
    ):
        answer = client.post("/v1/sessions", content=content)
        if answer.status_code == 400:  # the default image may not be there
            assert answer.json()["error_code"] == "INVALID_IMAGE"
            continue
        info = answer.json()
        assert answer.status_code == 201
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{3,4}", info["id"])
        assert (info["status"], info["cwd"]) == ("running", "/workspace")
        assert not info.get("workspace_id")
        assert client.delete(f"/v1/sessions/{info['id']}").json() == {"ok": True}


# --- files

WRITE_BODIES: dict[str, Any] = {
    "no path": {"text": "x"},
    "no content": {"path": "x"},
    "null content": {"path": "x", "text": None, "content_base64": None},
    "path number": {"path": 5, "text": "x"},
    "text number": {"path": "x", "text": 5},
    "base64 number": {"path": "x", "content_base64": 5},
    "not base64": {"path": "x", "content_base64": "***"},
    "cut base64": {"path": "x", "content_base64": "abc"},
    "base64 of other letters": {"path": "x", "content_base64": "äöü="},
    "text surrogate": {"path": "x", "text": "\ud800"},
    "path surrogate": {"path": "\udcff", "text": "x"},
}
BAD_PATHS = {
    "empty": "",
    "NUL": "a\0b",
    "outside": "/sys/x",
    "dots": "../dev/x",
    "dots inside": "a/../../proc/x",
    "root": "/",
    "workspace": "/workspace",
    "other": "/workspacex/y",
    "long name": "x" * 300,
    "long": "x/" * 3000,
    "proc": "/proc/self/mem",
    "dot": ".",
    "slashes": "//proc/version",
}


@pytest.mark.parametrize("name", WRITE_BODIES)
def test_a_write_of_wrong_fields_is_refused(box: Box, name: str) -> None:
    assert_clear_error(box.client.post(f"{box.url}/fs/write", content=json.dumps(WRITE_BODIES[name])), 400)
    assert box.run("ls -A") == ""


@pytest.mark.parametrize("name", BAD_PATHS)
def test_a_path_that_may_not_be_is_refused_by_every_verb(shared_box: Box, name: str) -> None:
    path = BAD_PATHS[name]
    codes = (404,) if name == "other" else (400,)  # nothing is there, and nothing can be made there
    assert_clear_error(shared_box.write(path, "x"), *codes)
    assert_clear_error(shared_box.read(path), *codes)
    if name not in {"root", "outside"}:
        form = {"path": path}
        answer = shared_box.client.post(f"{shared_box.url}/fs/upload", data=form, files={"file": ("f", b"x")})
        if path in {"", ".", "/workspace"}:
            assert answer.status_code == 200
        else:
            assert_clear_error(answer, *codes)


@pytest.mark.parametrize(
    "query", ["", "?path", "?path=", "?PATH=x", "?path=%00", "?path=%ff", "?path=%ED%A0%80", "?path=a%00b"]
)
def test_a_read_of_a_path_that_makes_no_sense_is_refused(shared_box: Box, query: str) -> None:
    for call in ("read", "stat"):
        assert_clear_error(shared_box.client.get(f"{shared_box.url}/fs/{call}{query}"), 400, 404)


@pytest.mark.parametrize("value", ["", "1", "yes", "True", "%00", "true,false"])
def test_a_flag_that_is_neither_true_nor_false_is_refused(shared_box: Box, value: str) -> None:
    asked = f"{shared_box.url}/fs/stat?path=.&follow_symlinks={value}"
    assert_clear_error(shared_box.client.get(asked), 400)


@pytest.mark.parametrize(
    "value",
    ["-1", "x", "1.5", "1e3", "104857601", "9" * 30, "9" * 6000, "%00", "٣", "%2B5", "1_0", " 1"],
)
def test_a_size_that_is_not_one_is_refused(shared_box: Box, value: str) -> None:
    shared_box.write("x", "12345")
    assert_clear_error(shared_box.client.get(f"{shared_box.url}/fs/read?path=x&max_bytes={value}"), 400)


def test_reads_and_writes_say_what_is_wrong(box: Box) -> None:
    box.run("mkdir d; mkfifo fifo; echo x > file")
    for answer, status, code in (
        (box.read("missing"), 404, "FILE_NOT_FOUND"),
        (box.read("d"), 400, "IS_DIRECTORY"),
        (box.write("d", "x"), 400, "IS_DIRECTORY"),
        (box.read("fifo"), 400, "INVALID_REQUEST"),
        (box.read("file/x"), 400, "NOT_A_DIRECTORY"),
        (box.write("file/x", "x"), 400, "NOT_A_DIRECTORY"),
    ):
        assert_clear_error(answer, status)
        assert answer.json()["error_code"] == code


def test_bytes_come_back_as_they_went(shared_box: Box) -> None:
    content = bytes(range(256)) * 100
    for path in ("bytes", "/workspace/deep/er/bytes", "ünïcode 😀"):
        assert shared_box.write(path, content).json() == {"ok": True}
        assert shared_box.content(path) == content
    answer = shared_box.read("bytes", max_bytes=10)
    assert (base64.b64decode(answer.json()["content_base64"]), answer.json()["truncated"]) == (
        content[:10],
        True,
    )
    assert shared_box.write("empty", b"").status_code == 200
    assert shared_box.content("empty") == b""
    assert (
        shared_box.client.post(f"{shared_box.url}/fs/write", json={"path": "empty2", "text": ""}).status_code
        == 200
    )


def test_a_file_of_some_megabytes_is_written_and_read(box: Box) -> None:
    content = os.urandom(8 * 1024 * 1024)
    assert box.write("big", content).status_code == 200
    assert box.content("big") == content


# --- uploads


def multipart(*parts: bytes, boundary: bytes = b"B") -> tuple[bytes, dict[str, str]]:
    body = (
        b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    )
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}


def file_part(filename: bytes, name: bytes = b"file") -> bytes:
    return (
        b'Content-Disposition: form-data; name="' + name + b'"; filename="' + filename + b'"\r\n\r\ncontent'
    )


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a\0b", b"x" * 300, b"x/", b"..%2fevil/..", b"a/\0"])
def test_an_upload_under_an_evil_name_is_refused(box: Box, name: bytes) -> None:
    body, headers = multipart(file_part(name))
    assert_clear_error(box.client.post(f"{box.url}/fs/upload", content=body, headers=headers), 400)
    assert box.run("ls -A") == ""


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        (b"../evil", "evil"),
        (b"a/b", "b"),
        (b"/etc/passwd", "passwd"),
        (b"/workspace/x", "x"),
        (b"../../../../tmp/evil", "evil"),
        (b"./x", "x"),
        (b"\xed\xa0\x80/x", "x"),
    ],
)
def test_of_an_uploads_file_name_the_last_part_counts(box: Box, name: bytes, stored: str) -> None:
    path = b'Content-Disposition: form-data; name="path"\r\n\r\nd'
    body, headers = multipart(path, file_part(name))
    answer = box.client.post(f"{box.url}/fs/upload", content=body, headers=headers)
    assert answer.json()["paths"] == [f"/workspace/d/{stored}"]
    assert box.run("find . -type f") == f"./d/{stored}\n"


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"\xed\xa0\x80", "ä".encode(), b"a b", b"-rf", b"a;b", b"..x", b"C:\\\\x", b'a\\"b']
)
def test_an_upload_under_an_odd_name_is_stored_or_refused(shared_box: Box, name: bytes) -> None:
    body, headers = multipart(file_part(name))
    answer = shared_box.client.post(f"{shared_box.url}/fs/upload", content=body, headers=headers)
    if answer.status_code == 200:
        (path,) = answer.json()["paths"]
        assert shared_box.content(path) == b"content"
    else:
        assert_clear_error(answer, 400)


UPLOADS: dict[str, tuple[bytes, dict[str, str]]] = {
    "no files": multipart(b'Content-Disposition: form-data; name="path"\r\n\r\nx'),
    "no parts": multipart(),
    "file as a field": multipart(b'Content-Disposition: form-data; name="file"\r\n\r\nx'),
    "path as a file": multipart(file_part(b"x", b"path"), file_part(b"y")),
    "other name": multipart(file_part(b"x", b"other")),
    "no name": multipart(b'Content-Disposition: form-data; filename="x"\r\n\r\nx'),
    "no disposition": multipart(b"Content-Type: text/plain\r\n\r\nx"),
    "no boundary": (b"--B\r\n", {"Content-Type": "multipart/form-data"}),
    "empty boundary": (b"--\r\n", {"Content-Type": "multipart/form-data; boundary="}),
    "wrong boundary": (
        multipart(file_part(b"x"))[0],
        {"Content-Type": "multipart/form-data; boundary=other"},
    ),
    "cut": (multipart(file_part(b"x"))[0][:40], {"Content-Type": "multipart/form-data; boundary=B"}),
    "JSON": (b'{"path": "x"}', {"Content-Type": "application/json"}),
    "form": (b"file=x", {"Content-Type": "application/x-www-form-urlencoded"}),
    "nothing": (b"", {}),
    "many parts": multipart(*[b'Content-Disposition: form-data; name="x"\r\n\r\n'] * 2000),
    "many fields": multipart(
        *[b'Content-Disposition: form-data; name="x"\r\n\r\nx'] * (MAX_UPLOAD_PARTS + 1), file_part(b"x")
    ),
    "many files": multipart(*[file_part(b"f")] * (MAX_UPLOAD_PARTS + 1)),
    "a great header": multipart(b"X-Header: " + b"x" * 1_000_000 + b"\r\n\r\nx"),
    "a great field": multipart(
        b'Content-Disposition: form-data; name="path"\r\n\r\n' + b"x" * 3_000_000, file_part(b"x")
    ),
    "charset": (
        multipart(file_part(b"x"))[0],
        {"Content-Type": "multipart/form-data; boundary=B; charset=nonsense"},
    ),
    "path NUL": multipart(b'Content-Disposition: form-data; name="path"\r\n\r\na\0b', file_part(b"x")),
    "path bytes": multipart(
        b'Content-Disposition: form-data; name="path"\r\n\r\n/workspace/\xed\xa0\x80/../../../proc',
        file_part(b"x"),
    ),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_that_is_not_one_is_refused(shared_box: Box, name: str) -> None:
    content, headers = UPLOADS[name]
    answer = shared_box.client.post(f"{shared_box.url}/fs/upload", content=content, headers=headers)
    if name == "charset" and answer.status_code == 200:
        return
    assert_clear_error(answer, 400)


def test_uploads_are_stored_where_they_should_be(box: Box) -> None:
    files = [("file", ("a", b"1")), ("files", ("b", b"2")), ("files", ("empty", b""))]
    answer = box.client.post(f"{box.url}/fs/upload", files=files, data={"path": "d/e"})
    assert sorted(answer.json()["paths"]) == ["/workspace/d/e/a", "/workspace/d/e/b", "/workspace/d/e/empty"]
    assert [box.content(path) for path in ("d/e/a", "d/e/b", "d/e/empty")] == [b"1", b"2", b""]
    assert box.client.post(f"{box.url}/fs/upload", files={"file": ("c", b"3")}).json()["paths"] == [
        "/workspace/c"
    ]


# --- workspaces


@pytest.mark.parametrize(
    "workspace_id",
    ["a", "-ab", "ab-", "A1", "a" * 65, "%2e%2e", "a.b", "%00", "a%0a", "ab%20", "%ff", "..%2fx"],
)
def test_a_workspace_of_a_wrong_id_is_refused_by_every_verb(client: httpx.Client, workspace_id: str) -> None:
    url = f"/v1/workspaces/{workspace_id}"
    for answer in (
        client.delete(url),
        client.get(f"{url}/fs"),
        client.get(f"{url}/fs/read?path=x"),
        client.post(f"{url}/fs/write", json={"path": "x", "text": "x"}),
        client.post(f"{url}/fs/upload", files={"file": ("x", b"x")}),
    ):
        assert_clear_error(answer, 400, 404)


def test_a_request_that_is_refused_makes_no_workspace(client: httpx.Client) -> None:
    workspace = f"w{secrets.token_hex(6)}"
    url = f"/v1/workspaces/{workspace}"
    assert_clear_error(client.post(f"{url}/fs/write", json={"path": "x"}), 400)
    assert_clear_error(client.post(f"{url}/fs/write", content=b"{"), 400)
    assert_clear_error(client.post(f"{url}/fs/upload", content=b""), 400)
    assert_clear_error(client.get(f"{url}/fs"), 404)
    assert workspace not in [row["id"] for row in client.get("/v1/workspaces").json()["workspaces"]]


def test_a_workspace_is_written_listed_read_used_and_deleted(
    client: httpx.Client, make_box: Callable[..., Box]
) -> None:
    workspace = f"w{secrets.token_hex(6)}"
    url = f"/v1/workspaces/{workspace}"
    assert_clear_error(client.delete(url), 404)
    assert client.post(f"{url}/fs/write", json={"path": "d/x", "text": "1"}).status_code == 200
    assert client.post(f"{url}/fs/upload", files={"file": ("y", b"2")}).json()["paths"] == ["/workspace/y"]
    assert workspace in [row["id"] for row in client.get("/v1/workspaces").json()["workspaces"]]
    entries = client.get(f"{url}/fs").json()["entries"]
    assert [(entry["name"], entry["is_dir"], entry["kind"]) for entry in entries] == [
        ("d", True, "directory"),
        ("y", False, "file"),
    ]
    (entry,) = client.get(f"{url}/fs?path=d").json()["entries"]
    assert (entry["name"], entry["size_bytes"]) == ("x", 1)
    assert base64.b64decode(client.get(f"{url}/fs/read?path=d/x").json()["content_base64"]) == b"1"
    box = make_box(workspace_id=workspace)
    assert box.info["workspace_id"] == workspace
    assert box.run("cat d/x y") == "12"
    assert_clear_error(client.delete(url), 400, 409)
    box.destroy()
    assert client.delete(url).json() == {"ok": True}
    assert_clear_error(client.get(f"{url}/fs"), 404)


def test_a_workspace_is_not_deleted_while_a_session_starts_on_it(
    client: httpx.Client, daemon: LocalDaemon
) -> None:
    for _ in range(10):
        workspace = f"w{secrets.token_hex(6)}"
        client.post(f"/v1/workspaces/{workspace}/fs/write", json={"path": "x", "text": "1"})
        created: list[httpx.Response] = []

        def create(name: str = workspace) -> None:
            with connect(daemon) as other:
                created.append(other.post("/v1/sessions", json={"image": "base", "workspace_id": name}))  # noqa: B023

        thread = threading.Thread(target=create)
        thread.start()
        time.sleep(secrets.randbelow(8) / 1000)
        deleted = client.delete(f"/v1/workspaces/{workspace}")
        thread.join()
        assert created[0].status_code < 500, created[0].text
        assert deleted.status_code < 500, deleted.text
        if created[0].status_code == 201:
            url = f"/v1/sessions/{created[0].json()['id']}"
            result = client.post(f"{url}/exec", json={"cmd": "echo kept > kept; ls -A"}).json()
            assert "kept" in result["output"], "the workspace was deleted under a running session"
            assert client.get(f"{url}/fs/read?path=kept").status_code == 200
            client.delete(url)


def test_more_sessions_than_there_may_be_are_refused(data_dir: Any) -> None:
    daemon = start_daemon(LocalOptions(data_dir=data_dir, max_sessions=2))
    try:
        with connect(daemon) as client:
            made = [Box(daemon, client) for _ in range(2)]
            answer = client.post("/v1/sessions", json={"image": "base"})
            assert_clear_error(answer, 429)
            assert answer.json()["error_code"] == "CAPACITY_EXCEEDED"
            assert int(answer.headers["retry-after"]) >= 0
            made[0].destroy()
            assert client.post("/v1/sessions", json={"image": "base"}).status_code == 201
    finally:
        daemon.stop()


def test_stats_count_what_runs(box: Box) -> None:
    before = box.client.get(f"{box.url}/stats").json()
    box.run("i=0; while ((i < 100000)); do ((i++)); done; x=$(printf '%05000000d' 1)")
    after = box.client.get(f"{box.url}/stats").json()
    assert after["cpu_usage_usec"] > before["cpu_usage_usec"]
    assert after["memory_bytes"] > before["memory_bytes"] > 0


# --- raw bytes


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nBad Header\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::bad/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_never_harm_the_daemon(
    daemon: LocalDaemon, client: httpx.Client, request_bytes: bytes
) -> None:
    answer = raw(daemon, request_bytes, half_close=True, seconds=2)
    assert not answer.startswith(b"HTTP/1.1 5"), answer[:200]
    assert client.get("/healthz").status_code == 200


ENDLESS = {
    "headers": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X: " + b"x" * 1000 + b"\r\n"),
    "small headers": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"a:\r\n"),
    "a header": (b"GET /healthz HTTP/1.1\r\nX: ", b"x"),
    "a target": (b"GET /", b"x"),
    "trailers": (
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X: x\r\n",
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_refused_before_it_takes_memory(daemon: LocalDaemon, name: str) -> None:
    head, piece = ENDLESS[name]
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(daemon.target.socket_path or "")
        peer.sendall(head)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100):
                peer.sendall(piece * (100_000 // len(piece)))
        with contextlib.suppress(ConnectionResetError):
            answer = peer.recv(65536)
            # The key may have been missed before the trailers came.
            assert answer.split(b" ")[1] in ({b"401", b"431"} if name == "trailers" else {b"431"})
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error_code"]


def authorized(daemon: LocalDaemon, head: str, body: bytes = b"") -> bytes:
    return f"{head} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {daemon.target.api_key}\r\n".encode() + body


def test_a_body_that_never_comes_whole_harms_nobody(daemon: LocalDaemon, box: Box) -> None:
    head = authorized(daemon, f"POST {box.url}/exec", b'Content-Length: 100\r\n\r\n{"cmd": "touch evil"}')
    for _ in range(5):
        raw(daemon, head, half_close=True, seconds=0.2)
    assert box.run("ls -A") == ""


def test_two_requests_on_one_connection_are_both_answered(daemon: LocalDaemon) -> None:
    request = authorized(daemon, "GET /v1/sessions", b"\r\n")
    assert raw(daemon, request * 2).count(b"HTTP/1.1 200") == 2


# --- clients that go away


def leave(daemon: LocalDaemon, url: str, cmd: str, until_seen: Callable[[], Any]) -> None:
    """Ask for a command, wait for something, and close the connection without a word."""
    body = json.dumps({"cmd": cmd}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(daemon.target.socket_path or "")
        connection.sendall(
            authorized(daemon, f"POST {url}", b"Content-Length: %d\r\n\r\n" % len(body) + body)
        )
        until(until_seen)


@pytest.mark.parametrize("endpoint", ["exec", "exec/stream"])
@pytest.mark.parametrize(
    "cmd",
    [
        "sleep {}",
        "echo x; sleep {}",
        "trap '' INT TERM; sleep {}; trap - INT TERM",
        "yes | sleep {}",
        "(trap '' INT TERM; sleep {})",
    ],
)
def test_a_client_that_leaves_stops_its_command(
    daemon: LocalDaemon, box: Box, endpoint: str, cmd: str
) -> None:
    marker = f"12{secrets.randbelow(10**9):09d}"
    box.run("kept=yes")
    leave(daemon, f"{box.url}/{endpoint}", cmd.format(marker), lambda: processes_with(f"sleep\0{marker}"))
    until(lambda: not processes_with(f"sleep\0{marker}"))
    assert box.run("echo next") == "next\n"


def test_a_client_that_leaves_a_stream_in_the_middle_of_much_output_stops_its_command(
    daemon: LocalDaemon, box: Box
) -> None:
    with box.client.stream("POST", f"{box.url}/exec/stream", json={"cmd": "yes"}) as answer:
        for seen, _ in enumerate(answer.iter_bytes()):
            if seen > 10:
                break
    until(lambda: "yes" not in box.run("ps -eo comm="))
    assert box.run("echo next") == "next\n"


def test_a_client_that_reads_nothing_does_not_make_the_daemon_keep_all_the_output(
    daemon: LocalDaemon, box: Box
) -> None:
    def memory() -> int:
        with open(f"/proc/{daemon.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = memory()
    body = json.dumps({"cmd": "yes"}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(daemon.target.socket_path or "")
        head = authorized(
            daemon, f"POST {box.url}/exec/stream", b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        connection.sendall(head)
        time.sleep(1)
        assert memory() - before < 30 * 1024 * 1024
        with soon(), connect(daemon) as other:
            assert other.get("/v1/sessions").status_code == 200
    assert box.run("echo next") == "next\n"


@pytest.mark.parametrize("endpoint", ["exec", "exec/stream"])
def test_a_client_that_leaves_while_it_waits_in_line_never_runs(
    daemon: LocalDaemon, box: Box, endpoint: str
) -> None:
    first = box.exec_in_background("touch running; while [[ ! -e go ]]; do sleep 0.01; done")
    until(lambda: box.read("running").status_code == 200)
    body = json.dumps({"cmd": "touch evil"}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(daemon.target.socket_path or "")
        head = authorized(
            daemon, f"POST {box.url}/{endpoint}", b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        connection.sendall(head)
        time.sleep(0.2)
    time.sleep(0.1)
    box.write("go", "")
    assert first.answer().status_code == 200
    assert box.run("ls") == "go\nrunning\n"


def test_a_client_that_leaves_while_its_session_is_made_leaves_no_session(data_dir: Any) -> None:
    daemon = start_daemon(LocalOptions(data_dir=data_dir, max_sessions=5, pool_size=0))
    try:
        for _ in range(10):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(daemon.target.socket_path or "")
                connection.sendall(
                    authorized(daemon, "POST /v1/sessions", b'Content-Length: 16\r\n\r\n{"image":"base"}')
                )
                time.sleep(0.005)
        with connect(daemon) as client:  # sessions that nobody knows of would keep all the places
            until(lambda: client.post("/v1/sessions", json={"image": "base"}).status_code == 201)
    finally:
        daemon.stop()


def test_many_at_once_are_all_served(daemon: LocalDaemon, make_box: Callable[..., Box]) -> None:
    made = [make_box() for _ in range(40)]
    with soon():  # one after another they take 40 seconds
        waiting = [box.exec_in_background(f"sleep 1; echo {number}") for number, box in enumerate(made)]
        for number, answer in enumerate(waiting):
            assert answer.answer().json()["output"] == f"{number}\n"


# --- names that are not UTF-8


def test_who_knows_nothing_of_other_names_is_answered_in_utf_8(box: Box) -> None:
    box.run(r"mkdir d; echo one > d/$'caf\xe9'; echo two > d/$'caf\xe8'; echo three > d/café")
    rows = box.client.get(f"{box.url}/fs", params={"path": "d"}).json()["entries"]
    assert [row["name"] for row in rows] == ["café", "caf\ufffd", "caf\ufffd"]
    assert [row.get("name_base64") for row in rows] == [None, "Y2Fm6A==", "Y2Fm6Q=="]
    for path, content in (("caf%E9", "one"), ("caf%E8", "two"), ("caf%C3%A9", "three"), ("café", "three")):
        read = box.client.get(f"{box.url}/fs/read?path=d/{path}").json()
        assert base64.b64decode(read["content_base64"]) == f"{content}\n".encode()
        assert ("path_base64" in read) == (content != "three")
    assert box.client.get(f"{box.url}/fs/read", params={"path": "d/caf\ufffd"}).status_code == 404
    put = box.client.put(f"{box.url}/fs/raw?path=d/%FF", content=b"x").json()
    assert (put["path"], base64.b64decode(put["path_base64"])) == (
        "/workspace/d/\ufffd",
        b"/workspace/d/\xff",
    )
    missing = box.client.get(f"{box.url}/fs/raw?path=d/%FE")
    assert (missing.status_code, missing.json()["error_code"]) == (404, "FILE_NOT_FOUND")


def test_no_spelling_of_a_name_leads_out_or_ends_it(box: Box) -> None:
    # Bytes that stand for themselves may add up to UTF-8, but never to a slash, a dot or a NUL.
    for path in ("..%2Fx", "%2E%2E/x", "a%00b", "%C0%AE%C0%AE/x", "%ED%B0%AF"):
        answer = box.client.get(f"{box.url}/fs/raw?path={path}")
        assert answer.status_code in {400, 404}, path
    assert box.client.put(f"{box.url}/fs/raw?path=%C0%AE%C0%AE/x", content=b"x").is_success
    assert box.run("ls | od -An -tx1").split() == ["c0", "ae", "c0", "ae", "0a"]
