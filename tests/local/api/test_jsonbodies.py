"""JSON in requests and answers, small, large, and made to be slow."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from sandkasten._protocol import MAX_COMMAND_BYTES
from sandkasten.local.api import jsonbodies
from sandkasten.local.api.bodies import uploaded
from sandkasten.local.api.files import Contents
from sandkasten.local.api.http.messages import ClientLeftError, Message, Request
from sandkasten.local.api.jsonbodies import COMMAND_BYTES, CREATION_BYTES, read_json
from sandkasten.local.api.owners import Owner
from sandkasten.local.errors import ApiError
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from tests.local.api.test_transfers import memory_of
from tests.local.box import Box, boxes

MIB = 1024 * 1024
PIECE = 3 * 256 * 1024  # of a read


@pytest.fixture(scope="module")
def shared_box(daemon: LocalDaemon) -> Iterator[Box]:
    """One session for all of them."""
    with boxes(daemon) as make:
        yield make()


def refused(answer: httpx.Response) -> str:
    """The sentence of a request that is refused."""
    assert answer.status_code == 400, answer.text[:200]
    assert answer.json()["error_code"] == "INVALID_REQUEST"
    return answer.json()["message"]


# --- what there may be of it


@pytest.mark.parametrize("endpoint", ["exec", "exec/stream"])
def test_a_command_is_read_however_it_is_written(shared_box: Box, endpoint: str) -> None:
    command = ": " + "x" * (MAX_COMMAND_BYTES - 2)
    body = '{"cmd": "' + "".join(f"\\u{ord(char):04x}" for char in command) + '"}'
    answer = shared_box.client.post(f"{shared_box.url}/{endpoint}", content=body)
    assert answer.status_code == 200, answer.text[:200]
    longer = body[:-2] + '", "padding": "' + "x" * COMMAND_BYTES + '"}'
    assert "larger than" in refused(shared_box.client.post(f"{shared_box.url}/{endpoint}", content=longer))


def test_a_session_is_made_of_few_bytes(client: httpx.Client) -> None:
    body = json.dumps({"image": "base", "padding": "x" * CREATION_BYTES})
    assert "larger than" in refused(client.post("/v1/sessions", content=body))


MANY = {
    "arrays": "[" + "[]," * 40_000 + "[]]",
    "objects": "[" + "{}," * 40_000 + "{}]",
    "numbers": "[" + "1.5," * 20_000 + "1]",
    "strings": "[" + '"ab",' * 20_000 + '""]',
    "members": "{" + ",".join(f'"{number}": null' for number in range(20_000)) + "}",
    "depth": "[" * 50_000 + "]" * 50_000,
}


@pytest.mark.parametrize("endpoint", ["exec", "exec/stream", "fs/write"])
@pytest.mark.parametrize("name", MANY)
def test_many_values_in_a_body_are_refused(shared_box: Box, endpoint: str, name: str) -> None:
    body = '{"cmd": "true", "path": "x", "text": "x", "unknown": ' + MANY[name] + "}"
    sentence = refused(shared_box.client.post(f"{shared_box.url}/{endpoint}", content=body))
    assert "too many values" in sentence or (name == "depth" and "not JSON" in sentence)


def test_a_body_that_would_take_minutes_takes_nobody_elses_time(daemon: LocalDaemon, shared_box: Box) -> None:
    """The body is refused at its first values: it has millions."""
    before = memory_of(daemon.pid)
    body = '{"path": "x", "text": "x", "unknown": [' + "[]," * (20 * MIB) + "[]]}"
    assert "too many values" in refused(shared_box.client.post(f"{shared_box.url}/fs/write", content=body))
    assert memory_of(daemon.pid) - before < 3 * len(body)  # which was more than a gigabyte


def test_what_is_large_means_the_same_as_what_is_small(shared_box: Box) -> None:
    for padding in ("", "x" * 100_000):
        fields = {
            "cmd": 'echo "ü\\"\n💥"',
            "unknown": [padding, {"a": [1, 2.5, None, True]}, {}],
            "raw_output": None,
        }
        for body in (json.dumps(fields), json.dumps(fields, ensure_ascii=False, indent=1)):
            answer = shared_box.client.post(f"{shared_box.url}/exec", content=body.encode())
            assert answer.json()["output"] == 'ü"\n💥\n', answer.text[:200]
        for broken in (body[:-1], body + "{}", body.replace("null", "nil"), f"[{body}]"):
            refused(shared_box.client.post(f"{shared_box.url}/exec", content=broken.encode()))
        lone = json.dumps({"cmd": "\ud800", "unknown": padding})
        assert "Unicode" in refused(shared_box.client.post(f"{shared_box.url}/exec", content=lone))


@pytest.mark.parametrize("size", [0, 1, 2, 3, MIB - 1, MIB, 3 * MIB + 2])
def test_contents_in_base64_come_as_they_are(shared_box: Box, size: int) -> None:
    content = (b"0123456789abcdef\n" * (size // 17 + 1))[:size]
    assert shared_box.write("x", content).status_code == 200
    assert shared_box.content("x") == content


@pytest.mark.parametrize("at", [4, MIB, MIB + 4, 2 * MIB])
def test_padding_in_the_middle_of_base64_is_refused(shared_box: Box, at: int) -> None:
    """Wherever the pieces end that it is decoded in."""
    encoded = "A" * (at - 4) + "AA==" + "A" * MIB
    body = {"path": "x", "content_base64": encoded}
    refused(shared_box.client.post(f"{shared_box.url}/fs/write", json=body))


def test_large_bodies_that_stall_keep_nobody_else_from_writing(daemon: LocalDaemon, shared_box: Box) -> None:
    head = (
        f"POST {shared_box.url}/fs/write HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {daemon.target.api_key}\r\nContent-Length: 50000000\r\n\r\n{{"
    )
    stalled = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    try:
        for each in stalled:
            each.connect(daemon.target.socket_path or "")
            each.sendall(head.encode())
        assert shared_box.write("small", b"x").status_code == 200
        assert shared_box.run("cat small") == "x"
    finally:
        for each in stalled:
            each.close()
    assert shared_box.write("large", b"x" * 3 * MIB).status_code == 200


# --- how much of it there is at a time, and where


@pytest.mark.parametrize(("padding", "is_aside"), [("x" * 100, False), ("x" * 100_000, True)])
def test_a_large_body_is_read_aside_from_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, padding: str, is_aside: bool
) -> None:
    threads = []

    def decode(data: bytearray, most_values: int) -> Any:
        threads.append(threading.current_thread())
        return original(data, most_values)

    def make(body: dict[str, Any]) -> int:
        threads.append(threading.current_thread())
        return len(body["padding"])

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps({"padding": padding}).encode()}

    original = jsonbodies._object
    monkeypatch.setattr(jsonbodies, "_object", decode)
    size = asyncio.run(read_json(Request({"headers": []}, receive), MIB, make))
    assert (size, len(threads)) == (len(padding), 2)
    assert [thread is not threading.main_thread() for thread in threads] == [is_aside] * 2


@pytest.mark.parametrize("length", ["50000000", None])
def test_of_many_large_bodies_two_are_held_at_a_time(length: str | None) -> None:
    """Each may take some hundred megabytes. The test sees which are received, so no time has to pass."""

    async def work() -> int:
        begun, go_on = [], asyncio.Event()

        async def receive() -> Message:
            begun.append(None)
            await go_on.wait()
            return {"type": "http.disconnect"}

        headers = [] if length is None else [(b"content-length", length.encode())]
        scope = {"headers": headers}
        contents, owner = Contents(), cast("Owner", None)
        calls = [contents.write(owner, Request(scope, receive)) for _ in range(5)]
        ended = asyncio.gather(*calls, return_exceptions=True)
        for _ in range(20):  # all that can go on does
            await asyncio.sleep(0)
        at_a_time = len(begun)
        go_on.set()
        assert [type(error) for error in await ended] == [ClientLeftError] * 5
        return at_a_time

    assert asyncio.run(work()) == 2


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json", "multipart/x", ""])
def test_nothing_is_received_of_a_form_that_has_no_files(kind: str) -> None:
    async def work() -> None:
        async def receive() -> Message:
            pytest.fail("it is read into memory")

        headers = [(b"content-type", f"{kind}; boundary=B".encode())]
        request = Request({"headers": headers}, receive)
        async with uploaded(request, admit=cast("Any", None)):
            pass

    with pytest.raises(ApiError, match="needs 'file' parts"):
        asyncio.run(work())


def test_of_a_form_no_more_is_received_than_there_is_room_for() -> None:
    """Its files lie on the machine's own disk until all are there, and its length need not be said."""
    received = []

    async def receive() -> Message:
        head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        received.append(head if not received else b"x" * MIB)
        return {"type": "http.request", "body": received[-1], "more_body": len(received) < 20}

    async def admit(size_bytes: int) -> None:
        if size_bytes > 5 * MIB:
            raise ApiError(507, "INSUFFICIENT_STORAGE", "The workspace is full.")

    async def work() -> None:
        headers = [(b"content-type", b"multipart/form-data; boundary=B")]
        request = Request({"headers": headers}, receive)
        async with uploaded(request, admit):
            pass

    with pytest.raises(ApiError, match="full"):
        asyncio.run(work())
    assert 5 < len(received) <= 7


