"""Processes that end with a stopped command, and those that stay; and commands that a shell never read."""

from __future__ import annotations

import secrets

import pytest

from tests.local.box import Box, until
from tests.processes import processes_with


def _marker() -> str:
    """Return a number of seconds by which a test finds its own sleepers."""
    return f"19{secrets.randbelow(10**9):09d}"


# Each `{}` is the sleeper's argument.
STARTS = {
    "children of a script": "bash -c 'sleep {} & sleep {} & wait'",
    "children of a script that ignore INT": "sh -c 'trap \"\" INT; sleep {} & sleep {}'",
    "timeout(1)": "bash -c 'timeout 600000 sleep {}; :'",
    "a session of its own": "python3 -c \"import subprocess; subprocess.run(['setsid', 'sleep', '{}'])\"",
    "a group of its own": "python3 -c \"import subprocess as s; s.run(['sleep', '{}'], process_group=0)\"",
    "nohup": "nohup sleep {} >/dev/null & sleep {}",
    "an orphan in a session of its own": "(setsid sleep {} &); sleep {}",
    "a daemon twice forked": "sh -c '(setsid sh -c \"sleep {} & exit\" &)'; sleep {}",
    "a disowned job": "sleep {} & disown; sleep {}",
    "a job in the background": "sleep {} & sleep {}",
    "a stopped job": "sleep {} & kill -STOP $!; sleep {}",
    "a loop in the background": "while :; do sleep {}; done & sleep {}",
    "what became the shell": "sleep {} & exec sleep {}",
}


@pytest.mark.parametrize("name", STARTS)
def test_all_that_a_command_started_ends_with_it_at_its_deadline(box: Box, name: str) -> None:
    marker = _marker()
    box.times_out(STARTS[name].replace("{}", marker), timeout_ms=400)
    assert processes_with(f"sleep\0{marker}") == []
    assert box.run("echo goes on") == "goes on\n"


def test_all_that_a_command_started_ends_with_it_when_it_is_interrupted(box: Box) -> None:
    marker = _marker()
    running = box.exec_in_background(f"bash -c 'setsid sleep {marker} & sleep {marker} & wait'")
    until(lambda: len(processes_with(f"sleep\0{marker}")) == 2)
    assert box.client.post(f"{box.url}/interrupt").json() == {"interrupted": True}
    assert running.answer().json()["exit_code"] == 130
    assert processes_with(f"sleep\0{marker}") == []


def test_all_that_a_command_started_ends_when_its_stream_is_left(box: Box) -> None:
    marker = _marker()
    command = f"bash -c 'setsid sleep {marker} & sleep {marker} & wait'"
    with box.client.stream("POST", f"{box.url}/exec/stream", json={"cmd": command}):
        until(lambda: len(processes_with(f"sleep\0{marker}")) == 2)
    assert box.run("echo next") == "next\n"
    assert processes_with(f"sleep\0{marker}") == []


EARLIER = {
    "a job": "sleep {} &",
    "an orphan": "(sleep {} &)",
    "a session of its own": "setsid sleep {} &",
    "a server and its worker": "sh -c 'sleep {}; :' &",
}


@pytest.mark.parametrize("name", EARLIER)
def test_what_an_earlier_command_put_into_the_background_stays(box: Box, name: str) -> None:
    marker = _marker()
    box.run(EARLIER[name].replace("{}", marker))
    until(lambda: processes_with(f"sleep\0{marker}"))
    box.times_out(f"sleep {_marker()} & sleep {_marker()}")
    assert len(processes_with(f"sleep\0{marker}")) >= 1


def test_what_an_earlier_job_starts_meanwhile_stays(box: Box) -> None:
    marker = _marker()
    box.run(f"sh -c 'until [ -e go ]; do sleep 0.01; done; sleep {marker}; :' &")
    box.times_out("touch go; sleep 100", timeout_ms=600)
    until(lambda: processes_with(f"sleep\0{marker}"))


def test_a_command_that_ends_by_itself_leaves_its_jobs(box: Box) -> None:
    marker = _marker()
    box.run(f"setsid sleep {marker} & sleep {marker} &")
    until(lambda: len(processes_with(f"sleep\0{marker}")) == 2)
    assert box.run("echo next") == "next\n"


# --- a command that its shell did not read

STUCK = {
    "a stopped shell": "(sleep 0.2; kill -STOP $$) &",
    "a killed shell": "(sleep 0.2; kill -9 $$) &",
    "a shell without builtins": "enable -n read printf builtin",
}


@pytest.mark.parametrize("name", STUCK)
def test_a_command_that_was_reported_as_failed_never_runs_later(box: Box, name: str) -> None:
    box.ask(STUCK[name])
    answers = [
        box.ask(f"echo {number} >> /workspace/log; sleep 0.1; echo said-{number}", 300) for number in range(8)
    ]
    said = [str(number) for number, answer in enumerate(answers) if f"said-{number}" in answer.text]
    for number, answer in enumerate(answers):
        others = [other for other in range(8) if other != number and f"said-{other}" in answer.text]
        assert others == [], "it printed in the time of another command"
    assert box.run("echo in order") == "in order\n"
    ran = box.run("cat log 2>/dev/null; true").split()
    assert len(ran) == len(set(ran)), "it ran twice"
    assert set(said) <= set(ran)
