# Made from tests/_async/test_exec.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Commands in a session's shell, against the real embedded daemon."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from sandkasten.errors import (
    CommandFailedError,
    ExecTimeoutError,
    ExtensionMissingError,
    InvalidRequestError,
    SandkastenInputError,
)
from sandkasten.local.launch import LocalDaemon
from sandkasten.models import Health
from tests.soon import soon

from .seam import SandboxClient, Session, sleep, together


def test_gives_output_status_directory_and_duration(session: Session) -> None:
    started = time.monotonic()
    result = session.exec("echo out; echo err >&2; sleep 0.1; (exit 7)")
    elapsed_ms = (time.monotonic() - started) * 1000
    assert (result.output, result.exit_code, result.cwd) == ("out\nerr\n", 7, "/workspace")
    assert result.end == "exited"
    assert not result.ok
    assert not result.truncated
    assert 100 <= result.duration_ms <= elapsed_ms


def test_directory_environment_functions_and_variables_persist(session: Session) -> None:
    session.exec("cd /tmp; export EXPORTED=1; plain=2; greet() { echo hi $1; }; declare -A map=([k]=v)")
    result = session.exec('echo "$PWD $EXPORTED $plain $(greet you) ${map[k]}"')
    assert result.output == "/tmp 1 2 hi you v\n"
    assert result.cwd == "/tmp"


def test_background_jobs_go_on_between_commands(session: Session) -> None:
    session.exec("(until [ -e go ]; do sleep 0.01; done; echo finished > done.txt) &")
    assert session.exec("cat done.txt 2>/dev/null; jobs -rp | wc -l").output == "1\n"
    assert session.exec("touch go; wait; cat done.txt").output == "finished\n"


def test_the_last_status_is_there_for_the_next_command(session: Session) -> None:
    assert session.exec("(exit 42)").exit_code == 42
    assert session.exec("echo $?").output == "42\n"


def test_check_raises_for_a_failed_command_only(session: Session) -> None:
    good = session.exec("true")
    assert good.check() is good
    bad = session.exec("echo reason; false")
    with pytest.raises(CommandFailedError, match=r"status 1: reason") as caught:
        bad.check()
    assert caught.value.result is bad


@pytest.mark.parametrize(
    ("command", "status"),
    [("exit 3", 3), ("set -e; false", 1), ("exec sh -c 'exit 5'", 5), ("kill -KILL $$", 137)],
)
def test_the_session_outlives_a_command_that_ends_the_shell(
    session: Session, command: str, status: int
) -> None:
    session.exec("export KEPT=yes; cd /tmp")
    result = session.exec(command)
    assert result.exit_code == status
    assert result.shell_restarted
    after = session.exec("echo $KEPT $PWD")
    assert (after.output, after.shell_restarted) == ("yes /tmp\n", False)


def test_exit_keeps_what_its_own_command_changed(session: Session) -> None:
    assert session.exec("export NEW=1; cd /usr; exit 3").cwd == "/usr"
    assert session.exec("echo $NEW $PWD").output == "1 /usr\n"


@pytest.mark.parametrize(
    "command", ["sleep 100", "while :; do :; done", "sleep 100 | cat", "sleep 100 & wait"]
)
def test_a_timeout_stops_the_command_and_leaves_all_variables(session: Session, command: str) -> None:
    session.exec("export EXPORTED=1; plain=2; cd /tmp")
    with soon(), pytest.raises(ExecTimeoutError, match="1000 ms") as caught:
        session.exec(f"echo before; {command}", timeout_ms=1000)
    assert caught.value.output.startswith("before\n")
    assert (caught.value.cwd, caught.value.shell_restarted) == ("/tmp", False)
    assert session.exec("echo $EXPORTED $plain $PWD").output == "1 2 /tmp\n"


@pytest.mark.parametrize(
    ("command", "restarts"),
    [
        ('trap "" INT; sleep 100', False),
        ("bash -c 'trap \"\" INT TERM; while :; do sleep 1; done'", False),
        ('trap "" INT; while :; do :; done', True),
    ],
)
def test_a_timeout_stops_what_ignores_interrupts(session: Session, command: str, restarts: bool) -> None:
    session.exec("export EXPORTED=1; cd /tmp")
    with soon(), pytest.raises(ExecTimeoutError) as caught:
        session.exec(command, timeout_ms=1000)
    assert caught.value.shell_restarted is restarts
    assert session.exec("echo $EXPORTED $PWD").output == "1 /tmp\n"
    assert session.exec("pgrep --runstates RS sleep").output == ""  # at most dead ones


