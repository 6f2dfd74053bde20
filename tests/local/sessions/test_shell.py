"""One bash for the life of a session: what commands do to it, and how they are stopped."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.box import Box, connect, until
from tests.processes import processes_with
from tests.soon import SOON_SECONDS, soon

MIB = 1024 * 1024


def assert_in_order(box: Box) -> None:
    """The next commands give their own output and status, and nothing else."""
    for number in range(3):
        result = box.exec(f"echo own-{number}; (exit {number})")
        assert (result["output"], result["exit_code"]) == (f"own-{number}\n", number), result
        assert not result["shell_restarted"]


# --- what stays, from one command to the next


def test_directory_variables_functions_and_options_stay(box: Box) -> None:
    box.run("mkdir -p a/b; cd a/b; plain=1; export exported=2; f() { echo from-f $1; }; shopt -s extglob")
    result = box.exec('echo $plain; bash -c "echo $exported"; f 3; shopt -q extglob && pwd')
    assert result["output"] == "1\n2\nfrom-f 3\n/workspace/a/b\n"
    assert result["cwd"] == "/workspace/a/b"


def test_an_associative_array_declared_at_top_level_is_global(box: Box) -> None:
    box.run("declare -A map=([one]=1); declare -i number=5; local_like=x")
    assert box.run("echo ${map[one]} $((number + 1)); declare -p map") == '1 6\ndeclare -A map=([one]="1" )\n'


@pytest.mark.parametrize("status", [0, 1, 2, 42, 127, 255])
def test_the_status_of_a_command_is_in_its_result_and_in_the_next_ones_dollar_question(
    box: Box, status: int
) -> None:
    assert box.exec(f"(exit {status})")["exit_code"] == status
    assert box.run("echo $?") == f"{status}\n"


def test_a_background_job_lives_on_and_can_be_waited_for(box: Box) -> None:
    box.run("{ sleep 0.2; exit 7; } & echo started")
    assert box.run("true") == ""
    assert box.exec("wait $!")["exit_code"] == 7
    assert_in_order(box)


def test_what_a_background_job_left_when_it_ended_lives_on_when_a_command_is_stopped(box: Box) -> None:
    marker, parent = (f"10{secrets.randbelow(10**8)}" for _ in range(2))
    box.run(f"(sleep {marker} & exec sleep {parent}) & disown")
    until(lambda: processes_with(marker) and processes_with(parent))
    box.times_out(f"pkill -f {parent}; sleep 100", timeout_ms=500)
    assert processes_with(parent) == []
    assert len(processes_with(marker)) == 1


@pytest.mark.parametrize("ending", ["true", "exit 3", "kill -9 $BASHPID"])
def test_a_background_job_that_ended_adds_nothing_to_the_next_command(box: Box, ending: str) -> None:
    box.run(f"{{ while [[ ! -e go ]]; do sleep 0.01; done; touch ended; {ending}; }} &")
    box.write("go", "")
    until(lambda: box.read("ended").status_code == 200)
    time.sleep(0.05)
    assert box.run("echo own") == "own\n"
    assert_in_order(box)


def test_of_much_that_a_background_job_prints_between_commands_the_end_is_kept_too(box: Box) -> None:
    box.run("(while [ ! -e go ]; do sleep 0.02; done; seq 100000; echo the reason; touch done) &")
    box.write("go", "")
    until(lambda: box.read("done").is_success, 20)
    output = box.run("echo next")
    assert output.startswith("1\n2\n3\n")
    assert output.endswith("\n100000\nthe reason\nnext\n")
    assert output.count("bytes left out") == 1
    assert len(output) < 66_000


def test_what_a_background_job_prints_between_commands_comes_with_the_next(box: Box) -> None:
    box.run("{ while [[ ! -e go ]]; do sleep 0.01; done; echo late; touch printed; } & disown")
    box.write("go", "")
    until(lambda: box.read("printed").status_code == 200)
    assert box.run("echo own") == "late\nown\n"
    assert_in_order(box)


def test_a_commands_standard_input_is_empty(box: Box) -> None:
    assert box.run("cat; read -r line || echo nothing to read") == "nothing to read\n"


def test_the_shell_is_interactive_on_a_terminal_without_colours(box: Box) -> None:
    assert box.run("[[ -t 1 && -t 2 && ! -t 0 ]] && echo $TERM") == "dumb\n"


# --- commands that try the loop around them

TOP_LEVEL = {
    "break": ("break", None),
    "continue": ("continue", None),
    "break 9": ("break 9", None),
    "return": ("return", None),
    "return 5": ("return 5", None),
    "syntax error": ("if then", None),
    "unterminated quote": ("echo 'x", None),
    "unterminated here-document": ("cat <<EOF\nx", None),
    "unbalanced brace": ("}", None),
    "closing parenthesis": ("); echo pwned", None),
    "failed expansion": ("echo ${unset_variable?boom}", None),
    "bad substitution": ("echo ${a.b}", None),
    "division by zero": ("echo $((1/0))", None),
    "readonly": ("readonly r=1; r=2", None),
    "set -u": ("set -u; echo $never_set; set +u", None),
    "divide in a function": ("f() { echo $((1/0)); }; f", None),
    "only a comment": ("# nothing", 0),
    "only white space": ("  \n\t\n", 0),
    "trailing backslash": ("echo a\\", 0),
    "trailing comment": ("echo a # b", 0),
    "line ends": ("\n\n\necho x\n\n\n", 0),
    "job control": ("sleep 0 & fg", None),
    "suspend": ("suspend", None),
    "logout": ("logout", None),
    "exec of nothing": ("exec /does/not/exist", None),
    "bind": ('bind \'"a": "b"\'', None),
    "history": ("history; fc -l", None),
    "hash": ("hash -r; PATH=", 0),
}


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_the_shell_goes_on_after(box: Box, name: str) -> None:
    command, status = TOP_LEVEL[name]
    box.run("echo -n > log; kept=yes")
    result = box.exec(f"echo x >> /workspace/log\n{command}", timeout_ms=2000)
    if status is not None:
        assert result["exit_code"] == status, result
    assert_in_order(box)
    if not result["shell_restarted"]:
        assert box.run("echo $kept") == "yes\n"
    assert box.content("log").count(b"x") in ({0, 1} if "x" in result["output"] else {1})


@pytest.mark.parametrize("name", ["set -u", "failed expansion", "division by zero", "readonly", "return 5"])
def test_a_command_that_is_broken_off_has_a_status_other_than_zero(box: Box, name: str) -> None:
    assert box.exec(TOP_LEVEL[name][0].removesuffix("; set +u"))["exit_code"] != 0
    assert_in_order(box)


# What commands may do to a shell without any harm to the commands that follow. `x` must be able to be said
# by /bin/echo then, since echo itself may be shadowed.
SABOTAGE = {
    "printf function": "printf() { :; }",
    "read function": "read() { return 1; }",
    "eval function": "eval() { :; }",
    "return function": "return() { :; }",
    "export function": "export() { :; }",
    "cd function": "cd() { false; }",
    "jobs function": "jobs() { echo jobs-function; }",
    "local function": "local() { echo local-function; }",
    "test function": "[() { return 1; }; test() { return 1; }",
    "eval alias": "alias eval=false",
    "builtin alias": "alias builtin=false",
    "printf alias": "alias printf=false",
    "posix": "set -o posix",
    "IFS": "IFS=0123456789abcdef",
    "IFS empty": "IFS=",
    "IFS readonly": "IFS=e; readonly IFS",
    "PS1": "PS1='prompt> '; PS2='more> '; PS0='before '; PS4='trace '",
    "PS1 with a command": "PS1='$(/bin/echo prompted)'",
    "PROMPT_COMMAND": "PROMPT_COMMAND='/bin/echo prompted'",
    "PROMPT_COMMAND array": "PROMPT_COMMAND[5]='/bin/echo prompted'",
    "unset PROMPT_COMMAND": "unset PROMPT_COMMAND",
    "set -f": "set -f",
    "set -v": "set -v",
    "set -x": "set -x",
    "set -n, which interactive shells ignore": "set -n",
    "set -a": "set -a",
    "set -k": "set -k",
    "set -C": "set -C",
    "set -T and DEBUG": "set -T; trap '/bin/echo debug >/dev/null' DEBUG",
    "trap DEBUG": "trap '/bin/echo debug >/dev/null' DEBUG",
    "trap ERR": "trap '/bin/echo err >/dev/null' ERR; set -E",
    "trap RETURN": "trap '/bin/echo return >/dev/null' RETURN; set -T",
    "trap INT": "trap '/bin/echo int' INT",
    "trap every signal": "for s in $(builtin trap -l | /usr/bin/tr -cd 'A-Z0-9 \\n' | /usr/bin/tr ' ' '\\n' |"
    " /bin/grep SIG); do trap '' $s; done",
    "shopt": "shopt -s nocasematch nullglob failglob dotglob xpg_echo lastpipe extdebug; shopt -u sourcepath",
    "ulimit -n": "ulimit -n 300",
    "umask": "umask 0777",
    "LC_ALL": "export LC_ALL=C LANG=C",
    "LC_ALL unknown": "export LC_ALL=xx_YY.nope",
    "GLOBIGNORE": "GLOBIGNORE='*'",
    "BASH_ENV": "export BASH_ENV=/dev/tty",
    "POSIXLY_CORRECT": "export POSIXLY_CORRECT=1",
    "readonly": "readonly BASHOPTS SHELLOPTS PWD OLDPWD REPLY OPTIND HOME",
    "readonly PWD": "readonly PWD",
    "state": "/bin/rm -f /run/sandkasten/state; /bin/mkdir /run/sandkasten/state",
    "state full": "/bin/dd if=/dev/zero of=/run/sandkasten/full bs=64k 2>/dev/null",
    "command_not_found": "command_not_found_handle() { /bin/echo not found: $1; }",
    "history on": "set -o history; set -H",
    "mailcheck": "MAILCHECK=0 MAIL=/workspace/mail; /bin/echo > /workspace/mail",
    "BASH_COMPAT": "BASH_COMPAT=3.1",
    "LINENO": "unset LINENO RANDOM SECONDS BASH_COMMAND; LINENO=5",
    "many children": "for i in {1..50}; do /bin/true & done; wait",
    "no monitor": "set +m",
    "vi": "set -o vi",
    "emacs": "set -o emacs",
    "vi in a command that is broken off": "set -o vi; /bin/echo ${unset_variable?boom}",
    "PROMPT_COMMAND in a command that is broken off": "PROMPT_COMMAND=:; /bin/echo ${unset_variable?boom}",
    "PS1 unset": "unset PS1 PS2 PS4",
    "PWD": "PWD=secret; OLDPWD=secret",
    "PWD unset": "unset PWD OLDPWD DIRSTACK",
    "checkwinsize": "shopt -s checkwinsize; /bin/stty rows 0 cols 0 2>/dev/null 0>/dev/console; true",
    "terminal settings": "/bin/stty raw echo 0>/dev/console",
    "terminal signals off": "/bin/stty -isig 0>/dev/console",
    "close standard descriptors": "exec 9>&- 200>&- 254>&- 255>&-",
}
NOISY = {"set -x", "set -v", "PROMPT_COMMAND", "PROMPT_COMMAND array", "LC_ALL unknown"}


@pytest.mark.parametrize("name", SABOTAGE)
def test_the_shell_stays_in_order_in_spite_of(box: Box, name: str) -> None:
    box.write("log", "")
    box.exec(SABOTAGE[name], timeout_ms=1000)
    for number in range(3):
        result = box.exec(f"/bin/echo {number} >> /workspace/log; /bin/echo out-{number}; (exit 4)")
        assert result["exit_code"] == 4, result
        if name in NOISY:
            assert f"out-{number}\n" in result["output"]
            assert "__sk" not in result["output"]
        else:
            assert result["output"] == f"out-{number}\n"
    box.times_out("/bin/sleep 60", timeout_ms=50)
    assert "after\n" in box.exec("/bin/echo after", timeout_ms=1000)["output"]
    assert box.content("log") == b"0\n1\n2\n"


# What takes the shell's own tools away. A command may then run into its deadline, but no further, and the
# shell that follows is as good as new.
SUICIDE = {
    "builtin function": "builtin() { :; }",
    "builtin function that prints": "builtin() { /bin/echo shadow; }",
    "builtin function that prints NULs": "builtin() { /usr/bin/printf 'a\\0b\\0'; }",
    "builtin and all others": "for f in printf read eval jobs export cd trap exec set unset builtin; do"
    ' \\builtin eval "$f() { /bin/echo shadow; }"; done',
    "brace alias": "alias {=false",
    "alias of if": "alias if=false then=false else=false fi=false",
    "alias of our functions": "alias __sk_next=false __sk_report=false __sk_last=false __sk_home=false",
    "builtins off": "enable -n printf read eval builtin jobs return cd export",
    "variables of ours": "__sk_id=0123456789abcdef __sk_frame=x __sk_command='/bin/echo twice' __sk_status=9",
    "readonly variables of ours": "readonly __sk_id __sk_head __sk_frame __sk_command __sk_status",
    "wrong types of variables of ours": "declare -i __sk_frame; declare -A __sk_x; declare -n __sk_id=PATH",
    "few descriptors": "ulimit -n 10",
    "a process that is not allowed to fork": "ulimit -u 1",
    "no memory": "ulimit -v 1000",
    "no file size": "ulimit -f 0",
}


@pytest.mark.parametrize("name", SUICIDE)
def test_a_shell_that_is_disabled_is_replaced_by_the_deadline(
    make_box: Callable[..., Box], name: str
) -> None:
    box = make_box(patience=4)
    box.write("log", "")
    box.ask(f"echo x >> /workspace/log; {SUICIDE[name]}", timeout_ms=200)
    for _ in range(2):
        box.ask("builtin true", timeout_ms=200)
    for number in range(3):
        result = box.exec(f"builtin echo own-{number}; builtin test -z x", timeout_ms=1000)
        assert (result["output"], result["exit_code"]) == (f"own-{number}\n", 1), result
    assert box.content("log") == b"x\n", "it ran twice"


def test_set_x_shows_the_commands_own_trace_and_nothing_of_ours(box: Box) -> None:
    assert box.run("set -x; true a").lstrip("+") == " true a\n"
    assert box.run("true b").lstrip("+") == " true b\n"
    assert box.run("set +x").lstrip("+") == " set +x\n"
    assert box.run("true c") == ""


def test_a_prompt_is_never_seen(box: Box) -> None:
    box.run("PS1='prompt> ' PS0='before '")
    assert [box.run("true"), box.run("echo x")] == ["", "x\n"]


@pytest.mark.parametrize("status", [129, 130, 132, 137, 200, 255])
@pytest.mark.parametrize("program", ["(exit {})", "sh -c 'exit {}'", "python3 -c 'import sys; sys.exit({})'"])
def test_a_high_status_of_a_program_adds_nothing_to_its_output(box: Box, status: int, program: str) -> None:
    result = box.exec(program.format(status))
    assert (result["exit_code"], result["output"]) == (status, "")
    assert_in_order(box)


@pytest.mark.parametrize(("name", "status"), [("SEGV", 139), ("KILL", 137), ("TERM", 143), ("INT", 130)])
def test_a_program_that_a_signal_ended_has_its_status(box: Box, name: str, status: int) -> None:
    assert box.exec(f"sh -c 'kill -{name} $$'")["exit_code"] == status
    assert_in_order(box)


def test_tmout_ends_neither_an_idle_shell_nor_a_command(box: Box) -> None:
    box.run("TMOUT=1; kept=yes")
    time.sleep(1.2)
    result = box.exec("echo $kept; sleep 1.2; echo $kept")
    assert (result["output"], result["shell_restarted"]) == ("yes\nyes\n", False)


def test_a_session_can_do_with_fewer_descriptors(box: Box) -> None:
    box.run("ulimit -Sn 64; kept=yes")
    assert box.run("cat /etc/hostname | cat; ulimit -n; echo $kept") == "sandbox\n64\nyes\n"
    assert_in_order(box)


# --- ends of the shell itself

ENDS = {
    "exit 3": ("exit 3", 3),
    "exit": ("true; exit", 0),
    "exit in a function": ("f() { exit 4; }; f", 4),
    "set -e": ("set -e; false; echo never", 1),
    "exec true": ("exec true", 0),
    "exec false": ("exec false", 1),
    "exec a program": ("exec sh -c 'exit 9'", 9),
    "kill -9 $$": ("kill -9 $$", 137),
    "kill -HUP $$": ("kill -HUP $$; sleep 5", 129),
    "kill -SEGV $$": ("kill -SEGV $$; sleep 5", 139),
    "exit in a trap": ("trap 'exit 6' USR1; kill -USR1 $$", 6),
    "set -u and set -e": ("set -eu; echo $unset; echo never", 1),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_command_that_ends_the_shell_has_its_status_and_a_new_shell_follows(box: Box, name: str) -> None:
    command, status = ENDS[name]
    box.run("mkdir -p deep/er; cd deep/er; export kept=$'a \\'quoted\\'\\nline' ; plain=1")
    result = box.exec(f"echo before; {command}")
    assert result["output"].startswith("before\n"), result
    assert "never\n" not in result["output"]
    assert result["shell_restarted"] is True, result
    assert result["exit_code"] == status, result
    assert result["cwd"] == "/workspace/deep/er"
    assert (
        box.run('echo "$kept"; echo "${plain-gone}"; pwd') == "a 'quoted'\nline\ngone\n/workspace/deep/er\n"
    )
    assert_in_order(box)


def test_exit_keeps_what_its_own_command_changed(box: Box) -> None:
    box.run("mkdir new")
    result = box.exec("cd new; export changed=1; exit 3")
    assert (result["exit_code"], result["cwd"]) == (3, "/workspace/new")
    assert box.run("echo $changed $PWD") == "1 /workspace/new\n"


def test_a_users_exit_trap_runs_once_and_at_the_end(box: Box) -> None:
    assert box.run("trap 'echo bye | tee -a /workspace/log' EXIT") == ""
    assert box.run("echo x") == "x\n"
    result = box.exec("cd /tmp; exit 5")
    assert (result["output"], result["exit_code"], result["shell_restarted"]) == ("bye\n", 5, True)
    assert box.content("log") == b"bye\n"
    assert_in_order(box)


def test_the_next_shell_starts_whatever_names_of_ours_are_exported(box: Box) -> None:
    result = box.exec("export ${!__sk_*} __sk_shell_id=1 kept=yes; exit 3")
    assert result["shell_restarted"] is True
    assert box.run("echo $kept") == "yes\n"
    assert_in_order(box)


def test_a_shell_that_stopped_itself_is_replaced(box: Box) -> None:
    result = box.exec("echo before; kill -STOP $$; echo after", timeout_ms=3000)
    assert result["output"] == "before\n"
    assert result["shell_restarted"] is True
    assert_in_order(box)


def test_kill_minus_nine_minus_one_ends_the_command_and_not_the_session(box: Box) -> None:
    result = box.exec("sleep 100 & echo before; kill -9 -1; echo after", timeout_ms=3000)
    assert result["output"].startswith("before\n")
    time.sleep(0.1)
    assert "next\n" in box.exec("echo next", timeout_ms=3000)["output"]  # with bash's word about the job
    assert_in_order(box)


@pytest.mark.parametrize("descriptor", [3, 9, 10, 11, 12, 13, 19, 20, 63, 100, 249, 250, 251, 254, 255])
def test_a_descriptor_that_a_command_opens_stays_and_harms_nothing(
    make_box: Callable[..., Box], descriptor: int
) -> None:
    box = make_box(patience=4)
    box.ask(f"exec {descriptor}>/workspace/file; echo one >&{descriptor}", timeout_ms=500)
    result = box.exec("echo own; (exit 3)", timeout_ms=500)
    assert (result["output"], result["exit_code"], result["shell_restarted"]) == ("own\n", 3, False)
    if descriptor < 10:  # POSIX promises no more
        box.run(f"echo two >&{descriptor}")
        assert box.content("file") == b"one\ntwo\n"
    assert_in_order(box)


def test_exec_that_redirects_the_shell_lasts_and_does_not_break_it(box: Box) -> None:
    box.run("exec 2>errors")
    assert box.run("echo to-errors >&2; echo out") == "out\n"
    assert box.content("errors") == b"to-errors\n"
    box.run("exec >output")
    assert box.run("echo hidden") == ""
    assert box.content("output") == b"hidden\n"
    box.run("exec >/dev/console 2>&1")
    assert_in_order(box)


@pytest.mark.parametrize("descriptor", [0, 1, 2, 250, 255])
def test_the_shell_survives_that_it_closes_a_descriptor(box: Box, descriptor: int) -> None:
    box.exec(f"exec {descriptor}>&-; true", timeout_ms=3000)
    for _ in range(3):
        result = box.exec("echo x >> /workspace/log; (exit 4)", timeout_ms=3000)
        assert result["exit_code"] == 4
    assert box.content("log") == b"x\nx\nx\n"
    box.exec("exec >/dev/console 2>&1")
    assert_in_order(box)


def test_the_channels_are_not_open_to_a_program_that_guesses_their_numbers(box: Box) -> None:
    loop = 'for fd in {3..300}; do printf "result\\0%s\\0000\\0/forged\\0" "$1" >&$fd; done; echo real'
    result = box.exec(f"bash -c '{loop}' x \"$__sk_id\" 2>/dev/null; (exit 5)")
    assert (result["exit_code"], result["output"], result["cwd"]) == (5, "real\n", "/workspace")
    assert_in_order(box)


def test_what_a_command_writes_to_numbers_it_guesses_does_no_lasting_harm(
    make_box: Callable[..., Box],
) -> None:
    """The shell runs commands itself, so it has what bash put aside; they can spoil their own result."""
    box = make_box(patience=4)
    box.ask("for fd in {3..300}; do printf 'a\\0b' >&$fd; done 2>/dev/null; true", timeout_ms=500)
    box.ask("true", timeout_ms=500)
    assert_in_order(box)


# --- what goes in and what comes out


def test_commands_are_taken_as_they_are(box: Box) -> None:
    rng = random.Random(7)
    alphabet = [chr(c) for c in range(1, 128) if chr(c) not in "'\r\x7f"] + list("äß€😀\u2028\ufeff\u0301")
    for _ in range(40):
        text = "".join(rng.choices(alphabet, k=rng.randint(1, 400)))
        box.run(f"printf %s '{text}' > told")
        assert box.content("told") == text.encode()


@pytest.mark.parametrize("text", ["\r", "a\r\nb", "\x7f\x03\x04\x1a\x1c", "\x1b[31m", "\u0085", "\ufffd"])
def test_control_characters_of_a_command_do_not_act_on_the_terminal(box: Box, text: str) -> None:
    box.run(f"printf %s '{text}' > told")
    assert box.content("told") == text.encode()
    assert_in_order(box)


def test_a_command_of_one_mebibyte_runs_and_one_byte_more_is_refused(box: Box) -> None:
    wrapping = "true ''; echo ${#x}; exit_code=0"
    text = "x=" + "y" * (MIB - len(wrapping) - 3) + ";" + wrapping
    text = text.ljust(MIB, " ")
    assert len(text) == MIB
    assert box.run(text) == f"{text.index(';') - 2}\n"
    assert box.ask(text + " ").status_code == 400
    assert_in_order(box)


@pytest.mark.parametrize(
    "option", ["set -a", "set -x; exec 2>/dev/null", "export __sk_command __sk_frame __sk_id"]
)
def test_a_long_command_can_still_start_programs_after(box: Box, option: str) -> None:
    box.run(option)
    assert box.run(f": {'y' * 300_000}\n/bin/echo started") == "started\n"
    assert_in_order(box)


def test_more_output_than_fits_is_cut_and_the_next_command_is_clean(box: Box) -> None:
    result = box.exec("yes abcdefg | head -c 5242880")
    assert result["truncated"] is True
    head, _mark, tail = result["output"].partition("[... 4,194,376 bytes left out ...]\n")
    assert set(head.split()) == set(tail.split()) == {"abcdefg"}
    assert box.exec("echo x")["truncated"] is False
    assert_in_order(box)


def test_output_of_exactly_the_limit_is_not_called_cut(box: Box) -> None:
    result = box.exec(f"yes abcdefg | head -c {MIB}")
    assert (len(result["output"]), result["truncated"]) == (MIB, False)


def test_the_last_output_before_a_commands_end_is_in_its_own_answer(box: Box) -> None:
    for number in range(100):
        assert box.run(f"printf '%01000d' {number}; printf x") == f"{number:01000d}x"


def test_output_without_a_line_end_and_with_broken_utf_8_arrives(box: Box) -> None:
    assert box.run(r"printf 'a\377b\303'") == "a\ufffdb\ufffd"
    assert box.run(r"printf '\303'") == "\ufffd"
    assert box.run(r"printf '\251x'") == "\ufffdx"


def test_raw_output_keeps_escapes_and_clean_output_drops_them(box: Box) -> None:
    command = r"printf '\033[31mred\033[0m\r\n\033]0;title\007x\r\n'"
    assert box.exec(command)["output"] == "red\nx\n"
    assert box.exec(command, raw_output=True)["output"] == "\x1b[31mred\x1b[0m\r\n\x1b]0;title\x07x\r\n"


def test_commands_sent_at_once_run_one_after_another(box: Box) -> None:
    waiting = [box.exec_in_background("n=$((n + 1)); echo $n; sleep 0.02; echo $n") for _ in range(10)]
    outputs = sorted(
        (answer.answer().json()["output"] for answer in waiting), key=lambda text: int(text.split()[0])
    )
    assert outputs == [f"{number}\n{number}\n" for number in range(1, 11)]


# --- deadlines

LADDER = {
    "sleep": "sleep 60",
    "busy loop": "while :; do :; done",
    "busy loop of programs": "while :; do /bin/true; done",
    "shell that ignores INT": "trap '' INT; sleep 60; trap - INT",
    "shell that catches INT": "trap 'echo caught' INT; while :; do sleep 60; done",
    "child that ignores INT": "python3 /workspace/deaf.py SIGINT",
    "child that ignores INT and TERM": "python3 /workspace/deaf.py SIGINT SIGTERM SIGHUP SIGQUIT",
    "subshell that ignores INT and TERM": "(trap '' INT TERM; while :; do sleep 60; done)",
    "loop of children that swallow INT": "while :; do sh -c 'trap \"exit 0\" INT; sleep 60 & wait'; done",
    "loop of subshells that swallow INT": "while :; do (trap 'exit 0' INT TERM; sleep 60 & wait); done",
    "child in its own session": "setsid --wait sleep 60",
    "child in its own session that ignores all": "setsid -w python3 /workspace/deaf.py SIGINT SIGTERM SIGHUP",
    "child in its own group": "python3 -c 'import os,time; os.setpgid(0,0); time.sleep(60)'",
    "wait": "sleep 60 & wait",
    "writes without end": "yes",
    "writes to a full pipe": "yes | sleep 60",
    "pipeline": "sleep 60 | sleep 60 | cat",
    "stopped child": "sh -c 'kill -STOP $$; sleep 60'; sleep 60",
    "FIFO": "mkfifo fifo; cat fifo",
    "builtin read on a FIFO": "mkfifo fifo2; read -r line < fifo2",
    "here-document for nobody": "while :; do read -r x; done < /dev/zero",
    "fork of sleepers": "for i in {1..20}; do sleep 60 & done; wait",
    "eval within eval": "eval 'eval \"sleep 60\"'",
    "command substitution": "x=$(sleep 60; echo late)",
    "process substitution": "cat <(sleep 60)",
    "coprocess": "coproc sleep 60; wait",
    "DEBUG trap that sleeps": "trap 'sleep 60' DEBUG; true; trap - DEBUG",
    "ERR trap and INT trap": "trap 'sleep 60' INT; sleep 60",
    "shell function named kill": "kill() { :; }; sleep 60",
    "arithmetic loop": "for ((;;)); do ((x++)); done",
    "glob of great size": "echo {1..20}{1..20}{1..20}{1..20}{1..20}{1..20} > /dev/null; sleep 60",
}


@pytest.mark.parametrize("name", LADDER)
def test_a_command_is_stopped_at_its_deadline(box: Box, name: str) -> None:
    box.put_program("deaf.py")
    box.run("cd /tmp; kept=yes")
    with soon():
        details = box.times_out(f"echo x >> /workspace/log; {LADDER[name]}", timeout_ms=100)
    box.exec("trap - DEBUG INT")
    assert_in_order(box)
    assert box.run("cat /workspace/log 2>/dev/null; true") in {"", "x\n"}, "it ran twice, or was torn"
    if not details["shell_restarted"]:
        assert box.run("echo $kept; pwd") == "yes\n/tmp\n"


def test_a_command_that_is_interrupted_leaves_nothing_in_the_foreground(box: Box) -> None:
    box.put_program("deaf.py")
    box.times_out("python3 /workspace/deaf.py SIGINT SIGTERM", timeout_ms=300)
    assert box.run("ps -o args= | grep '[d]eaf' || echo gone") == "gone\n"


def test_a_program_whose_first_thread_has_ended_is_stopped_too(box: Box) -> None:
    box.put_program("headless.py")
    stopped = box.exec_in_background("python3 headless.py")
    until(lambda: box.read("headless").is_success)
    assert box.client.post(f"{box.url}/interrupt").is_success
    stopped.answer()
    assert box.run("flock --nonblock lock echo free") == "free\n"


def test_the_error_of_a_deadline_carries_what_was_printed_until_then(box: Box) -> None:
    details = box.times_out("echo before; sleep 60", timeout_ms=200)
    assert details["output"].startswith("before\n")
    assert 150 < details["duration_ms"] < SOON_SECONDS * 1000


def test_output_that_comes_while_a_command_is_stopped_is_its_own(box: Box) -> None:
    details = box.times_out(
        "sh -c 'trap \"echo stopping; exit\" INT; while :; do sleep 0.01; done'", timeout_ms=100
    )
    assert "stopping\n" in details["output"]
    assert_in_order(box)


def test_one_millisecond_for_one_mebibyte_leaves_the_shell_in_order(box: Box) -> None:
    text = "echo x >> log; x=" + "y" * (MIB - 100)
    for _ in range(3):
        assert box.ask(text, timeout_ms=1).status_code in {200, 504}
        assert_in_order(box)


def test_a_command_that_is_stopped_while_the_shell_reads_it_does_not_cost_the_shell(box: Box) -> None:
    box.run("kept=yes")
    text = "echo x >> log; : " + "y" * 100_000
    answers = [box.ask(text, timeout_ms=1) for _ in range(10)]
    stopped = [answer.json()["details"] for answer in answers if answer.status_code == 504]
    assert stopped
    assert not any(details["shell_restarted"] for details in stopped)
    assert box.run("echo $kept") == "yes\n"
    assert_in_order(box)


@pytest.mark.timeout(240)  # some hundred commands, each stopped
def test_two_hundred_hurried_commands_leave_the_shell_in_order(box: Box) -> None:
    rng = random.Random(11)
    finished = 0
    for number in range(200):
        answer = box.ask("sleep 0.003; echo x >> /workspace/log", timeout_ms=rng.randint(1, 5))
        assert answer.status_code in {200, 504}
        finished += answer.status_code == 200
        if number % 4 == 0:
            result = box.exec(f"echo own-{number}; (exit {number % 256})")
            assert (result["output"], result["exit_code"]) == (f"own-{number}\n", number % 256)
    assert_in_order(box)
    assert finished <= box.run("cat log 2>/dev/null; true").count("x") <= 200


@pytest.mark.timeout(240)  # some hundred commands, each stopped
def test_hurried_commands_that_only_take_a_moment_never_run_twice_or_in_part(box: Box) -> None:
    rng = random.Random(12)
    for number in range(200):
        pause = "" if number % 2 else "sleep 0.00$((RANDOM % 4)); "
        answer = box.ask(
            f"{pause}echo a{number} >> /workspace/log; echo b{number} >> /workspace/log", rng.randint(1, 5)
        )
        assert answer.status_code in {200, 504}
    lines = box.run("cat log 2>/dev/null; true").split()
    assert len(lines) == len(set(lines))
    assert_in_order(box)


def test_the_queue_does_not_count_against_a_commands_own_time(box: Box) -> None:
    first = box.exec_in_background("touch begun; sleep 1.5")
    until((box.workspace / "begun").exists)
    second = box.exec_in_background("echo in time", timeout_ms=1000)
    assert first.answer().json()["exit_code"] == 0
    assert second.answer().json()["output"] == "in time\n"


def test_no_timeout_at_all_means_the_longest(box: Box) -> None:
    assert box.client.post(f"{box.url}/exec", json={"cmd": "sleep 0.2; echo x"}).json()["output"] == "x\n"


# --- streams


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, object]]]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_stream_sends_output_while_the_command_runs(box: Box) -> None:
    body = {"cmd": "echo first; while [[ ! -e go ]]; do sleep 0.01; done; echo second; (exit 3)"}
    with box.client.stream("POST", f"{box.url}/exec/stream", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = events(answer)
        name, data = next(stream)
        assert (name, data["chunk"]) == ("chunk", "first\n")
        with connect(box.daemon) as other:
            other.post(f"{box.url}/fs/write", json={"path": "go", "text": "x"})
        rest = list(stream)
    assert "".join(str(data["chunk"]) for name, data in rest if name == "chunk") == "second\n"
    assert [name for name, _ in rest].count("done") == 1
    assert rest[-1][0] == "done"
    assert (rest[-1][1]["exit_code"], rest[-1][1]["cwd"]) == (3, "/workspace")


def test_a_stream_past_its_deadline_ends_with_an_error_event(box: Box) -> None:
    with box.client.stream(
        "POST", f"{box.url}/exec/stream", json={"cmd": "echo x; sleep 60", "timeout_ms": 200}
    ) as answer:
        *_, (name, data) = events(answer)
    assert (name, data["error_code"]) == ("error", "COMMAND_TIMEOUT")
    assert_in_order(box)


def test_a_stream_is_not_capped(box: Box) -> None:
    body = {"cmd": "yes abcdefg | head -c 5242880"}
    with box.client.stream("POST", f"{box.url}/exec/stream", json=body) as answer:
        chunks = [(name, data) for name, data in events(answer)]
    assert "".join(str(data["chunk"]) for name, data in chunks if name == "chunk") == "abcdefg\n" * (
        5 * MIB // 8
    )
    assert_in_order(box)


# --- the end


def test_destroying_a_session_ends_its_command_with_a_clear_error_and_takes_all_its_processes(
    box: Box,
) -> None:
    marker = f"17{secrets.randbelow(10**9):09d}"
    box.run(
        f"sleep {marker} & disown; setsid sleep {marker} & disown;"
        f" (trap '' INT TERM HUP; sleep {marker}) & disown"
    )
    running = box.exec_in_background(f"sleep {marker}")
    until(lambda: len(processes_with(f"sleep\0{marker}")) == 4)
    waiting = box.exec_in_background("echo never")
    time.sleep(0.1)
    assert box.destroy().json() == {"ok": True}
    assert processes_with(marker) == [], "something of the session is left"
    for answer in (running.answer(), waiting.answer()):
        assert answer.status_code in {404, 410}, answer.text
        assert answer.json()["error_code"] in {"SESSION_NOT_FOUND", "SESSION_DESTROYED"}
        assert len(answer.json()["message"]) > 20
    assert box.ask("true").status_code == 404


def test_a_session_whose_files_were_destroyed_is_gone_from_the_host(box: Box, daemon: LocalDaemon) -> None:
    directory = Path(daemon.target.socket_path or "").parent.parent / "sessions" / box.id
    box.run("mkdir -p a/b; chmod 0 a; touch c")
    assert directory.is_dir()
    box.destroy()
    assert not directory.exists()


def test_a_sandbox_that_loses_its_first_process_is_reported_and_forgotten(box: Box) -> None:
    """Inside, process 1 cannot be killed; from outside, as the kernel does when memory runs out, it can."""
    marker = f"19{secrets.randbelow(10**9):09d}"
    running = box.exec_in_background(f"sleep {marker}")
    (sleeper,) = until(lambda: processes_with(f"sleep\0{marker}"))
    pid = sleeper
    while True:  # up to bubblewrap's child, process 1 of the namespace
        status = Path(f"/proc/{pid}/status").read_text()
        if status.split("NSpid:")[1].split("\n")[0].split()[-1] == "1":
            break
        pid = int(status.split("PPid:")[1].split()[0])
    os.kill(pid, signal.SIGKILL)
    answer = running.answer()
    assert (answer.status_code, answer.json()["error_code"]) == (404, "SESSION_NOT_FOUND")
    assert box.ask("true").status_code == 404


LINES = "true\necho $LINENO\nfor i in 1; do\necho $LINENO\ndone\nf() {\ntrue\n}\nf; echo $LINENO"


@pytest.mark.parametrize("before", ["true", "false", "false\n\nfalse", "set -x; false", "exit 3", "for"])
def test_lines_of_a_command_are_counted_from_1(box: Box, before: str) -> None:
    for _ in range(3):
        box.exec(before)
        assert box.exec(f"set +x 2>/dev/null\n{LINES}")["output"].splitlines()[-3:] == ["3", "5", "10"]
        box.exec(before)
        assert "eval: line 2: syntax error" in box.exec("true\nfor")["output"]


def test_lines_are_counted_from_1_in_the_first_command(box: Box) -> None:
    assert box.run("echo $LINENO\necho $LINENO") == "1\n2\n"


def test_an_error_shows_the_command_as_it_was_given(box: Box) -> None:
    box.exec("false")
    assert "`for'" in box.exec("for")["output"]


def test_a_trap_hears_of_a_failure_once(box: Box) -> None:
    assert box.exec("trap 'echo failed' ERR; false")["output"] == "failed\n"
    assert box.exec("echo $?; true")["output"] == "1\n"


OPENS_DESCRIPTORS = {
    "cat <(echo hi)": "hi",
    "while read -r x; do echo -n $x; done < <(seq 3)": "123",
    "echo f > /tmp/f; exec 3</tmp/f; cat <&3": "f",
    "exec 3</tmp/f; cat /dev/fd/3; exec 3<&-": "f",
    "exec 3</tmp/f; read -r x </dev/fd/3; echo $x": "f",
    "(exec 4</tmp/f; cat /dev/fd/4 <(echo inner))": "f\ninner",
    "echo x | cat /dev/stdin": "x",
    "echo x | { read -r x </dev/stdin; echo $x; }": "x",
    "echo out >/dev/stdout": "out",
    "(echo out >/dev/stdout; echo err >/dev/stderr)": "out\nerr",
    "{ cat <(echo job) >/dev/stdout; } & wait 2>/dev/null": "job",
    "cat <<END\nhere $((1 + 1))\nEND": "here 2",
    "(cat <<<string)": "string",
    "diff <(seq 2) <(seq 3)": "2a3\n> 3",
    "tee >(cat >/tmp/t) <<<x >/dev/null; until [ -s /tmp/t ]; do :; done; cat /tmp/t": "x",
    "coproc cat; echo co >&${COPROC[1]}; read -r x <&${COPROC[0]}; kill %%; echo $x": "co",
    "[[ -e /dev/fd/0 && -r /dev/stdin ]] && echo there": "there",
    "echo $BASH": "/bin/bash",
}


@pytest.mark.parametrize("command", OPENS_DESCRIPTORS)
def test_the_shell_and_its_subshells_open_their_descriptors_by_name(box: Box, command: str) -> None:
    box.run("echo f > /tmp/f")
    lines = box.exec(command)["output"].splitlines()
    assert "\n".join(line for line in lines if not line.startswith("[")) == OPENS_DESCRIPTORS[command]
