"""The magics in a real kernel, with the real embedded daemon."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soon import soon

from .kernel import Kernel

INTERRUPTED = "KeyboardInterrupt: The command was stopped; the session goes on."
CODE_INTERRUPTED = "KeyboardInterrupt: The code was interrupted; the session goes on."


@pytest.fixture(autouse=True)
def _fresh_session(kernel: Kernel) -> None:
    kernel.ok("%sandbox reset")


def interrupt_when(kernel: Kernel, words: str) -> Callable[[str], None]:
    """Give a hook that interrupts the kernel when a cell prints some words."""

    def hook(text: str) -> None:
        if words in text:
            kernel.interrupt()

    return hook


def test_a_cell_is_shell_that_remembers(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\ncd /tmp\nname=World\ngreet() { echo Hello, $1; }")
    assert kernel.ok("%%sandbox\ngreet $name; pwd").text == "Hello, World\n/tmp\n"


def test_a_session_may_have_the_notebooks_own_environment(kernel: Kernel) -> None:
    said = kernel.ok("%sandbox new --env -s own").text
    assert said.startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]} of {sys.prefix}. Left out: ")
    shown = kernel.ok("%%sandbox -s own\npython -c 'import sys, attrs; print(sys.prefix)'").text
    assert shown == f"{sys.prefix}\n"
    assert "no environment at /nowhere" in kernel.run("%sandbox new --env /nowhere -s own").error
    kernel.ok("%sandbox close -s own")


def test_output_appears_while_the_cell_runs(kernel: Kernel) -> None:
    cell = "%%sandbox\nfor i in 1 2 3; do echo $i; sleep 0.1; done; sleep 1002"
    with soon():
        outputs = kernel.run(cell, interrupt_when(kernel, "3"))
    assert outputs.text == "1\n2\n3\n"
    assert outputs.error == INTERRUPTED


def test_a_status_that_is_not_zero_is_one_line_of_error(kernel: Kernel) -> None:
    outputs = kernel.run("%%sandbox\necho before; (exit 3)")
    assert outputs.text == "before\n"
    assert outputs.error == "CellFailedError: The cell ended with status 3."
    assert kernel.ok("%%sandbox\necho $?").text == "3\n"


def test_a_cell_that_lacks_a_network_says_why(kernel: Kernel) -> None:
    cell = "python3 -c 'import socket; socket.create_connection((\"nowhere.invalid\", 80))'"
    outputs = kernel.run(f"%%sandbox\n{cell}")
    assert "ended with status 1. The session has no network" in outputs.error
    assert "%sandbox new --network host" in outputs.error
    assert "has no network" in kernel.ok(f"%%sandbox --no-raise\n{cell}").text
    assert "network" not in kernel.run("%%sandbox\nls nothing").error


def test_a_status_may_be_allowed_and_the_result_kept(kernel: Kernel) -> None:
    assert kernel.ok("%%sandbox --no-raise -q -o result\necho quiet; (exit 3)").text == ""
    outputs = kernel.ok("print(result.output, result.exit_code, result.cwd, result.truncated)")
    assert outputs.text == "quiet\n 3 /workspace False\n"


def test_the_result_of_a_failed_cell_is_kept(kernel: Kernel) -> None:
    assert kernel.run("%%sandbox -o failed\nfalse").error
    assert kernel.ok("print(failed.exit_code)").text == "1\n"


def test_a_python_cell_runs_where_the_shell_is_and_finds_its_modules(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\nmkdir lib; cd lib; echo 'answer = 42' > mine.py")
    outputs = kernel.ok("%%sandbox --python\nimport os, mine\nprint(mine.answer, os.getcwd(), __name__)")
    assert outputs.text == "42 /workspace/lib __main__\n"


def test_a_traceback_has_the_notebooks_line_numbers(kernel: Kernel) -> None:
    outputs = kernel.run("%%sandbox --python\nprint('it\\'s', \"$HOME `id`\")\n1 / 0")
    assert "it's $HOME `id`\n" in outputs.text
    assert outputs.error.startswith('Traceback (most recent call last):\n  File "<cell 1>", line 3, in <mod')
    assert outputs.error.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        ("--node", "console.log(6 * 7)", "42\n"),
        ("--perl", 'print 6 * 7, "\\n"', "42\n"),
        ("--lang bash", "echo $BASH_SUBSHELL $((6 * 7))", "0 42\n"),
    ],
)
def test_cells_of_other_languages_run(kernel: Kernel, options: str, code: str, expected: str) -> None:
    assert kernel.ok(f"%%sandbox {options}\n{code}").text == expected


def test_a_language_that_is_not_there_says_so(kernel: Kernel) -> None:
    outputs = kernel.run("%%sandbox --lang nolanguage\nx")
    assert "nolanguage: command not found" in outputs.text
    assert outputs.error.startswith("CellFailedError: ")


def test_an_interrupt_stops_the_command_at_once_and_keeps_the_shell(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\nplain=kept")
    with soon():
        outputs = kernel.run("%%sandbox\necho started; sleep 1003", interrupt_when(kernel, "started"))
    assert outputs.error == INTERRUPTED
    after = kernel.ok("%%sandbox --no-raise\necho $plain; pgrep -f 'sleep 1003'")
    assert after.text == "kept\n"


def test_an_interrupt_stops_a_program_that_ignores_it(kernel: Kernel) -> None:
    cell = "%%sandbox --python\nimport signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    cell += "print('started')\ntime.sleep(1004)"
    with soon():
        outputs = kernel.run(cell, interrupt_when(kernel, "started"))
    assert outputs.error == CODE_INTERRUPTED
    assert kernel.ok("%%sandbox\necho on").text == "on\n"


def test_a_time_limit_stops_the_cell_and_keeps_the_shell(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\nplain=kept")
    outputs = kernel.run("%%sandbox --timeout 0.5\necho before; sleep 100")
    assert outputs.text == "before\n"
    assert outputs.error.startswith("MagicError: ")
    assert "500 ms" in outputs.error
    assert "--timeout" in outputs.error
    assert kernel.ok("%%sandbox\necho $plain").text == "kept\n"


def test_a_shell_that_ends_itself_is_replaced_and_the_cell_says_so(kernel: Kernel) -> None:
    outputs = kernel.ok("%%sandbox\nexit")
    assert "a new one goes on" in outputs.text


def test_sessions_have_names_and_are_apart(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\nname=first")
    assert kernel.ok("%%sandbox -s second\necho [$name]; name=second").text == "[]\n"
    assert kernel.ok("%%sandbox -s second\necho [$name]").text == "[second]\n"
    assert kernel.ok("%%sandbox\necho [$name]").text == "[first]\n"
    assert "second" in kernel.ok("%sandbox sessions").displays[0]["text/plain"]
    kernel.ok("%sandbox close -s second")
    assert "second" not in kernel.ok("%sandbox sessions").displays[0]["text/plain"]


def test_reset_gives_a_fresh_session_like_the_one_before(kernel: Kernel) -> None:
    kernel.ok("%sandbox new --image base")
    kernel.ok("%%sandbox\nname=old; touch file")
    kernel.ok("%sandbox reset")
    assert kernel.ok("%%sandbox\necho [$name]; ls").text == "[]\n"
    assert "base" in kernel.ok("%sandbox info").displays[0]["text/plain"]
    kernel.ok("%sandbox new")


def test_a_new_session_that_cannot_be_made_leaves_the_one_there_is(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\nname=kept")
    assert kernel.run("%sandbox new --image nothing").error.startswith(
        "MagicError: There is no image 'nothing'"
    )
    assert kernel.ok("%%sandbox\necho $name").text == "kept\n"


def test_a_session_that_is_gone_says_what_to_do(kernel: Kernel) -> None:
    kernel.ok("box = %sandbox session\nbox.destroy()")
    assert "%sandbox reset" in kernel.run("%%sandbox\ntrue").error
    kernel.ok("%sandbox reset")
    kernel.ok("%%sandbox\ntrue")


def test_a_daemon_that_died_says_so_and_another_one_starts(kernel: Kernel) -> None:
    kernel.ok("import os, signal\nbox = %sandbox session")
    kernel.ok("os.kill(box._connection._daemon.pid, signal.SIGKILL)")
    assert kernel.run("%%sandbox\ntrue").error.startswith("MagicError: ")
    assert kernel.ok("%%sandbox\necho on").text == "on\n"


def test_files_go_in_and_out(kernel: Kernel, tmp_path: Path) -> None:
    for name in ("a b.txt", "c.csv"):
        (tmp_path / name).write_text(name)
    kernel.ok(f"%sandbox upload '{tmp_path}/a b.txt' {tmp_path}/*.csv data/")
    assert kernel.ok("%%sandbox\ncd data; cat *").text == "a b.txtc.csv"
    kernel.ok(f"%sandbox download 'a b.txt' {tmp_path}/copy")
    assert (tmp_path / "copy").read_text() == "a b.txt"
    (tmp_path / "folder").mkdir()
    kernel.ok(f"%sandbox download /workspace/data/c.csv {tmp_path}/folder")
    assert (tmp_path / "folder" / "c.csv").read_text() == "c.csv"
    kernel.ok(f"%sandbox download 'a b.txt' {tmp_path}/new/")
    assert (tmp_path / "new" / "a b.txt").read_text() == "a b.txt"


def test_directories_go_in_and_out(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "below" / "file").write_text("deep")
    kernel.ok(f"%sandbox upload {tmp_path}/tree/")
    assert kernel.ok("%%sandbox\ncat tree/below/file").text == "deep"
    kernel.ok(f"%sandbox download tree {tmp_path}/copy")
    assert (tmp_path / "copy" / "below" / "file").read_text() == "deep"


def test_a_file_that_is_not_there_is_one_sentence(kernel: Kernel) -> None:
    assert kernel.run("%sandbox upload nothing").error.startswith("MagicError: %sandbox upload: there is no ")
    assert kernel.run("%sandbox download nothing").error.startswith("MagicError: ")
    assert kernel.run("%sandbox ls nothing").error.startswith(
        "MagicError: %sandbox ls: there is no directory"
    )


def test_a_directory_is_listed_with_every_kind_of_name(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\nmkdir d; cd d; touch -- .hidden 'a b' -n '<b>'; ln -s x link; mkdir sub")
    (listed,) = kernel.ok("%sandbox ls").displays
    for name in (".hidden", "a b", "-n", "link", "sub", "/workspace/d"):
        assert name in listed["text/plain"]
    assert "&lt;b&gt;" in listed["text/html"]
    assert "<b>" not in listed["text/html"]
    assert kernel.ok("%sandbox ls sub").displays[0]["text/plain"] == "/workspace/d/sub is empty"


def test_a_large_transfer_says_how_far_it_is(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(8_000_000))
    (tmp_path / "small").write_bytes(bytes(100))
    for verb in (f"upload {tmp_path}/large", f"download large {tmp_path}/copy"):
        text = kernel.ok(f"%sandbox {verb}").text
        assert re.search(r"\rlarge: [\d.]+ MB of 8\.0 MB \(\d+%\)", text)
        assert re.search(r"\r +\r[^\r]* -> [^\r]*\n$", text)  # and in the end the line is gone
    assert "\r" not in kernel.ok(f"%sandbox upload {tmp_path}/small").text


def test_looking_makes_no_session(kernel: Kernel) -> None:
    before = kernel.ok("%sandbox sessions").displays[-1]["text/plain"]
    for verb in ("info", "stats"):
        shown = kernel.ok(f"%sandbox {verb} -s never").displays[-1]["text/plain"]
        assert "There is no session yet" in shown
    assert kernel.ok("%sandbox sessions").displays[-1]["text/plain"] == before


def test_info_and_stats_are_tables(kernel: Kernel) -> None:
    (info,) = kernel.ok("%sandbox info").displays
    (stats,) = kernel.ok("%sandbox stats").displays
    assert "running" in info["text/plain"]
    assert "<table" in info["text/html"]
    assert "memory" in stats["text/plain"]


def test_help_tells_the_options_of_both(kernel: Kernel) -> None:
    for line in ("%sandbox", "%sandbox help", "%sandbox --help"):
        text = kernel.ok(line).text
        assert "--no-raise" in text
        assert "upload" in text


def test_the_end_of_a_large_output_is_not_shown_but_the_cell_runs_on(kernel: Kernel) -> None:
    outputs = kernel.ok("%%sandbox -o large\nhead -c 3000000 /dev/zero | tr '\\0' x; touch end")
    assert len(outputs.text) < 1_001_000
    assert "bytes left out" in outputs.text
    assert kernel.ok("print(999_000 < len(large.output) <= 1_000_000, large.truncated)").text == "True True\n"
    assert kernel.ok("%%sandbox\nls end").text == "end\n"


def test_loading_twice_changes_nothing_and_unloading_ends_the_sessions(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\nname=kept")
    kernel.ok("box = %sandbox session\n%reload_ext sandkasten")
    assert "not found" in kernel.run("%unload_ext sandkasten\n%sandbox").text
    assert "closed" in kernel.run("box.info()").error
    kernel.ok("%load_ext sandkasten")
    assert kernel.ok("%%sandbox\necho [$name]").text == "[]\n"


def test_the_event_loop_of_the_notebook_goes_on(kernel: Kernel) -> None:
    kernel.ok("import asyncio\nasync def tick():\n    await asyncio.sleep(0.05)\n    return 'ticked'")
    kernel.ok("task = asyncio.ensure_future(tick())")
    kernel.ok("%%sandbox\necho between")
    assert kernel.ok("print(await task)").text == "ticked\n"


def test_sandboxes_end_with_the_kernel(kernel_environment: dict[str, str], tmp_path: Path) -> None:
    kernel = Kernel.start(kernel_environment, tmp_path)
    try:
        kernel.ok("%load_ext sandkasten")
        pid = int(kernel.ok("box = %sandbox session\nprint(box._connection._daemon.pid)").text)
        assert os.path.exists(f"/proc/{pid}")
    finally:
        kernel.stop()
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.05)
    pytest.fail("the daemon is still there")


def test_processes_run_beside_the_shell(kernel: Kernel) -> None:
    assert "`%sandbox start COMMAND`" in kernel.ok("%sandbox ps").displays[0]["text/plain"]
    kernel.ok("%%sandbox\nmkdir d; cd d; mkfifo go; name=x")
    kernel.ok("process = %sandbox start 'echo \"in ${PWD##*/} ${name-none}\"; read x <go; echo $x'")
    kernel.ok("chunk = next(iter(process))")
    shown = kernel.ok("%sandbox ps").displays[0]["text/plain"]
    assert "running" in shown
    process_id = shown.splitlines()[1].split()[0]
    assert kernel.ok(f"%sandbox logs {process_id}").text == "in d none\n"
    kernel.ok("%%sandbox\necho on >go")
    assert kernel.ok("print(process.wait().stdout)").text == "in d none\non\n\n"
    kernel.ok("process = %sandbox start -- sleep 3600")
    kernel.ok("%sandbox kill {process.id}")
    assert kernel.ok("print(process.info().running)").text == "False\n"
    assert "there is no process 'x'" in kernel.run("%sandbox logs x").error
    assert "there is no command" in kernel.run("%sandbox start").error


def test_files_are_made_moved_and_removed(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\nmkdir w; cd w; echo text >f")
    kernel.ok("%sandbox mkdir a/b")
    kernel.ok("%sandbox mv f a/b")
    kernel.ok("%sandbox mv a/b/f a/g")
    assert kernel.ok("%%sandbox\nfind /workspace/w | sort; cat a/g").text == (
        "/workspace/w\n/workspace/w/a\n/workspace/w/a/b\n/workspace/w/a/g\ntext\n"
    )
    assert "something in it" in kernel.run("%sandbox rm a").error
    kernel.ok("%sandbox rm -r a")
    assert kernel.ok("%%sandbox\nls -A").text == ""


def test_files_are_copied_found_and_searched(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\ncd; mkdir -p /workspace/s/a; cd /workspace/s; printf 'one\\nTwo\\n' >f; ln -s f l")
    kernel.ok("%sandbox cp f a")
    kernel.ok("%sandbox cp a b")
    found = kernel.ok("%sandbox find '**/f'").displays[0]["text/plain"]
    assert found.splitlines() == ["path", "a/f", "b/f", "f"]
    assert "a/f" in kernel.ok("%sandbox find f a").displays[0]["text/plain"]
    assert kernel.ok("%sandbox find '*.csv'").displays[0]["text/plain"] == "No paths match."
    lines = kernel.ok("%sandbox grep -i --include 'f' two").displays[0]["text/plain"]
    assert [line.split() for line in lines.splitlines()] == [["path", "line", "text"], ["f", "2", "Two"]]
    assert "a/f" in kernel.ok("%sandbox grep one a").displays[0]["text/plain"]
    assert kernel.ok("%sandbox grep two").displays[0]["text/plain"] == "No lines match."
    kernel.ok("%sandbox chmod 750 f")
    facts = kernel.ok("%sandbox stat f").displays[0]["text/plain"]
    assert "0750" in facts
    assert "8 bytes" in facts
    assert "symlink" in kernel.ok("%sandbox stat l").displays[0]["text/plain"]
    assert "not a mode in octal" in kernel.run("%sandbox chmod rwx f").error
