"""A process that somebody waits for."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from typing import Any

import httpx
import pytest

from tests.local.box import until
from tests.local.processes.beside import Beside, opened
from tests.local.processes.stand import StandDaemon
from tests.processes import has_ended

KEY = {"Idempotency-Key": "0123456789abcdef"}


def test_status_and_outputs_come_apart(beside: Beside) -> None:
    result = beside.run(args=["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result["exit_code"], result["signal"], result["end"]) == (3, None, "exited")
    assert (result["stdout"], result["stderr"]) == (b"out\n", b"err\n")
    assert (result["stdout_bytes"], result["stderr_bytes"], result["truncated"]) == (4, 4, False)


def test_a_signal_has_its_name(beside: Beside) -> None:
    result = beside.run(cmd="kill -KILL $$")
    assert (result["exit_code"], result["signal"], result["end"]) == (137, "SIGKILL", "signal")


def test_environment_and_directory_are_as_asked(beside: Beside, stand: StandDaemon) -> None:
    asked: dict[str, Any] = {"env": {"A": "1 2", "TMPDIR": None}, "cwd": "sub"}
    (stand.manager.get(beside.id).tree.workspace / "sub").mkdir()
    result = beside.run(args=["sh", "-c", "env; echo at $(basename $(pwd))"], **asked)
    lines = result["stdout"].decode().splitlines()
    assert {"A=1 2", "TERM=dumb", "USER=sandbox", "at sub"} <= {*lines}
    assert not [line for line in lines if line.startswith("TMPDIR=")]
    assert stand.sandboxes[-1].programs[-1].cwd.endswith(b"/sub")


def test_input_is_read_to_its_end_and_there_is_none_without(beside: Beside) -> None:
    data = bytes(range(256)) * 2000
    assert beside.run(args=["cat"])["stdout"] == b""
    assert beside.run(args=["cat"], input=base64.b64encode(data).decode())["stdout"] == data


def test_a_large_input_comes_as_a_form(beside: Beside) -> None:
    data = b"--\r\n\0" * 1_000_000
    form = {"data": {"request": json.dumps({"args": ["sha256sum"]})}, "files": {"input": data}}
    result = opened(beside.client.post(f"{beside.url}/run", **form).json())  # type: ignore[arg-type]
    assert result["stdout"].decode().split()[0] == hashlib.sha256(data).hexdigest()
    form["data"] = {"request": json.dumps({"args": ["head", "-c", "2"]})}
    result = opened(beside.client.post(f"{beside.url}/run", **form).json())  # type: ignore[arg-type]
    assert (result["stdout"], result["exit_code"]) == (b"--", 0)


def test_of_much_output_head_and_tail_are_kept(beside: Beside) -> None:
    script = "echo begin; head -c 3000000 /dev/zero; echo end; head -c 2000000 /dev/zero >&2"
    result = beside.run(args=["sh", "-c", script], keep_bytes=1000)
    assert result["truncated"]
    assert (result["stdout_bytes"], result["stderr_bytes"]) == (3_000_010, 2_000_000)
    assert result["stdout"].startswith(b"begin\n")
    assert result["stdout"].endswith(b"end\n")
    assert b"bytes left out ...]" in result["stdout"]
    assert len(result["stdout"]) <= 1100
    assert len(result["stderr"]) <= 1100


def test_nothing_is_left_after_a_deadline(beside: Beside) -> None:
    script = "trap '' TERM; sleep 60 & echo $!; echo err >&2; wait; wait"
    answer = beside.ask(args=["sh", "-c", script], timeout_ms=300)
    assert (answer.status_code, answer.json()["error_code"]) == (504, "COMMAND_TIMEOUT")
    result = opened(answer.json()["details"])
    assert (result["end"], result["exit_code"], result["signal"]) == ("timeout", 137, "SIGKILL")
    assert result["stderr"] == b"err\n"
    assert has_ended(int(result["stdout"]))


def test_after_an_end_of_its_own_the_background_goes_on(beside: Beside) -> None:
    result = beside.run(args=["sh", "-c", "(sleep 0.2; echo late; sleep 60) & echo $!"])
    pid = int(result["stdout"])
    assert result["end"] == "exited"
    assert not has_ended(pid)
    beside.destroy()
    until(lambda: has_ended(pid))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"args": ["no-such-program"]}, "CANNOT_START"),
        ({"args": ["true"], "cwd": "nowhere"}, "CANNOT_START"),
        ({"args": []}, "INVALID_REQUEST"),
        ({"args": [""]}, "INVALID_REQUEST"),
        ({"args": ["a\0b"]}, "INVALID_REQUEST"),
        ({"args": ["\ud800"]}, "INVALID_REQUEST"),
        ({"args": ["true"], "cmd": "true"}, "INVALID_REQUEST"),
        ({"args": [1]}, "INVALID_REQUEST"),
        ({"args": ["true"], "env": {"A=B": "1"}}, "INVALID_REQUEST"),
        ({"args": ["true"], "env": {"A": 1}}, "INVALID_REQUEST"),
        ({"args": ["true"], "env": {"A": "x\0"}}, "INVALID_REQUEST"),
        ({"args": ["true", "x" * 2_200_000]}, "INVALID_REQUEST"),
        ({"args": ["true"], "input": "*"}, "INVALID_REQUEST"),
        ({"args": ["true"], "timeout_ms": -1}, "INVALID_REQUEST"),
        ({"args": ["true"], "keep_bytes": "1"}, "INVALID_REQUEST"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(beside: Beside, body: dict[str, Any], code: str) -> None:
    # Escaped, since a lone surrogate has no UTF-8.
    answer = beside.client.post(f"{beside.url}/run", content=json.dumps(body).encode())
    assert (answer.status_code, answer.json()["error_code"]) == (400, code)
    assert beside.run(args=["true"])["exit_code"] == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError(11, "Resource temporarily unavailable"), 503), (OSError(12, "No memory"), 503)],
)
def test_what_is_used_up_is_said(beside: Beside, stand: StandDaemon, error: OSError, status: int) -> None:
    stand.sandboxes[-1].spawn_raises = error
    answer = beside.ask(args=["true"])
    assert (answer.status_code, answer.json()["error_code"]) == (status, "CAPACITY_EXCEEDED")
    assert str(error.strerror) in answer.json()["message"]


def test_the_same_key_runs_it_once(beside: Beside, stand: StandDaemon) -> None:
    before = len(stand.sandboxes[-1].programs)
    answers = [beside.ask(headers=KEY, args=["sh", "-c", "echo $$"]).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(stand.sandboxes[-1].programs) == before + 1
    assert beside.ask(headers=KEY, args=["sh", "-c", "echo 1"]).status_code == 400


def test_a_form_that_breaks_off_goes_on_with_its_key(beside: Beside, stand: StandDaemon) -> None:
    request = json.dumps({"args": ["sha256sum"]})
    data = b"x" * 300_000
    form = httpx.Request(
        "POST",
        "http://stand/",
        data={"request": request},
        files={"input": data},
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    body = form.read()

    def broken() -> Any:
        yield body[: len(body) // 2]
        raise ConnectionAbortedError

    headers = {"Content-Type": "multipart/form-data; boundary=b", **KEY}
    with pytest.raises(ConnectionAbortedError), stand.connect() as other:
        other.post(f"{beside.url}/run", content=broken(), headers=headers)
    result = opened(beside.client.post(f"{beside.url}/run", content=body, headers=headers).json())
    assert result["stdout"].decode().split()[0] == hashlib.sha256(data).hexdigest()
    assert len(stand.sandboxes[-1].programs) == 1


def test_a_client_that_leaves_leaves_nothing(beside: Beside, stand: StandDaemon) -> None:
    with stand.connect() as other, pytest.raises(httpx.ReadTimeout):
        other.post(f"{beside.url}/run", json={"args": ["sleep", "60"]}, timeout=0.3)
    (process,) = stand.sandboxes[-1].processes
    until(lambda: has_ended(process.pid))


def test_a_run_is_called_off_by_its_key(beside: Beside, stand: StandDaemon) -> None:
    answers: list[httpx.Response] = []

    def work() -> None:
        with stand.connect() as other:
            answers.append(other.post(f"{beside.url}/run", json={"args": ["sleep", "60"]}, headers=KEY))

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: stand.sandboxes[-1].processes)
    url = f"{beside.session_url}/executions/{KEY['Idempotency-Key']}"
    assert beside.client.delete(url).json() == {"cancelled": True}
    thread.join(20)
    assert (answers[0].status_code, answers[0].json()["end"]) == (200, "interrupted")


def test_a_client_hears_that_a_run_lives(beside: Beside) -> None:
    answer = beside.ask(headers={"X-Keep-Alive-Ms": "20"}, args=["sh", "-c", "sleep 0.2; echo x"])
    assert answer.text.startswith(": keep-alive\n\n")
    late = json.loads(answer.text.rpartition("data: ")[2])
    assert (late["status"], opened(late["body"])["stdout"]) == (200, b"x\n")


def test_a_run_whose_session_ends_says_so(beside: Beside, stand: StandDaemon) -> None:
    answers: list[httpx.Response] = []

    def work() -> None:
        with stand.connect() as other:
            answers.append(other.post(f"{beside.url}/run", json={"args": ["sleep", "60"]}))

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: stand.sandboxes[-1].processes)
    beside.destroy()
    thread.join(20)
    assert (answers[0].status_code, answers[0].json()["error_code"]) == (404, "SESSION_NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b--\r\n",
        b"--b\r\n\r\n{}\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="input"\r\n\r\nx\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="request"\r\n\r\n{"args": ["true"]}\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="request"\r\n\r\nnothing\r\n--b--\r\n',
        b"--b\r\nA: " + b"x" * 40_000,
        b"\xff" * 100,
    ],
)
def test_a_broken_form_is_refused(beside: Beside, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = beside.client.post(f"{beside.url}/run", content=body, headers=headers)
    assert answer.status_code in {400, 431}
    assert answer.json()["error_code"] == "INVALID_REQUEST"
