"""Habits of people's own shell code: it sees nothing of the plumbing, and the plumbing bears all of it."""

from __future__ import annotations

import pytest

from tests.local.box import Box

# --- nobody types

ASKS = {
    "read": "read -r answer </dev/tty",
    "cat": "cat /dev/tty",
    "the terminal by its name": "cat /dev/console",
    "the terminal of its output": "cat <&1",
    "standard error, opened again": "cat /dev/stderr",
    "getpass": "python3 -c 'import getpass; getpass.getpass()'",
    "input": "python3 -c 'input()'",
    "a program that opens it raw": "python3 -c 'import os, tty; tty.setraw(os.open(\"/dev/tty\", 2))'",
    "a session of its own": "setsid -w sh -c 'read x </dev/tty'",
    "a program that waits for input before it reads": (
        "python3 -c 'import os, select; select.select([2], [], []); os.read(2, 1)'"
    ),
}


@pytest.mark.parametrize("name", ASKS)
def test_a_program_that_asks_on_the_terminal_fails_at_once(box: Box, name: str) -> None:
    assert box.exec(ASKS[name])["exit_code"] != 0
    assert box.run("echo goes on") == "goes on\n"


def test_the_terminal_can_be_written_by_all_its_names(box: Box) -> None:
    ways = [
        "echo {} >/dev/stdout",
        "echo {} >/dev/stderr",
        "echo {} >/dev/console",
        "echo {} | tee /dev/stderr >/dev/null",
    ]
    assert box.run("; ".join(way.format(at) for at, way in enumerate(ways))) == "0\n1\n2\n3\n"


# --- traps

