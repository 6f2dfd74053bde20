"""Requests that come twice, and streams that come back, as the wire has them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import pytest

from sandkasten.local.api.keys import Keys
from sandkasten.local.errors import CalledOffError
from sandkasten.local.launch import LocalDaemon
from sandkasten.local.sessions.command import ShellCommand
from sandkasten.local.sessions.execution import Execution, Replay
from tests.soon import soon

KEY = {"Idempotency-Key": "0123456789abcdef"}


@pytest.fixture
def http(daemon: LocalDaemon) -> Iterator[httpx.Client]:
    target = daemon.target
    with httpx.Client(
        base_url=target.base_url,
        transport=httpx.HTTPTransport(uds=target.socket_path, verify=False),
        headers={"Authorization": f"Bearer {target.api_key}"},
        timeout=30,
    ) as client:
        yield client


@pytest.fixture
def session(http: httpx.Client) -> Iterator[str]:
    path = f"/v1/sessions/{http.post('/v1/sessions').json()['id']}"
    yield path
    http.delete(path)


def events(response: httpx.Response) -> list[dict[str, str]]:
    blocks = response.read().decode().split("\n\n")
    return [
        dict(line.split(": ", 1) for line in block.split("\n"))
        for block in blocks
        if block[:1] != ":" and block
    ]


def test_a_repeated_command_is_answered_and_not_run_again(http: httpx.Client, session: str) -> None:
    body = {"cmd": "echo x >>log; wc -l <log"}
    first = http.post(f"{session}/exec", json=body, headers=KEY)
    again = http.post(f"{session}/exec", json=body, headers=KEY)
    assert first.json()["output"].strip() == "1"
    assert again.json() == first.json()
    assert http.post(f"{session}/exec", json=body).json()["output"].strip() == "2"


def test_who_asks_while_it_runs_gets_the_same_result(http: httpx.Client, session: str) -> None:
    body, found = {"cmd": "sleep 0.5; echo x >>log; wc -l <log"}, []
    ask = lambda: found.append(http.post(f"{session}/exec", json=body, headers=KEY).json())  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer["output"].strip() for answer in found} == {"1"}
    assert len(found) == 4


def test_a_key_stands_for_one_request_only(http: httpx.Client, session: str) -> None:
    http.post(f"{session}/exec", json={"cmd": "true"}, headers=KEY)
    other = http.post(f"{session}/exec", json={"cmd": "false"}, headers=KEY)
    assert (other.status_code, other.json()["error_code"]) == (400, "INVALID_REQUEST")
    stream = http.post(f"{session}/exec/stream", json={"cmd": "true"}, headers=KEY)
    assert stream.status_code == 400


@pytest.mark.parametrize("key", ["", "short", "x" * 129, "0123456789abcde/"])
def test_what_cannot_be_a_key_is_refused(http: httpx.Client, session: str, key: str) -> None:
    answer = http.post(f"{session}/exec", json={"cmd": "true"}, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_REQUEST")


def test_a_timeout_is_told_again_too(http: httpx.Client, session: str) -> None:
    body = {"cmd": "echo begun; sleep 20", "timeout_ms": 200}
    first, again = (http.post(f"{session}/exec", json=body, headers=KEY) for _ in range(2))
    assert (first.status_code, first.json()["details"]["output"]) == (504, "begun\n")
    assert again.json() == first.json()


def test_one_key_makes_one_session(http: httpx.Client) -> None:
    first, again = (http.post("/v1/sessions", json={}, headers=KEY) for _ in range(2))
    other = http.post("/v1/sessions", json={})
    assert first.json()["id"] == again.json()["id"] != other.json()["id"]
    for answer in (first, other):
        http.delete(f"/v1/sessions/{answer.json()['id']}")


def test_a_session_that_nobody_waits_for_any_more_is_ended_by_its_key(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": "aaaabbbbccccdddd"}
    made = http.post("/v1/sessions", json={}, headers=headers).json()["id"]
    assert http.delete("/v1/creations/aaaabbbbccccdddd").json() == {"cancelled": True}
    assert http.get(f"/v1/sessions/{made}").status_code == 404
    assert http.delete("/v1/creations/aaaabbbbccccdddd").json() == {"cancelled": False}
    assert http.delete("/v1/creations/none-of-this-name").json() == {"cancelled": False}


def test_a_key_whose_request_failed_may_be_used_again(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": "fedcba9876543210"}
    answers = [http.post("/v1/sessions", json={"image": "none-such"}, headers=headers) for _ in range(2)]
    assert [answer.json()["error_code"] for answer in answers] == ["INVALID_IMAGE"] * 2


def test_a_stream_can_be_read_again_from_any_of_its_events(http: httpx.Client, session: str) -> None:
    body = {"cmd": "for i in 1 2 3; do echo line é $i; sleep 0.05; done"}
    first = events(http.post(f"{session}/exec/stream", json=body, headers=KEY))
    assert [event["event"] for event in first] == ["chunk"] * (len(first) - 1) + ["done"]
    for seen in range(len(first)):
        position = {"Last-Event-ID": first[seen]["id"]}
        again = events(http.post(f"{session}/exec/stream", json=body, headers=KEY | position))
        assert (text_of(again), again[-1]["id"]) == (text_of(first[seen + 1 :]), first[-1]["id"])
        assert again[-1]["event"] == "done"  # the end itself is told as often as one asks


def text_of(some: list[dict[str, str]]) -> str:
    return "".join(json.loads(event["data"]).get("chunk", "") for event in some)


def test_a_stream_that_is_not_known_cannot_be_gone_on_with(http: httpx.Client, session: str) -> None:
    headers = {"Idempotency-Key": "aaaaaaaaaaaaaaaaaaaa", "Last-Event-ID": "7"}
    answer = http.post(f"{session}/exec/stream", json={"cmd": "touch ran"}, headers=headers)
    assert answer.status_code == 400
    assert http.post(f"{session}/exec", json={"cmd": "ls"}).json()["output"] == ""


@pytest.mark.parametrize("position", ["-1", "x", "1" * 30])
def test_a_position_that_cannot_be_is_refused(http: httpx.Client, session: str, position: str) -> None:
    headers = KEY | {"Last-Event-ID": position}
    assert http.post(f"{session}/exec/stream", json={"cmd": "true"}, headers=headers).status_code == 400


def test_a_command_can_be_called_off_by_its_key(http: httpx.Client, session: str) -> None:
    with http.stream(
        "POST", f"{session}/exec/stream", json={"cmd": "echo go; sleep 100"}, headers=KEY
    ) as stream:
        next(stream.iter_raw())
        called_off = http.delete(f"{session}/executions/{KEY['Idempotency-Key']}")
        assert called_off.json() == {"cancelled": True}
    with soon():
        left = http.post(f"{session}/exec", json={"cmd": "pgrep -x sleep | wc -l"}).json()["output"]
    assert left.strip() == "0"
    assert http.delete(f"{session}/executions/{KEY['Idempotency-Key']}").json() == {"cancelled": False}


def test_a_command_with_a_key_outlives_its_connection(http: httpx.Client, session: str) -> None:
    body = {"cmd": "echo go; sleep 0.5; echo done >>log"}
    with http.stream("POST", f"{session}/exec/stream", json=body, headers=KEY) as stream:
        next(stream.iter_raw())
    assert http.post(f"{session}/exec", json={"cmd": "cat log"}).json()["output"] == "done\n"


def test_a_command_without_a_key_ends_with_its_connection(http: httpx.Client, session: str) -> None:
    body = {"cmd": "echo go; sleep 0.5; echo done >>log"}
    for _ in range(30):  # the interrupt comes while `sleep` is being started
        with http.stream("POST", f"{session}/exec/stream", json=body) as stream:
            next(stream.iter_raw())
    assert http.post(f"{session}/exec", json={"cmd": "cat log 2>/dev/null"}).json()["output"] == ""


def test_a_command_that_is_called_off_while_it_waits_does_not_make_its_session_gone(
    http: httpx.Client, session: str
) -> None:
    with busy(http, session):
        response = waiting(http, f"{session}/exec", {"cmd": "touch ran"}, KEY)
        assert http.delete(f"{session}/executions/{KEY['Idempotency-Key']}").json() == {"cancelled": True}
        (found,) = events(response)
    answer = json.loads(found["data"])
    assert (answer["status"], answer["body"]["error_code"]) == (409, "CANCELLED")
    assert http.post(f"{session}/exec", json={"cmd": "ls"}).json()["output"] == "go\n"


# --- commands that wait in line

UNTIL_GO = "until [ -e go ]; do sleep 0.02; done"
OFTEN = {"X-Keep-Alive-Ms": "30"}


@contextmanager
def busy(http: httpx.Client, session: str) -> Iterator[None]:
    """Keep a session busy during the block."""
    body = {"cmd": f"echo begun; {UNTIL_GO}"}
    with http.stream("POST", f"{session}/exec/stream", json=body) as stream:
        output = stream.iter_raw()
        next(output)
        yield
        http.post(f"{session}/fs/write", json={"path": "go", "text": "x"}).raise_for_status()
        list(output)


def waiting(http: httpx.Client, path: str, body: dict[str, Any], key: dict[str, str]) -> httpx.Response:
    """Begin to wait for a command."""
    return http.send(http.build_request("POST", path, json=body, headers=OFTEN | key), stream=True)


@pytest.mark.parametrize("kind", ["exec", "exec/stream"])
@pytest.mark.parametrize("key", [{}, KEY])
def test_a_command_that_waits_in_line_is_not_left_in_silence(
    http: httpx.Client, session: str, kind: str, key: dict[str, str]
) -> None:
    body = {"cmd": "echo ran", "timeout_ms": 1000}
    with busy(http, session):
        response = waiting(http, f"{session}/{kind}", body, key)
        lines = response.iter_lines()
        assert [next(lines) for _ in range(6)] == [": keep-alive", ""] * 3
    found = [line for line in lines if line and not line.startswith(":")]
    if kind == "exec":
        assert found[:2] == ["id: 0", "event: answer"]
        answer = json.loads(found[2].removeprefix("data: "))
        assert (answer["status"], answer["body"]["output"], answer["body"]["exit_code"]) == (200, "ran\n", 0)
    else:
        assert [line for line in found if line.startswith("event")] == ["event: chunk", "event: done"]


def test_what_goes_wrong_late_is_answered_in_the_stream_and_what_is_quick_without_one(
    http: httpx.Client, session: str
) -> None:
    for cmd, status, code in (
        ("sleep 30", 504, "COMMAND_TIMEOUT"),
        ("sleep 0.1; kill -9 1; kill -9 -1; exit", 200, None),
    ):
        body = {"cmd": cmd, "timeout_ms": 300}
        (found,) = events(http.post(f"{session}/exec", json=body, headers=OFTEN))
        answer = json.loads(found["data"])
        assert (answer["status"], answer["body"].get("error_code")) == (status, code)
    quick = http.post(f"{session}/exec", json={"cmd": "true"}, headers={"X-Keep-Alive-Ms": "15000"})
    assert quick.json()["exit_code"] == 0
    for wrong in ("", "0", "19", "1.5", "-1", "9" * 30):
        answer = http.post(f"{session}/exec", json={"cmd": "true"}, headers={"X-Keep-Alive-Ms": wrong})
        assert answer.json()["error_code"] == "INVALID_REQUEST"


def test_a_session_that_ends_answers_those_who_wait(http: httpx.Client, session: str) -> None:
    body = {"cmd": "sleep 30"}
    with http.stream("POST", f"{session}/exec", json=body, headers=OFTEN) as response:
        lines = response.iter_lines()
        next(lines)
        http.delete(session)
        (data,) = [line for line in lines if line.startswith("data: ")]
    answer = json.loads(data.removeprefix("data: "))
    assert (answer["status"], answer["body"]["error_code"]) == (404, "SESSION_NOT_FOUND")


@pytest.mark.parametrize("kind", ["exec", "exec/stream"])
def test_a_command_whose_client_left_the_line_does_not_run_and_one_who_comes_back_has_it_run_once(
    http: httpx.Client, session: str, kind: str
) -> None:
    body = {"cmd": "echo ran >>log; wc -l <log"}
    with busy(http, session):
        response = waiting(http, f"{session}/{kind}", body, KEY)
        next(response.iter_lines())
        response.close()
    assert http.post(f"{session}/exec", json={"cmd": "ls"}).json()["output"] == "go\n"
    for _ in range(2):
        again = http.post(f"{session}/{kind}", json=body, headers=KEY)
        assert again.is_success
    assert http.post(f"{session}/exec", json={"cmd": "cat log"}).json()["output"] == "ran\n"


# --- the pure parts


def test_a_replay_gives_what_follows_any_position() -> None:
    replay = Replay(1000)
    for text in ("ab", "é", "cd"):
        replay.add(text)
    whole = "abécd".encode()
    for position in (0, 1, 2, 4, 5, 6):
        assert "".join(str(piece.content) for piece in replay.after(position)).encode() == whole[position:]
        assert replay.missed_bytes(position) == 0


def test_a_replay_keeps_no_more_than_its_limit_and_says_what_is_gone() -> None:
    replay = Replay(10_000)
    for number in range(100):
        replay.add(f"{number:04}" * 1250)
    assert 10_000 <= replay.size_bytes < 15_000
    assert replay.missed_bytes(0) == replay.end - replay.size_bytes
    assert "".join(str(piece.content) for piece in replay.after(0)) == "0098" * 1250 + "0099" * 1250


def test_a_replay_of_tiny_pieces_weighs_little_more_than_they_do() -> None:
    replay = Replay(1_000_000)
    for _ in range(10_000):
        replay.add("ab")
    pieces = list(replay.after(0))
    assert len(pieces) < 10
    assert "".join(str(piece.content) for piece in pieces) == "ab" * 10_000


def test_a_replay_keeps_text_and_bytes_apart_and_in_their_order() -> None:
    replay = Replay(1000)
    for content in ("a", "b", b"\xff", b"\xfe", "c", b"", b"\x00"):
        replay.add(content)
    assert [piece.content for piece in replay.after(0)] == ["ab", b"\xff\xfe", "c", b"\0"]
    assert [piece.content for piece in replay.after(3)] == [b"\xfe", "c", b"\0"]
    assert replay.end == 6


def test_keys_are_bounded_and_those_that_had_to_go_are_refused() -> None:
    keys = Keys[int]()
    for number in range(5000):
        keys.add("s", f"{number:016}", b"r", number)
        keys.end("s", f"{number:016}", 1)
    assert keys.find("s", f"{4999:016}", b"r") == 4999
    with pytest.raises(Exception, match="done already"):
        keys.find("s", f"{0:016}", b"r")


class Runner:
    """A runner that ignores the reports of a command."""

    def output_taken(self) -> None:
        pass

    def on_abandoned(self, job: ShellCommand) -> None:
        job.finish(None, CalledOffError("nobody waited"))


async def left_by_all(*, has_key: bool) -> Execution:
    execution = Execution(ShellCommand("x", 1000, Runner()), Replay(10), raw=False, has_key=has_key)
    execution.job.started_at = 1.0
    execution.listen().leave()
    return execution


async def test_a_command_with_a_key_is_stopped_when_nobody_came_back_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandkasten.local.sessions.execution.GRACE_SECONDS", 0.1)
    execution = await left_by_all(has_key=True)
    assert not execution.job.abandoned
    await anyio.sleep(0.3)
    assert execution.job.abandoned


async def test_a_command_whose_client_came_back_in_time_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandkasten.local.sessions.execution.GRACE_SECONDS", 0.1)
    execution = await left_by_all(has_key=True)
    execution.listen()
    await anyio.sleep(0.3)
    assert not execution.job.abandoned


async def test_a_command_without_a_key_is_stopped_at_once() -> None:
    assert (await left_by_all(has_key=False)).job.abandoned
