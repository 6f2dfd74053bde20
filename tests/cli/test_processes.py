"""`-t`, `-d`, `ps`, `kill` and `logs`: processes beside the shell, and real terminals on both sides."""

from __future__ import annotations

import json
import os
import shutil
import signal
import termios

import pytest

from tests.cli.program import Home, on_a_terminal
from tests.cli.test_shell import Typist


def test_a_program_draws_on_our_terminal_and_hears_of_its_size(cli: Home, session: str) -> None:
    script = "trap 'stty size' WINCH; stty size; echo ready; until read -t 0.1 -n 1 key; do :; done; "
    script += "echo got $key; exit 7"
    typist = Typist(cli, "exec", "-t", session, "--", script, columns=91, rows=17)
    before = termios.tcgetattr(typist.terminal)
    assert "17 91" in typist.read_until("ready")
    assert termios.tcgetattr(typist.terminal) != before  # keys go through as they are
    typist.resize(100, 30)
    os.kill(typist.process.pid, signal.SIGWINCH)
    typist.read_until("30 100")
    typist.type("k")
    typist.read_until("got k")
    assert typist.process.wait(30) == 7
    assert termios.tcgetattr(typist.terminal) == before
    os.close(typist.terminal)


def test_ctrl_c_reaches_the_program_and_a_signal_ends_it_with_us(cli: Home, session: str) -> None:
    script = "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done"
    typist = Typist(cli, "exec", "-t", session, "--", script)
    before = termios.tcgetattr(typist.terminal)
    typist.read_until("ready")
    typist.type("\x03")
    typist.read_until("caught")
    typist.process.terminate()
    assert typist.process.wait(30) == 128 + signal.SIGTERM
    assert termios.tcgetattr(typist.terminal) == before
    os.close(typist.terminal)
    assert [row["running"] for row in json.loads(cli("ps", "--json", session))] == [False]


def test_a_shell_in_a_terminal_begins_where_the_sessions_is(cli: Home, session: str) -> None:
    cli("exec", session, "--", "mkdir d; cd d; export A=1")
    typist = Typist(cli, "shell", "-t", session)
    typist.read_until(r"\$ ")
    typist.type("pwd; stty size; exit 3\n")
    typist.read_until(r"/workspace/d\s+30 100")
    assert typist.end() == 3
    assert cli("exec", session, "--", "pwd").strip() == "/workspace/d"


def test_a_process_is_started_listed_followed_and_killed(cli: Home, session: str) -> None:
    process_id = cli("exec", "-d", session, "--", "echo out; echo err >&2; sleep 1000").strip()
    assert cli("ps", "-q", session).strip() == process_id
    row = cli("ps", session).split("\t")
    assert (row[0], row[1]) == (process_id[:8], "running")
    followed = cli.start("logs", "-f", session, process_id[:6])
    assert followed.stdout is not None
    assert followed.stdout.readline() == b"out\n"
    done = cli.run("logs", session, process_id)
    assert (done.stdout, done.stderr) == (b"out\n", "err\n")
    cli("kill", session, process_id[:6])
    assert followed.wait(30) == 128 + signal.SIGTERM
    assert followed.stderr is not None
    assert followed.stderr.read() == b"err\n"
    assert "SIGTERM" in cli("ps", session)
    ended = cli.run("kill", "-s", "9", session, process_id, expect=125)
    assert "has ended before" in ended.stderr
    assert cli.run("logs", "-f", session, process_id, expect=143).stdout == b"out\n"
    for each in (followed.stdout, followed.stderr):
        each.close()


def test_a_command_has_variables_and_a_directory_of_its_own(cli: Home, session: str) -> None:
    words = ["-e", "A=1 2", "-e", "B=", "-w", "/tmp", session, "--", 'echo "$A|$B|$PWD"']
    assert cli("exec", *words) == "1 2||/tmp\n"
    assert cli("exec", session, "--", 'echo "$A|$PWD"') == "|/workspace\n"
    process_id = cli("exec", "-d", *words).strip()
    assert cli("logs", "-f", session, process_id) == "1 2||/tmp\n"
    assert "has the name ''" in cli.run("exec", "-e", "=A", session, "--", "true", expect=2).sentence