TRAPS = {
    "DEBUG": ("trap 'echo D' DEBUG", "echo hi", "D\nhi\n"),
    "DEBUG sees the command": ("trap 'echo \"[$BASH_COMMAND]\"' DEBUG", "true x", "[true x]\n"),
    "DEBUG sees the status": ("trap 'echo $?' DEBUG; (exit 5)", "true; (exit 5)", "5\n"),
    "DEBUG of several lines": ("trap 'echo 1\n# said\necho 2 # done' DEBUG", "true", "1\n2\n"),
    "DEBUG with quotes": ("trap \"echo 'it'\\''s' \\\\\\\\\" DEBUG", "true", "it's \\\n"),
    "DEBUG in functions": ("set -T; trap 'echo D' DEBUG; f() { true; }", "f", "D\nD\nD\n"),
    "ERR": ("trap 'echo E' ERR", "false", "E\n"),
    "ERR in functions": ("set -E; trap 'echo E' ERR; f() { false; true; }", "f", "E\n"),
    "ERR after a failure": ("trap 'echo E' ERR; false", "true", ""),
    "RETURN": ("trap 'echo R' RETURN; set -T; f() { :; }", "f", "R\n"),
    "one that was taken away": ("trap 'echo D' DEBUG; trap - DEBUG", "true", ""),
    "one that is ignored": ("trap '' DEBUG", "true", ""),
    "in posix mode": ("set -o posix; trap 'echo D' DEBUG", "true", "D\n"),
    "set in a command that was broken off": ("trap 'echo E' ERR; : ${unset_variable?boom}", "false", "E\n"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_hears_of_the_users_commands_and_of_no_others(box: Box, name: str) -> None:
    setting, command, expected = TRAPS[name]
    box.exec(setting)
    for _ in range(3):
        assert box.exec(command)["output"] == expected
    box.exec("trap - DEBUG ERR RETURN; set +o posix")
    assert box.run("echo quiet") == "quiet\n"


def test_a_log_of_all_commands_has_only_the_users(box: Box) -> None:
    box.run("trap 'echo \"$BASH_COMMAND\" >> /tmp/log' DEBUG; : > /tmp/log")
    box.run(": > /tmp/log")
    box.exec("false")
    box.run("if true; then echo x; fi")
    assert box.run("cat /tmp/log") == "false\ntrue\necho x\ncat /tmp/log\n"


# --- PROMPT_COMMAND

PROMPT_COMMANDS = {
    "a command": ("PROMPT_COMMAND='echo \"<$?>\"'", "(exit 3)", "<3>\n", 3),
    "several": ("PROMPT_COMMAND=('echo a' 'echo b')", "true", "a\nb\n", 0),
    "one added": ("PROMPT_COMMAND='echo a'; PROMPT_COMMAND+='; echo b'", "true", "a\nb\n", 0),
    "one that exports": ("PROMPT_COMMAND='export seen=$((seen + 1))'", "echo $((seen > 0))", "1\n", 0),
    "one with an error": ("PROMPT_COMMAND='if'", "(exit 4)", None, 4),
    "one that fails to expand": ("PROMPT_COMMAND=': ${unset_variable?boom}'", "(exit 4)", None, 4),
    "one that sets itself": ("PROMPT_COMMAND='PROMPT_COMMAND=\"echo later\"'; true", "true", "later\n", 0),
}


@pytest.mark.parametrize("name", PROMPT_COMMANDS)
def test_the_users_prompt_command_runs_after_each_command(box: Box, name: str) -> None:
    setting, command, expected, status = PROMPT_COMMANDS[name]
    box.exec(setting)
    for _ in range(2):
        result = box.exec(command)
        assert result["exit_code"] == status
        assert expected is None or result["output"] == expected
        assert "__sk" not in result["output"]
    box.exec("unset PROMPT_COMMAND")
    assert box.run("echo quiet") == "quiet\n"


def test_prompt_command_is_the_users_variable(box: Box) -> None:
    assert box.run('echo "[${PROMPT_COMMAND-unset}]"') == "[unset]\n"
    box.run("PROMPT_COMMAND='true one'")
    assert box.run('echo "$PROMPT_COMMAND"') == "true one\n"
    box.run("PROMPT_COMMAND=(true 'true two')")
    assert box.run('echo "${#PROMPT_COMMAND[@]} ${PROMPT_COMMAND[1]}"') == "2 true two\n"
    box.run("unset PROMPT_COMMAND")
    assert box.run('echo "[${PROMPT_COMMAND-unset}]"') == "[unset]\n"


# --- names, directories, line editing


@pytest.mark.parametrize(
    "definition", ['ls() { command ls -a "$@"; }', "alias ls='ls -a'", "function ls { command ls -a; }"]
)
def test_ls_may_be_defined_anew(box: Box, definition: str) -> None:
    box.write("rc", f"{definition}\nexport after=1\n")
    assert box.run(f"{definition}\necho defined") == "defined\n"
    assert box.run("source ./rc; echo after=$after; ls").split()[:3] == ["after=1", ".", ".."]


def test_ls_prints_one_name_in_a_line_and_takes_its_options(box: Box) -> None:
    assert box.run("mkdir d; touch d/b d/a; ls d; ls -C d; ls -d d") == "a\nb\na  b\nd\n"


DIRECTORIES = {
    "PWD=secret": "/workspace",
    "PWD=/etc": "/workspace",
    "unset PWD": "/workspace",
    "readonly PWD": "/workspace",
    "cd /tmp; unset PWD": "/tmp",
    "unset PWD; cd /tmp": "/tmp",
    "set -u; unset PWD": "/workspace",
    "mkdir gone; cd gone; rmdir ../gone": "/workspace/gone",
    "mkdir $'with\\nlines\\n'; cd $'with\\nlines\\n'; PWD=x": "/workspace/with\nlines\n",
    "mkdir real; ln -s real link; cd link": "/workspace/link",
}


@pytest.mark.parametrize("command", DIRECTORIES)
def test_the_directory_of_a_result_is_the_shells(box: Box, command: str) -> None:
    assert box.exec(command)["cwd"] == DIRECTORIES[command]
    assert box.exec("true")["cwd"] == DIRECTORIES[command]


def test_the_next_shell_starts_in_the_last_ones_directory_whatever_pwd_was(box: Box) -> None:
    box.run("cd /tmp; PWD=secret")
    box.exec("kill -9 $$")
    assert box.run("pwd") == "/tmp\n"


@pytest.mark.parametrize("option", ["vi", "emacs"])
def test_line_editing_that_is_turned_on_loses_no_command(box: Box, option: str) -> None:
    box.run(f"kept=1; set -o {option}")
    assert box.run("echo $kept; echo ran >> log") == "1\n"
    assert box.exec(f"set -o {option}; : ${{unset_variable?boom}}")["exit_code"] != 0
    assert box.run("echo $kept; cat log") == "1\nran\n"


def test_wait_waits_for_nothing_after_a_job_was_interrupted(box: Box) -> None:
    box.times_out("sleep 100 & wait")
    assert box.run("wait; jobs; echo done") == "done\n"
