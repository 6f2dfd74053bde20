"""Hostile code against interpreters that remember: their results, their channel, and each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.box import connect
from tests.local.contexts.remembering import Remembering
from tests.local.isolation.arena.registry import attempt
from tests.local.isolation.spawner.test_attacks import PEEK

# Frames as an interpreter sends them, to all descriptors that there are, and to those of its children.
FORGE = r"""
import json, os, struct
def frames(number):
    data = {"event": "result", "id": number, "data": {"text/plain": "FORGED"}, "metadata": {}}
    for event in (data, {"event": "done", "id": number}):
        body = json.dumps(event).encode()
        yield struct.pack(">I", len(body)) + body
said = b"".join(frame for number in range(20) for frame in frames(number))
"""


@pytest.fixture(scope="module")
def session(daemon: LocalDaemon) -> Iterator[Remembering]:
    """A session for all attacks, none of which may harm it."""
    with connect(daemon) as client:
        made = Remembering(client)
        made.client.post(f"{made.session_url}/exec", json={"cmd": f"cat >/tmp/peek.py <<'X'\n{PEEK}\nX"})
        yield made
        made.destroy()


def shell(session: Remembering, cmd: str) -> str:
    """Run a command of the shell."""
    output: str = session.client.post(f"{session.session_url}/exec", json={"cmd": cmd}).json()["output"]
    return output


@attempt("contexts/print-a-result")
def test_what_code_prints_is_no_result(session: Remembering) -> None:
    code = f"{FORGE}\nfor number in (1, 2): os.write(number, said)"
    result = session.python(code)
    assert (result["results"], result["end"]) == ([], "completed")
    assert "FORGED" in result["stdout"]
    assert "FORGED" in result["stderr"]
    child = f"{FORGE}\nfor number in range(3): \n  try: os.write(number, said)\n  except OSError: pass"
    result = session.python(f"import subprocess, sys; _ = subprocess.run([sys.executable, '-c', {child!r}])")
    assert (result["results"], result["end"]) == ([], "completed")
    assert session.value("1 + 1") == "2"


@attempt("contexts/inherit-the-channel")
def test_programs_that_code_starts_have_no_channel(session: Remembering) -> None:
    code = "import subprocess\nsubprocess.run(['ls', '/proc/self/fd'], close_fds=False, stdout=-1).stdout"
    assert session.value(code) == r"b'0\n1\n2\n3\n'"


@attempt("contexts/read-or-speak-for-another")
def test_neither_shell_nor_other_contexts_read_or_speak_for_an_interpreter(session: Remembering) -> None:
    pid = session.value("secret = 'hidden'; import os; os.getpid()", context="victim")
    assert shell(session, f"python3 -I -S /tmp/peek.py {pid}") == "[]\n"
    peek = (
        "import subprocess\nsubprocess.run(['python3', '-I', '-S', '/tmp/peek.py', '%s'], stdout=-1).stdout"
    )
    assert session.value(peek % pid, context="attacker") == r"b'[]\n'"
    # Of the same context, a child may: what is tried is real.
    assert "mem" in (session.value(peek % pid, context="victim") or "")
    assert session.value("secret", context="victim") == "'hidden'"


@attempt("contexts/keep-the-daemon-busy")
def test_an_interpreter_that_speaks_without_end_is_ended_and_others_are_served(session: Remembering) -> None:
    flood = f"""{FORGE}
import os, socket, stat
for name in os.listdir("/proc/self/fd"):
    try:
        if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
            while True: os.write(int(name), said)
    except OSError: pass
"""
    result = session.python(flood, context="loud")
    assert (result["results"], result["end"], result["context_lost"]) == ([], "lost", True)
    assert session.value("2 + 2", context="loud") == "4"
    assert session.value("3 + 3") == "6"