def test_a_timeout_of_zero_is_the_daemons_maximum(session: Session) -> None:
    assert session.exec("sleep 0.2; echo done", timeout_ms=0).output == "done\n"


def test_standard_input_is_empty(session: Session) -> None:
    assert session.exec("cat; echo read $?").output == "read 0\n"


def test_output_is_plain_text_unless_raw_is_asked_for(session: Session) -> None:
    command = r"printf '\033[31mred\033[0m\r\n'"
    assert session.exec(command).output == "red\n"
    assert session.exec(command, raw_output=True).output == "\x1b[31mred\x1b[0m\r\n"


def test_unicode_survives_both_ways(session: Session) -> None:
    assert session.exec("echo 'ünïcödé 漢字 🎉'").output == "ünïcödé 漢字 🎉\n"


def test_of_long_output_head_and_tail_are_kept_and_the_cut_is_said(session: Session) -> None:
    result = session.exec("seq 500000; echo the reason; false")
    assert (result.truncated, result.exit_code) == (True, 1)
    assert len(result.output.encode()) <= 1024 * 1024
    head, cut, tail = re.split(r"\[\.\.\. ([\d,]+) bytes left out \.\.\.\]\n", result.output)
    whole = "".join(f"{number}\n" for number in range(1, 500_001)) + "the reason\n"
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert head.endswith("\n")
    assert whole[-len(tail) - 1] == "\n"
    assert int(cut.replace(",", "")) == len(whole) - len(head) - len(tail)
    assert min(len(head), len(tail)) > 500_000


def test_of_long_output_without_line_ends_no_character_is_cut(session: Session) -> None:
    result = session.exec("printf a; yes 'ä€😀' | tr -d '\\n' | head -c 2999999; printf end")
    assert result.truncated
    assert len(result.output.encode()) <= 1024 * 1024
    assert result.output.startswith("aä€😀ä€")
    assert result.output.endswith("end")
    assert result.output.count("bytes left out") == 1
    assert result.output.count("\ufffd") <= 1  # where the command itself cut one
    assert session.exec("echo clean").output == "clean\n"


def test_what_a_stopped_command_printed_has_its_end_too(session: Session) -> None:
    with pytest.raises(ExecTimeoutError) as caught:
        session.exec("seq 500000; echo the reason; sleep 60", timeout_ms=3000)
    assert caught.value.truncated
    assert caught.value.output.startswith("1\n2\n")
    assert caught.value.output.endswith("\n500000\nthe reason\n")
    assert caught.value.output.count("bytes left out") == 1
    assert session.exec("echo clean").output == "clean\n"


def test_the_time_that_a_command_waits_in_line_does_not_count(daemon: LocalDaemon, session: Session) -> None:
    target = daemon.target
    url, api_key = f"unix:{target.socket_path}", target.api_key
    with SandboxClient(base_url=url, api_key=api_key, timeout=1.5) as client:
        same = client.get_session(session.id)

        def first() -> str:
            return session.exec("until [ -e go ]; do sleep 0.05; done").output

        def release() -> str:
            sleep(3.5)  # longer than both timeouts together
            session.write("go", "x")
            return ""

        def waiting() -> str:
            sleep(0.3)
            return same.exec("echo ran >> log; echo ran", timeout_ms=1000).output

        def streaming() -> str:
            sleep(0.3)
            cmd = "echo ran >> log; echo ran"
            return "".join([chunk.output for chunk in same.exec_stream(cmd, timeout_ms=1000)])

        assert together(first, release, waiting, streaming) == ["", "", "ran\n", "ran\n"]
        assert session.exec("cat log").output == "ran\nran\n"


def test_commands_of_one_session_run_one_after_another(session: Session) -> None:
    def append(name: str) -> None:
        session.exec(f"echo {name} in >> log; sleep 0.1; echo {name} out >> log")

    def first() -> None:
        append("a")

    def second() -> None:
        append("b")

    def third() -> None:
        append("c")

    together(first, second, third)
    lines = session.read("log").text.splitlines()
    assert len(lines) == 6
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert entered.replace(" in", " out") == left


