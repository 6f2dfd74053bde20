"""Processes that a client comes back to: output, input, signals, ends."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import httpx
import pytest

from sandkasten.local.endings import JobEnd
from tests.local.box import until
from tests.local.processes.beside import Beside, Output
from tests.local.processes.stand import StandDaemon
from tests.processes import has_ended


def test_output_comes_as_it_is_printed_and_again_from_a_position(beside: Beside) -> None:
    process = beside.start(args=["sh", "-c", "echo one; read x; echo $x >&2; exit 4"], stdin=True)
    with beside.reading(process) as found:
        name, position, _data = next(found)
        assert (name, position) == ("stdout", 4)
        beside.feed(process, b"two\n", 0)
        assert next(found)[:2] == ("stderr", 8)
        name, position, done = next(found)
        assert (name, position, done["exit_code"], done["end"]) == ("done", 8, 4, "exited")
        assert (done["stdout_bytes"], done["stderr_bytes"]) == (4, 4)
    for begin, rest in ((0, b"one\n"), (2, b"e\n"), (4, b""), (6, b"")):
        output = beside.output(process, begin)
        assert output.data["stdout"] == rest
        assert output.data["stderr"] == b"two\n"[max(0, begin - 4) :]
    answer = beside.client.get(f"{beside.url}/{process}/output", headers={"Last-Event-ID": "9"})
    assert answer.status_code == 400


def test_facts_are_those_of_the_process(beside: Beside) -> None:
    process = beside.start(args=["sleep", "60"], cwd=".")
    info = beside.info(process)
    assert (info["args"], info["running"], info["terminal"], info["result"]) == (
        ["sleep", "60"],
        True,
        None,
        None,
    )
    assert not has_ended(info["pid"])
    listed = beside.client.get(beside.url).json()["processes"]
    assert listed == [info]
    ended = beside.end(process)
    assert (ended["running"], ended["result"]["end"], ended["result"]["signal"]) == (
        False,
        "interrupted",
        "SIGTERM",
    )
    assert has_ended(info["pid"])
    assert beside.end(process) == ended
    assert beside.client.get(beside.url).json()["processes"] == [ended]


def test_starting_twice_starts_once(beside: Beside, stand: StandDaemon) -> None:
    body: dict[str, Any] = {"id": os.urandom(16).hex(), "args": ["sleep", "60"]}
    infos = [beside.client.post(beside.url, json=body).json() for _ in range(2)]
    assert infos[0] == infos[1]
    assert len(stand.sandboxes[-1].programs) == 1
    assert beside.client.post(beside.url, json=body | {"args": ["true"]}).status_code == 400


def test_a_program_that_cannot_be_started_is_no_process(beside: Beside) -> None:
    body: dict[str, Any] = {"id": os.urandom(16).hex(), "args": ["no-such-program"]}
    for _ in range(2):
        answer = beside.client.post(beside.url, json=body)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "CANNOT_START")
    assert beside.client.get(beside.url).json() == {"processes": []}


def test_input_has_positions_so_that_it_can_be_repeated(beside: Beside) -> None:
    process = beside.start(args=["cat"], stdin=True)
    assert beside.feed(process, b"hello ", 0).json() == {"position": 6}
    assert beside.feed(process, b"hello you", 0).json() == {"position": 9}
    hole = beside.feed(process, b"x", 99)
    assert (hole.status_code, hole.json()["error_code"]) == (409, "CONFLICT")
    assert beside.feed(process, b"!", 9, close=True).json() == {"position": 10}
    assert beside.feed(process, b"!", 9, close=True).json() == {"position": 10}
    assert beside.output(process).data["stdout"] == b"hello you!"
    late = beside.feed(process, b"more", 10)
    assert (late.status_code, late.json()["error_code"]) == (409, "INPUT_CLOSED")


def test_a_process_that_never_reads_its_input_costs_nothing(beside: Beside, stand: StandDaemon) -> None:
    process = beside.start(args=["sleep", "60"], stdin=True)
    data = b"x" * 300_000
    answers: list[httpx.Response] = []

    def feed() -> None:
        with stand.connect() as other:
            answers.append(other.put(f"{beside.url}/{process}/input?offset=0", content=data))

    thread = threading.Thread(target=feed)
    thread.start()
    handle = stand.manager.get(beside.id).processes.get(process)
    assert handle.job.streams is not None
    stdin = handle.job.streams.input
    assert stdin is not None
    until(lambda: stdin.position)
    beside.signal(process, "KILL")
    thread.join(20)
    assert (answers[0].status_code, answers[0].json()["error_code"]) == (409, "INPUT_CLOSED")


def test_without_input_there_is_an_end_at_once(beside: Beside) -> None:
    process = beside.start(args=["cat"])
    assert beside.wait(process)["exit_code"] == 0
    assert beside.feed(process, b"x", 0).json()["error_code"] == "INPUT_CLOSED"


def test_a_slow_reader_gets_everything_and_the_process_waits(beside: Beside, stand: StandDaemon) -> None:
    size = 3_000_000
    process = beside.start(args=["sh", "-c", f"head -c {size} /dev/zero; echo end >&2"])
    handle = stand.manager.get(beside.id).processes.get(process)
    output = Output()
    with beside.reading(process) as found:
        for event in found:
            output.take(*event)
            assert handle.tape.size_bytes < 2_000_000
    assert (len(output.data["stdout"]), output.data["stderr"], output.missed_bytes) == (size, b"end\n", 0)


def test_who_only_waits_for_the_end_does_not_hold_it_up(beside: Beside) -> None:
    process = beside.start(args=["sh", "-c", "head -c 6000000 /dev/zero; echo end"])
    result = beside.wait(process)
    assert (result["exit_code"], result["stdout_bytes"]) == (0, 6_000_004)
    output = beside.output(process)
    assert output.missed_bytes > 4_000_000
    assert output.missed_bytes + len(output.data["stdout"]) == 6_000_004
    assert output.data["stdout"].endswith(b"end\n")


def test_waiting_has_an_end(beside: Beside) -> None:
    process = beside.start(args=["sleep", "60"])
    url = f"{beside.url}/{process}/result"
    for wait_ms in (0, 50):
        assert beside.client.get(url, params={"timeout_ms": wait_ms}).json()["running"]
    headers = {"X-Keep-Alive-Ms": "20"}
    text = beside.client.get(url, params={"timeout_ms": 200}, headers=headers).text
    assert text.startswith(": keep-alive\n\n")
    assert '"running":true' in text


@pytest.mark.parametrize("signal", ["TERM", "SIGTERM", "sigterm", 15])
def test_signals_reach_the_group(beside: Beside, signal: str | int) -> None:
    process = beside.start(args=["sh", "-c", "trap 'echo got; exit 7' TERM; echo on; sleep 60 & wait"])
    with beside.reading(process) as found:
        next(found)
        assert beside.signal(process, signal).json() == {"delivered": True}
    assert beside.wait(process)["exit_code"] == 7
    assert beside.signal(process, signal).json() == {"delivered": False}


@pytest.mark.parametrize(
    "signal", ["NIX", "", "SIG", "SIG_DFL", 0, -1, 65, 10**30, None, True, [], "RTMIN+99"]
)
def test_signals_that_do_not_exist_are_refused(beside: Beside, signal: Any) -> None:
    process = beside.start(args=["true"])
    assert beside.signal(process, signal).status_code == 400


def test_what_a_process_left_is_ended_with_it(beside: Beside) -> None:
    process = beside.start(args=["sh", "-c", "sleep 60 & echo $!"])
    pid = int(beside.output(process).data["stdout"])
    assert not has_ended(pid)
    assert beside.end(process)["result"]["end"] == "exited"
    assert has_ended(pid)


def test_a_deadline_ends_all_of_it(beside: Beside) -> None:
    process = beside.start(args=["sh", "-c", "sleep 60 & echo $!; wait"], timeout_ms=300)
    output = beside.output(process)
    assert output.done is not None
    assert output.done["end"] == "timeout"
    assert has_ended(int(output.data["stdout"]))


def test_ending_by_force_asks_nobody(beside: Beside) -> None:
    process = beside.start(args=["sh", "-c", "trap '' TERM; echo on; sleep 60; sleep 60"])
    with beside.reading(process) as found:
        next(found)
    result = beside.end(process, force="true")["result"]
    assert (result["end"], result["signal"]) == ("interrupted", "SIGKILL")


def test_a_full_disk_ends_all_processes(beside: Beside, stand: StandDaemon) -> None:
    process = beside.start(args=["sh", "-c", "trap '' TERM; sleep 60; sleep 60"])
    session = stand.manager.get(beside.id)
    asyncio.run_coroutine_threadsafe(session.processes.stop_all(JobEnd.OVER_QUOTA), stand.loop).result(20)
    assert beside.wait(process)["end"] == "disk_full"


def test_a_stream_whose_session_ends_says_so(beside: Beside, stand: StandDaemon) -> None:
    process = beside.start(args=["sleep", "60"])
    output = Output()
    with beside.reading(process) as found, stand.connect() as other:
        other.delete(beside.session_url)
        for event in found:
            output.take(*event)
    assert output.error is not None
    assert output.error["error_code"] == "SESSION_NOT_FOUND"


def test_handles_are_bounded(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandkasten.local.sessions.processes.table.MAX_HANDLES", 3)
    for _ in range(3):
        beside.start(args=["sleep", "60"])
    answer = beside.client.post(beside.url, json={"id": os.urandom(16).hex(), "args": ["true"]})
    assert (answer.status_code, answer.json()["error_code"]) == (429, "CAPACITY_EXCEEDED")
    assert beside.run(args=["true"])["exit_code"] == 0


def test_a_process_that_ended_long_ago_is_gone(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandkasten.local.sessions.processes.table.ENDED_MAX", 2)
    started = [beside.start(args=["true"]) for _ in range(3)]
    for process in started[1:]:
        beside.wait(process)
    answer = until(
        lambda: (found := beside.client.get(f"{beside.url}/{started[0]}")).status_code == 404 and found
    )
    assert answer.json()["error_code"] == "PROCESS_NOT_FOUND"
    again = beside.client.post(beside.url, json={"id": started[0], "args": ["true"]})
    assert (again.status_code, again.json()["error_code"]) == (410, "RESULT_GONE")


@pytest.mark.parametrize("name", ["", "x", "0" * 31, "0" * 33, "A" * 32, "../" * 5, "0" * 31 + "\n"])
def test_ids_are_as_they_must_be(beside: Beside, name: str) -> None:
    assert beside.client.post(beside.url, json={"id": name, "args": ["true"]}).status_code == 400


def test_an_unknown_process_is_not_found(beside: Beside) -> None:
    for method, end in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/output"),
        ("GET", "/result"),
        ("PUT", "/input"),
    ):
        answer = beside.client.request(method, f"{beside.url}/{'0' * 32}{end}")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "PROCESS_NOT_FOUND")
