"""Python that remembers in real sandboxes, as the wire has it: what no played interpreter can show."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.box import connect, until
from tests.local.contexts.remembering import Remembering
from tests.local.processes.beside import events
from tests.processes import processes_with
from tests.soon import soon

KEY = {"Idempotency-Key": "fedcba9876543210"}


@pytest.fixture(scope="module")
def shared(daemon: LocalDaemon) -> Iterator[Remembering]:
    """A session that the tests share; each takes contexts of its own."""
    with connect(daemon) as client:
        session = Remembering(client)
        yield session
        session.destroy()


def test_the_extension_is_listed(shared: Remembering) -> None:
    assert "python" in shared.client.get("/healthz").json()["extensions"]


def test_state_stays_in_its_context_and_outputs_come_apart(shared: Remembering) -> None:
    shared.python("x = 42")
    result = shared.python("import sys; print('out'); print('err', file=sys.stderr); x + 1")
    assert (result["stdout"], result["stderr"]) == ("out\n", "err\n")
    (value,) = result["results"]
    assert (value["data"]["text/plain"], value["is_value"]) == ("43", True)
    assert shared.python("x", context="other")["error"]["name"] == "NameError"
    names = [row["name"] for row in shared.client.get(f"{shared.session_url}/python").json()["contexts"]]
    assert {"default", "other"} <= {*names}
    variables = shared.client.get(f"{shared.session_url}/python/default/variables").json()["variables"]
    assert [(row["type"], row["repr"]) for row in variables if row["name"] == "x"] == [("int", "42")]


def test_files_and_environment_are_those_of_the_session(shared: Remembering) -> None:
    shared.client.post(f"{shared.session_url}/exec", json={"cmd": "echo 7 >seven; echo 'y = 8' >eight.py"})
    assert shared.value("import os, eight; os.getcwd(), open('seven').read(), eight.y") == (
        "('/workspace', '7\\n', 8)"
    )
    assert shared.value("(os.getuid(), os.environ['HOME'])") == "(1000, '/home/sandbox')"


def test_an_endless_loop_ends_at_its_deadline_and_the_variables_live(shared: Remembering) -> None:
    shared.python("z = 1")
    with soon():
        answer = shared.ask_python("print('begun', flush=True)\nwhile True: pass", timeout_ms=200)
    assert (answer.status_code, answer.json()["error_code"]) == (504, "COMMAND_TIMEOUT")
    details = answer.json()["details"]
    assert (details["stdout"], details["context_lost"]) == ("begun\n", False)
    assert shared.value("z") == "1"


def test_an_interrupt_reaches_code_and_the_programs_that_it_started(shared: Remembering) -> None:
    results: list[dict[str, Any]] = []
    code = "import subprocess\nprint('begun', flush=True)\nsubprocess.run(['sleep', '7801'])"
    thread = threading.Thread(target=lambda: results.append(shared.python(code, context="sleepy")))
    thread.start()
    until(lambda: len(processes_with("sleep\0" + "7801")))
    answer = shared.client.post(f"{shared.session_url}/python/sleepy/interrupt")
    assert answer.json() == {"interrupted": True}
    thread.join(20)
    assert (results[0]["end"], results[0]["error"]["name"]) == ("interrupted", "KeyboardInterrupt")
    until(lambda: not processes_with("sleep\0" + "7801"))
    answer = shared.client.post(f"{shared.session_url}/python/sleepy/interrupt")
    assert answer.json() == {"interrupted": False}


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("import os; print('bye', flush=True); os._exit(3)", "exited"),
        ("import os; print('bye', flush=True); os.kill(os.getpid(), 9)", "signal"),
        ("import ctypes; print('bye', flush=True); ctypes.string_at(0)", "signal"),
    ],
)
def test_an_interpreter_that_ends_says_so_and_the_next_call_works(
    shared: Remembering, code: str, end: str
) -> None:
    result = shared.python(code, context="mortal")
    assert (result["end"], result["context_lost"], result["stdout"]) == (end, True, "bye\n")
    result = shared.python("1", context="mortal")
    assert (result["restarted"], result["end"]) == (True, "completed")


def test_an_interpreter_that_ends_takes_along_all_that_it_started(shared: Remembering) -> None:
    code = "import os, subprocess\nsubprocess.Popen(['setsid', 'sleep', '7811'])\nos._exit(0)"
    assert shared.python(code, context="mortal")["end"] == "exited"
    until(lambda: not processes_with("sleep\0" + "7811"))


def test_a_hundred_megabytes_are_bounded(shared: Remembering) -> None:
    result = shared.python("for _ in range(100): print('x' * 1_000_000)")
    assert result["truncated"]
    assert "bytes left out" in result["stdout"]
    assert len(result["stdout"]) <= 1024 * 1024 + 100


def test_code_that_comes_twice_runs_once(shared: Remembering) -> None:
    shared.python("n = 0")
    first = shared.ask_python("n += 1; n", headers=KEY).json()
    assert shared.ask_python("n += 1; n", headers=KEY).json() == first
    assert shared.value("n") == "1"
    assert shared.ask_python("n += 2", headers=KEY).status_code == 400


def test_a_stream_has_all_in_its_order_and_goes_on_where_it_was(shared: Remembering) -> None:
    headers = {"Accept": "text/event-stream", "Idempotency-Key": "fedcba9876543211"}
    body = {"code": "print('a')\nimport sys\nprint('b', file=sys.stderr)\n'c'"}

    def streamed(position: int) -> list[tuple[str, int, dict[str, Any]]]:
        more = headers | {"Last-Event-ID": str(position)}
        with shared.client.stream(
            "POST", f"{shared.session_url}/python", json=body, headers=more
        ) as response:
            return list(events(response))

    found = streamed(0)
    assert [name for name, _number, _data in found if name != "stderr"] == ["stdout", "result", "done"]
    assert found[-1][2]["end"] == "completed"
    assert streamed(found[0][1]) == found[1:]
    assert streamed(found[-1][1]) == found[-1:]


def test_an_image_without_python_says_so_in_one_sentence(daemon: LocalDaemon) -> None:
    with connect(daemon) as client:
        session = Remembering(client, env={"PATH": "/nowhere"})
        answer = session.ask_python("1")
        session.destroy()
    assert (answer.status_code, answer.json()["error_code"]) == (400, "CANNOT_START")
    assert "has no Python" in answer.json()["message"]


def test_memory_that_is_used_up_is_a_result(daemon: LocalDaemon) -> None:
    with connect(daemon) as client:
        session = Remembering(client, limits={"memory_bytes": "64m"})
        is_bounded = "memory_limit" in client.get(f"{session.session_url}/stats").json()
        result = session.python("x = [b'x' * 1_000_000 for _ in range(1000)]")
        after = session.python("1")
        session.destroy()
    # Without a control group Python is refused memory, and reports that itself.
    if is_bounded:
        assert (result["end"], result["context_lost"], after["restarted"]) == ("out_of_memory", True, True)
    else:
        assert result["error"]["name"] == "MemoryError"
    assert after["end"] == "completed"


def test_few_processes_are_enough_and_all_of_them_are_the_users(daemon: LocalDaemon) -> None:
    """Without a spare interpreter, a small limit has room for programs."""
    with connect(daemon) as client:
        session = Remembering(client, limits={"processes": 12})
        code = "import subprocess, sys\nlen([subprocess.Popen(['sleep', '7821']) for _ in range(6)])"
        value = session.value(code)
        full = session.value("[subprocess.Popen(['sleep', '7821']) for _ in range(30)]")
        assert session.value("1 + 1") == "2"
        session.destroy()
    assert value == "6"
    assert full is None
    until(lambda: not processes_with("sleep\0" + "7821"))


def test_the_end_of_the_session_is_the_end_of_its_interpreters(daemon: LocalDaemon) -> None:
    with connect(daemon) as client:
        session = Remembering(client)
        answers: list[httpx.Response] = []
        code = "import subprocess; subprocess.Popen(['sleep', '7831'])\nwhile True: pass"
        thread = threading.Thread(target=lambda: answers.append(session.ask_python(code)))
        thread.start()
        until(lambda: processes_with("sleep\0" + "7831"))
        session.destroy()
        thread.join(20)
    assert answers[0].json()["error_code"] == "SESSION_NOT_FOUND"
    assert not processes_with("sleep\0" + "7831")


def test_the_disks_share_holds_and_variables_live(daemon: LocalDaemon) -> None:
    with connect(daemon) as client:
        session = Remembering(client, limits={"workspace_bytes": "2m"})
        code = (
            "import time\nx = 5\nwhile True:\n  open('big', 'ab').write(b'0' * 1_000_000)\n  time.sleep(0.05)"
        )
        answer = session.ask_python(code)
        session.python("import os; os.unlink('big')")
        value = session.value("x")
        session.destroy()
    assert (answer.status_code, answer.json()["error_code"]) == (507, "INSUFFICIENT_STORAGE")
    assert answer.json()["details"]["end"] == "disk_full"
    assert value == "5"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": 5},
        {"code": "1", "context": "a/b"},
        {"code": "1", "context": ""},
        {"code": "1", "context": 5},
        {"code": "1", "timeout_ms": -1},
        {"code": "1", "keep_bytes": "x"},
        {"code": "x" * 1_100_000},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_what_cannot_be_meant_is_refused(shared: Remembering, body: dict[str, Any]) -> None:
    answer = shared.client.post(f"{shared.session_url}/python", json=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_REQUEST")


def test_what_ran_is_counted_by_its_outcome(shared: Remembering) -> None:
    def counted(outcome: str) -> int:
        lines = shared.client.get("/metrics").text.splitlines()
        name = f'sandkasten_python_total{{outcome="{outcome}"}} '
        return int(next(line for line in lines if line.startswith(name)).removeprefix(name))

    before = counted("ok"), counted("failed")
    shared.python("1")
    shared.python("1 / 0")
    assert (counted("ok"), counted("failed")) == (before[0] + 1, before[1] + 1)