def test_sessions_run_side_by_side(session: Session, client: SandboxClient) -> None:
    with (
        client.create_session() as other,
        session.exec_stream("echo begun; until [ -e go ]; do sleep 0.01; done; echo gone on") as stream,
    ):
        assert stream.__next__().output == "begun\n"
        assert other.exec("echo beside").output == "beside\n"
        session.write("go", "")
        assert stream.__next__().output == "gone on\n"


# --- variables, a directory and input for one command

SET_UP = (
    "X=outer; export Y=exported; arr=(1 2 3); declare -i n=5; readonly RO=1; f() { echo func; }; (exit 7)"
)
LEFT = 'echo "$? $PWD ${OLDPWD-none}"; declare -p X Y arr n; echo ${Q-unset}; f'
AS_BEFORE = 'declare -- X="outer"\ndeclare -x Y="exported"\ndeclare -a arr=([0]="1" [1]="2" [2]="3")\n'
AS_BEFORE += 'declare -i n="5"\nunset\nfunc\n'
ODD = "two  words, 'quotes' \"both\" $HOME `id` \\ \n last line é"


def test_variables_and_a_directory_for_one_command(session: Session) -> None:
    session.exec(SET_UP)
    env = {"X": "in", "Y": ODD, "arr": "in", "n": "abc", "Q": "", "f": "in", "BASH_ENV": "/x"}
    shown = 'echo $? $X $arr $n $f; bash -c \'printf "%s|" "$Y" "${Q-unset}" "$X"\'; pwd; echo $PWD; f'
    result = session.exec(f"{shown}; X=2; export Q=3; Z=stays; cd /tmp; (exit 9)", env=env, cwd="/usr/lib")
    assert result.output == f"7 in in abc in\n{ODD}||in|/usr/lib\n/usr/lib\nfunc\n"
    assert (result.exit_code, result.cwd) == (9, "/workspace")
    assert session.exec(LEFT).output == f"9 /workspace none\n{AS_BEFORE}"
    assert session.exec("cd /tmp; echo $Z").output == "stays\n"
    assert session.exec("mkdir -p sub && cd sub && pwd", cwd=".").output == "/tmp/sub\n"
    assert session.exec("pwd", cwd="sub").output == "/tmp/sub\n"
    assert session.exec("echo $PWD $OLDPWD").output == "/tmp /workspace\n"


def test_nothing_is_left_however_a_command_ends(session: Session) -> None:
    session.exec(SET_UP)
    options: dict[str, Any] = {"env": {"X": "in", "Y": "in", "arr": "in", "Q": "q"}, "cwd": "/usr"}
    with pytest.raises(ExecTimeoutError) as caught:
        session.exec("cd /; echo begun; sleep 60", timeout_ms=200, **options)
    assert caught.value.output == "begun\n"
    assert session.exec(": ${nope?there is nothing}; echo on", **options).exit_code == 1
    assert "cd: /nope" in session.exec("cd /nope", **options).output
    assert session.exec(LEFT).output == f"1 /workspace none\n{AS_BEFORE}"
    for end in ("exit 3", "kill -9 $$", "exec true"):
        assert session.exec(f"cd /; {end}", **options).shell_restarted
        assert session.exec("echo $Y-${Q-unset} $PWD").output == "exported-unset /workspace\n"


def test_options_come_to_terms_with_what_a_shell_is_set_to(session: Session) -> None:
    session.exec("readonly RO=1")
    refused = session.exec("echo never", env={"RO": "2", "A": "1"})
    assert (refused.exit_code, refused.output) == (1, "bash: env: a read-only variable is among RO A\n")
    session.exec("set -eu -o posix")
    options: dict[str, Any] = {"env": {"A": "1"}, "cwd": "/", "input": "x"}
    assert session.exec("echo $A $PWD; A=2; false || cat", **options).output == "1 /\nx"
    assert (session.exec("echo ${A-unset} $PWD; set +eu +o posix; set -a")).output == "unset /workspace\n"
    session.exec("true", **options)
    assert session.exec("env | grep __sk_; export -p | grep __sk_; set +a").output == ""
    session.exec("trap 'echo D' DEBUG")
    assert session.exec("echo a", **options).output == "D\na\n"
    session.exec("trap - DEBUG; IFS=/; cd() { echo hijacked; }; CDPATH=/usr")
    assert session.exec("pwd", cwd="/usr/lib").output == "/usr/lib\n"
    assert session.exec('echo "$PWD"').output == "/workspace\n"