# --- reads


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 2])
def test_a_read_stops_at_the_asked_size_and_says_so(shared_box: Box, size: int) -> None:
    content = (b"0123456789abcdef\n" * (size // 17 + 1))[:size]
    shared_box.write("x y", content).raise_for_status()
    for max_bytes in {1, PIECE - 1, PIECE, PIECE + 1, max(1, size - 1), max(1, size), size + 1}:
        answer = shared_box.read("x y", max_bytes=max_bytes)
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert list(body) == ["path", "content_base64", "truncated"]
        assert body["path"] == "x y"
        assert base64.b64decode(body["content_base64"], validate=True) == content[:max_bytes]
        assert body["truncated"] == (size > max_bytes)


def test_a_file_that_grows_while_it_is_read_is_read_to_where_it_was(shared_box: Box) -> None:
    stop = threading.Event()
    path = shared_box.workspace / "growing"
    path.write_bytes(b"")

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            for _ in range(20_000):
                file.write(b"0123456789" * 100)
                if stop.is_set():
                    break

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        for _ in range(20):
            body = shared_box.read("growing", max_bytes=2 * PIECE).json()
            content = base64.b64decode(body["content_base64"], validate=True)
            assert content == (b"0123456789" * (len(content) // 10 + 1))[: len(content)]
    finally:
        stop.set()
        thread.join()


def test_a_large_read_takes_no_memory(data_dir: Path) -> None:
    daemon = start_daemon(LocalOptions(data_dir=data_dir, pool_size=0))
    try:
        with boxes(daemon) as make:
            box = make()
            box.run("truncate -s 500M sparse")
            assert box.read("sparse", max_bytes=3 * PIECE).json()["truncated"] is True
            before = memory_of(daemon.pid)
            content = box.read("sparse", max_bytes=60 * MIB).json()["content_base64"]
            assert len(content) == 80 * MIB
            assert memory_of(daemon.pid) - before < 24 * MIB
    finally:
        daemon.stop()