def test_a_limit_of_time_holds_in_a_terminal_and_in_the_background(cli: Home, session: str) -> None:
    typist = Typist(cli, "exec", "-t", "--timeout", "0.3", session, "--", "echo begun; sleep 1000")
    typist.read_until("begun")
    typist.read_until("was stopped after 300 ms")
    assert typist.process.wait(30) == 124
    os.close(typist.terminal)
    process_id = cli("exec", "-d", "--timeout", "0.3", session, "--", "sleep 1000").strip()
    cli.run("logs", "-f", session, process_id, expect=143)
    assert cli("ps", session).splitlines()[-1].split("\t")[1] == "timeout"
    assert (
        "Check the command and its directory"
        in cli.run("exec", "-d", "-w", "gone", session, "--", "true", expect=125).sentence
    )


def test_mistakes_get_a_sentence(cli: Home, session: str) -> None:
    assert "-t needs a terminal" in cli.run("exec", "-t", session, "--", "true", expect=2).sentence
    assert "do not go together" in cli.run("exec", "-t", "-d", session, "--", "true", expect=2).sentence
    assert "no process 'ab'" in cli.run("logs", session, "ab", expect=2).sentence
    assert "no process 'ab'" in cli.run("kill", session, "ab", expect=2).sentence
    process_id = cli("exec", "-d", session, "--", "true").strip()
    assert "signal is 'X'" in cli.run("kill", "-s", "X", session, process_id, expect=2).sentence


def test_a_table_on_a_terminal_has_a_head_and_no_escape_sequences(cli: Home, session: str) -> None:
    cli("exec", "-d", session, "--", "printf '\\33]0;title\\7text\\n'; exit 4")
    [row] = json.loads(cli("ps", "--json", session))
    cli.run("logs", "-f", session, row["id"], expect=4)
    shown = on_a_terminal(cli, "ps", session)
    assert "PROCESS" in shown
    assert "exited 4" in shown
    assert "\x1b]0" not in on_a_terminal(cli, "logs", session, row["id"])


@pytest.mark.parametrize("program", ["vim", "less", "top"])
def test_full_screen_programs(cli: Home, session: str, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"this machine has no {program}, and so the sandbox has none")
    cli("exec", session, "--", "seq 100 >numbers")
    words, seen, keys = {
        "vim": (["vim", "-u", "NONE", "numbers"], r"\n2|;1H2", ":q!\n"),
        "less": (["less", "numbers"], r"2\r?\n3", "q"),
        "top": (["top", "-d", "1"], "PID", "q"),
    }[program]
    typist = Typist(cli, "exec", "-t", session, "--", *words)
    typist.read_until(seen)
    if program != "top":
        typist.resize(100, 61)  # the kernel sends SIGWINCH
        typist.read_until("55")  # more fits now
    typist.type(keys)
    assert typist.end() == 0


def test_python_remembers_from_one_command_to_the_next(cli: Home, session: str) -> None:
    assert cli("python", session, "x = 42") == ""
    done = cli.run(
        "python", session, "-", feed=b"import sys\nprint('out'); print('err', file=sys.stderr)\nx + 1"
    )
    assert (done.text, done.stderr) == ("out\n43\n", "err\n")
    raised = cli.start("python", session, "print('before'); 1 / 0")
    outputs = raised.communicate(timeout=30)
    assert (raised.returncode, outputs[0]) == (1, b"before\n")
    assert outputs[1].rstrip().endswith(b"ZeroDivisionError: division by zero")
    result = json.loads(cli("python", "--json", "--context", "other", session, "'x' in globals()"))
    assert (result["results"][0]["data"]["text/plain"], result["error"]) == ("False", None)
    late = cli.run("python", "--timeout", "0.2", session, "while True: pass", expect=124)
    assert "variables are still there" in late.stderr
    assert cli("python", session, "x") == "42\n"
    assert "There is no code" in cli.run("python", session, expect=2).sentence