def test_a_directory_that_is_not_there_is_an_error(session: Session) -> None:
    for cwd in ("/nowhere", "lib", "-", "/etc/passwd"):
        with pytest.raises(InvalidRequestError, match="The command did not run: its shell cannot go to"):
            session.exec("echo never >/workspace/sign", cwd=cwd)
    stream = session.exec_stream("true", cwd="/nowhere")
    with pytest.raises(InvalidRequestError, match="did not run"):
        for _ in stream:
            pass
    assert session.exec("ls /workspace; pwd").output == "/workspace\n"
    # Only a command that asked for a directory can have been refused one.
    assert session.exec("__sk_refused=300").exit_code == 1


def test_directories_may_go_and_links_stay_links(session: Session) -> None:
    session.exec("ln -s . link; mkdir gone; cd link/gone")
    assert session.exec("sleep 600 & pwd", cwd="/tmp", env={"A": "1"}).output == "/tmp\n"
    assert session.exec("pwd; kill %1; wait").output.startswith("/workspace/link/gone\n")
    result = session.exec("rm -r /workspace/gone; pwd", cwd="/tmp")
    assert (result.output, result.exit_code) == ("/tmp\n", 0)
    assert session.exec("cd /workspace; ls").output == "link\n"


@pytest.mark.parametrize("content", ["", "é\n", bytes(range(256)), b"x\0\n" * 3_000_000], ids=len)
def test_input_is_read_byte_for_byte_and_left_nowhere(session: Session, content: str | bytes) -> None:
    session.exec("(exit 6)")
    result = session.exec("echo $?; cat >copy; ls -A; kept=$?", input=content, env={"A": "1"})
    assert result.output == "6\ncopy\n"
    assert session.read("copy").content == (content.encode() if isinstance(content, str) else content)
    stream = session.exec_stream(
        "wc -c; ls -A; echo $A$kept", input=content, env={"A": "1"}, pipe_output=True
    )
    piped = b"".join([chunk.data for chunk in stream])
    assert piped == b"%d\ncopy\n10\n" % len(content if isinstance(content, bytes) else content.encode())


def test_a_command_of_more_than_a_mebibyte_runs_as_any_other(session: Session) -> None:
    session.exec("(exit 5)")
    long = ": " + "y'" * 800_000
    result = session.exec(f'echo $? $LINENO\n: {long}\nX=here; echo "$LINENO"; ls -A; (exit 4)')
    assert (result.output, result.exit_code) == ("5 1\n3\n", 4)
    assert session.exec("echo $? $X").output == "4 here\n"
    with pytest.raises(SandkastenInputError, match="at most 33554432"):
        session.exec("x" * (33 * 1024 * 1024))


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"A=B": ""}},
        {"env": {"BASH_FUNC_ls%%": "() { :; }"}},
        {"env": {"__sk_id": "x"}},
        {"env": {"A": None}},
        {"cwd": "a\0"},
        {"cwd": "a\nb"},
        {"input": 7},
        {"input": "\udc80"},
    ],
    ids=repr,
)
def test_what_no_command_can_have_is_not_sent(session: Session, options: dict[str, Any]) -> None:
    with pytest.raises(SandkastenInputError):
        session.exec("true", **options)
    with pytest.raises(SandkastenInputError):
        session.exec_stream("true", **options)


def test_input_is_of_one_kind(session: Session) -> None:
    with pytest.raises(SandkastenInputError, match="input= or pipe_input="):
        session.exec_stream("cat", input="a", pipe_input=True)


def test_a_daemon_without_the_options_lends_variables_by_shell_text(session: Session) -> None:
    plain = Health(status="ok", server="other", extensions=("files",))
    session._connection._health = plain
    assert session.exec('printf %s "$A"; cat; B=1', env={"A": ODD}, input="x").output == f"{ODD}x"
    assert session.exec("echo ${A-unset} $B; ls -A").output == "unset 1\n"
    with pytest.raises(ExtensionMissingError, match="'exec-options'"):
        session.exec("true", cwd="/")
