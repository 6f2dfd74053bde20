"""Code that breaks what it can reach: each run has one clear report, and the next one works if it can."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.local.interpreters.talking import Interpreter

_BREAKS = {
    "closes its stream": "import sys; sys.stdout.close()",
    "closes both descriptors": "import os; os.close(1); os.close(2)",
    "leads both elsewhere": "import os; n = os.open('/dev/null', os.O_WRONLY); os.dup2(n, 1); os.dup2(n, 2)",
    "replaces and closes a stream": "import sys, io; sys.stdout = io.StringIO(); sys.stdout.close()",
    "removes the streams": "import sys; del sys.stdout; sys.stderr = None",
    "closes the underlying stream": "import sys; sys.stdout.buffer.raw.close()",
    "detaches a stream": "import sys; sys.stdout.detach()",
    "recursion": "def f(): f()\nf()",
    "little room for calls": "import sys; sys.setrecursionlimit(70)",
    "no memory": "'a' * (1 << 60)",
    "empties the import hooks": "import sys; sys.meta_path.pop(0)",
    "leaves all variables": "globals().clear()",
    "a signal that it ignores": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "an endless chain of errors": "e = KeyError(1); e.__cause__ = e; e.__context__ = e\nraise e",
    "a value of a subclass of str": "class S(str):\n  __str__ = __len__ = lambda s: 1 / 0\n"
    "class A:\n  def __repr__(s): return S('a')\n  def _repr_html_(s): return S('b')\nA()",
    "a bundle that is none": "class A:\n  def _repr_mimebundle_(s, **k): return 7\nA()",
    "metadata without end": "a = {}; a['a'] = a\ndisplay(1, metadata=a)",
}


@pytest.mark.parametrize("code", _BREAKS.values(), ids=_BREAKS)
def test_the_next_run_works(kept: Interpreter, code: str) -> None:
    broken = kept.run(code)
    assert not broken.is_lost
    report = kept.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 + 1")
    assert (report.stdout, report.stderr, report.text) == ("out\n", "err\n", "2")
    failed = kept.run("1/0")
    assert failed.error_name == "ZeroDivisionError"


def test_what_code_replaced_is_not_used(fresh: Interpreter) -> None:
    fresh.run(
        "display(1)\nimport sys\nfor name in ('linecache', 'traceback', 'ast'): sys.modules[name] = None"
    )
    fresh.run("import os\nos.write = os.read = os.fstat = os.dup2 = os.close = os._exit = os.getpid = None")
    assert fresh.run("print('out')\n1 + 1").text == "2"
    assert fresh.run("1/0").error_name == "ZeroDivisionError"


def test_a_stream_that_code_put_in_place_stays(kept: Interpreter) -> None:
    kept.run("import sys, io; sys.stdout = io.StringIO()")
    assert kept.run("print('kept'); sys.stdout.getvalue()").text == "'kept\\n'"
    kept.run("sys.stdout = sys.__stdout__")
    assert kept.run("print('seen')").stdout == "seen\n"


def test_threads_may_print_and_show_after_the_end(kept: Interpreter) -> None:
    kept.run(
        "import threading\ngo = threading.Event()\n"
        "def late():\n  go.wait()\n  print('late')\n  display('shown late')\n"
        "thread = threading.Thread(target=late); thread.start()"
    )
    report = kept.run("go.set(); thread.join()")
    assert (report.stdout, report.displays) == ("late\n", [{"text/plain": "'shown late'"}])
    kept.run(
        "def show(): [display('a' * 500) for _ in range(20)]\n"
        "threads = [threading.Thread(target=show) for _ in range(8)]"
    )
    report = kept.run("[each.start() for each in threads]; [each.join() for each in threads];")
    assert len(report.displays) == 160


def test_much_output_is_bounded_and_the_rest_is_named(kept: Interpreter) -> None:
    report = kept.run("for _ in range(1000): display('a' * 1000)\n'the value'", most_bytes=100_000)
    assert report.size_bytes <= 100_000
    assert 50 < len(report.displays) < 100
    assert "was left out" in report.displays[-1]["text/plain"]
    assert report.text == "'the value'"
    assert kept.run("1/0", most_bytes=0).error_name == "ZeroDivisionError"
    assert len(kept.run("print('x' * 3_000_000)").stdout) == 3_000_001


def test_large_errors_are_cut(kept: Interpreter) -> None:
    report = kept.run("def a(n): b(n)\ndef b(n): a(n)\na(1)")
    assert report.error_name == "RecursionError"
    assert report.size_bytes < 40_000
    report = kept.run("raise ValueError('\\x01' * 10_000_000)")
    assert report.error_name == "ValueError"
    assert report.size_bytes < 128 * 1024


def test_children_never_speak_on_the_control(kept: Interpreter) -> None:
    code = (
        "import os, sys\nr, w = os.pipe()\npid = os.fork()\n"
        "if pid == 0:\n  display('child')\n  os.write(w, b'x')\n  {end}\n"
        "os.close(w); os.read(r, 9), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )
    for end, status in (("raise KeyError(5)", 1), ("sys.exit(4)", 4), ("os._exit(6)", 6)):
        report = kept.run(code.format(end=end))
        assert report.text == f"(b'x', {status})"
        assert report.displays == []
        assert "'child'\n" in report.stdout
        assert ("KeyError: 5" in report.stderr) is (end == "raise KeyError(5)")
    # A child that goes on to the end of the code is not a second interpreter.
    report = kept.run("pid = os.fork()\nprint(pid == 0, flush=True)\nif pid: os.waitpid(pid, 0)")
    assert sorted(report.stdout.split()) == ["False", "True"]
    assert (
        kept.run(
            "import multiprocessing as m\nwith m.get_context('fork').Pool(1) as p: r = p.map(abs, [-1])\nr"
        ).text
        == "[1]"
    )


def test_a_child_does_not_keep_the_control_open(fresh: Interpreter) -> None:
    report = fresh.run(
        "import os, time\nchild = os.fork()\nif not child: time.sleep(600)\n"
        "print(child, flush=True); os._exit(3)"
    )
    assert report.is_lost
    assert fresh.process.wait(10) == 3
    os.kill(int(report.stdout), signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os; os._exit(3)", 3),
        ("import os; os.closerange(3, 2000)", 70),
        ("import os, signal; os.kill(os.getpid(), 9)", -9),
    ],
)
def test_some_code_ends_the_interpreter(fresh: Interpreter, code: str, status: int) -> None:
    assert fresh.run(code).is_lost
    assert fresh.process.wait(10) == status


def test_it_leaves_when_nobody_is_there_any_more(fresh: Interpreter, tmp_path: Path) -> None:
    fresh.run("import atexit\natexit.register(lambda: open('left', 'w').close())")
    assert fresh.hang_up() == 0
    assert (tmp_path / "left").exists()


def test_code_finds_no_control_where_streams_are(kept: Interpreter) -> None:
    code = "import os\n[os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in range(3)], os.read(0, 1)"
    assert kept.run(code).text == "(['/dev/null', 'pipe', 'pipe'], b'')"
    code = (
        "import subprocess\nsubprocess.run('ls /proc/self/fd', shell=True, stdout=-1, close_fds=False).stdout"
    )
    assert kept.run(code).text == "b'0\\n1\\n2\\n3\\n'"


def test_a_crash_says_where(fresh: Interpreter) -> None:
    report = fresh.run("import faulthandler\ndef crash(): faulthandler._sigsegv()\ncrash()")
    assert report.is_lost
    assert "Segmentation fault" in report.stderr
    assert 'File "<cell 1>", line 2 in crash' in report.stderr
