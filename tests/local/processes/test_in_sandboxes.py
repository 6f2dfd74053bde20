"""Processes beside the shell of real sandboxes: what no stand-in can show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.box import connect, until
from tests.local.processes.beside import Beside, opened
from tests.local.processes.test_terminals import BASH, typing


@pytest.fixture
def inside(daemon: LocalDaemon) -> Iterator[Beside]:
    """A session of the real daemon."""
    with connect(daemon) as client:
        session = Beside(client)
        yield session
        session.destroy()


def programs(inside: Beside, word: str) -> str:
    """Return the processes of the session whose command line has a word in it."""
    own = f"{word[:-1]}[{word[-1]}]"  # which is not found in the command line of the search
    body = {"cmd": f"grep -lz '{own}' /proc/[0-9]*/cmdline 2>/dev/null"}
    output: str = inside.client.post(f"{inside.session_url}/exec", json=body).json()["output"]
    return output


def test_the_extension_is_listed(inside: Beside) -> None:
    assert "processes" in inside.client.get("/healthz").json()["extensions"]


def test_a_process_shares_files_and_home_with_the_shell_but_not_its_state(inside: Beside) -> None:
    url = f"{inside.session_url}/exec"
    inside.client.post(url, json={"cmd": "echo 1 >/tmp/a; cd /; export B=2; umask 077"})
    result = inside.run(args=["sh", "-c", "cat /tmp/a; pwd; echo ${B-none}; id -u; echo $HOME"])
    assert result["stdout"].decode().split() == ["1", "/workspace", "none", "1000", "/home/sandbox"]
    assert inside.run(cmd="echo x >/dev/stderr")["stderr"] == b"x\n"


def test_nothing_is_left_of_double_forks_after_a_deadline(inside: Beside) -> None:
    script = "setsid sleep 7701 & (setsid sh -c 'trap \"\" TERM; sleep 7702; sleep 7703' &); sleep 7704"
    answer = inside.ask(args=["bash", "-c", script], timeout_ms=300)
    assert answer.json()["details"]["end"] == "timeout"
    assert not programs(inside, "770")


def test_the_background_goes_on_and_ends_with_its_process(inside: Beside) -> None:
    process = inside.start(cmd="setsid sleep 7711 >/dev/null 2>&1 & sleep 0")
    assert inside.wait(process)["end"] == "exited"
    assert programs(inside, "7711")
    inside.end(process)
    assert not programs(inside, "7711")


def test_a_shell_that_is_killed_and_processes_leave_each_other_be(inside: Beside) -> None:
    process = inside.start(args=["sh", "-c", "read x; echo $x"], stdin=True)
    killed = inside.client.post(f"{inside.session_url}/exec", json={"cmd": "kill -9 $$"}).json()
    assert killed["shell_restarted"]
    inside.feed(process, b"still here\n", 0)
    assert inside.output(process).data["stdout"] == b"still here\n"
    url = f"{inside.session_url}/exec"
    process = inside.start(args=["sleep", "60"])
    assert inside.client.post(url, json={"cmd": "sleep 60", "timeout_ms": 100}).status_code == 504
    assert inside.info(process)["running"]


@pytest.mark.parametrize("body", [rb'{"args":["no\udc80"]}', rb'{"args":["true"],"cwd":"/no\udc80"}'])
def test_a_name_that_is_no_text_and_not_there_gets_an_answer(inside: Beside, body: bytes) -> None:
    answer = inside.client.post(f"{inside.url}/run", content=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "CANNOT_START")


def test_the_disks_share_holds_for_processes(daemon: LocalDaemon) -> None:
    with connect(daemon) as client:
        beside = Beside(client, limits={"workspace_bytes": "2m"})
        answer = beside.ask(cmd="while head -c 1000000 /dev/zero >>big; do sleep 0.1; done")
        beside.destroy()
    assert (answer.status_code, answer.json()["error_code"]) == (507, "INSUFFICIENT_STORAGE")
    assert answer.json()["details"]["end"] == "disk_full"


def test_a_session_ends_with_its_processes(daemon: LocalDaemon) -> None:
    with connect(daemon) as client:
        beside = Beside(client)
        beside.start(args=["sleep", "7721"])
        beside.run(cmd="setsid sleep 7722 >/dev/null 2>&1 &")
        beside.destroy()
        again = client.get(beside.url)
    assert again.json()["error_code"] == "SESSION_NOT_FOUND"


def test_the_keys_of_a_terminal_work_inside(inside: Beside) -> None:
    with typing(inside, *BASH, env={"PS1": "ready> "}) as (typist, _process):
        typist.sees(b"ready> ")
        typist.type(b"sleep 7731\n")
        typist.sees(b"sleep 7731\r\n")
        until(lambda: programs(inside, "7731"))
        typist.type(b"\x03")
        typist.sees(b"ready> ")
        typist.type(b"\x04")
        typist.sees(b"exit\r\n")


def test_a_program_that_the_kernel_ended_for_want_of_memory_says_so(daemon: LocalDaemon) -> None:
    with connect(daemon) as client:
        beside = Beside(client, limits={"memory_bytes": "64m"})
        url = f"{beside.session_url}/stats"
        is_bounded = "memory_limit" in client.get(url).json()
        result = opened(beside.ask(cmd="exec tail /dev/zero").json())
        beside.run(cmd="tail /dev/zero; true")  # it is not this one that was ended
        killed = beside.run(cmd="kill -9 $$")
        beside.destroy()
    # Without a control group the program is refused memory, and reports that itself.
    assert result["end"] == ("out_of_memory" if is_bounded else "exited")
    assert killed["end"] == "signal"
    assert result["exit_code"]
