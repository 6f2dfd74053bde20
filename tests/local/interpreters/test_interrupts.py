"""Interrupts: they hit the run that they are meant for, wherever it is, and nothing else."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.local.interpreters.talking import Interpreter

_ENDLESS = {
    "a loop": "while True: pass",
    "a sleep in C": "import time; time.sleep(600)",
    "a loop that catches all errors": "while True:\n  try: 1/0\n  except Exception: pass",
    "a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "a program": "import subprocess; subprocess.run(['sleep', '600'])",
    "await": "import asyncio; await asyncio.sleep(600)",
    "asyncio.run": "import asyncio; asyncio.run(asyncio.sleep(600))",
    "display": "while True: display(1)",
}


@pytest.mark.parametrize("code", _ENDLESS.values(), ids=_ENDLESS)
def test_code_ends_and_its_variables_live(kept: Interpreter, code: str) -> None:
    kept.run("x = 42")
    kept.begin(f"print('begun', flush=True)\n{code}", most_bytes=10_000)
    kept.wait_for("begun")
    kept.interrupt()
    report = kept.report()
    assert report.error is not None
    assert report.error["name"] == "KeyboardInterrupt"
    assert "base_events" not in report.error["traceback"].partition("<cell")[0]
    assert "sandkasten" not in report.error["traceback"]
    assert kept.run("x").text == "42"


@pytest.mark.parametrize("method", ["__repr__", "_repr_html_", "_repr_mimebundle_"])
def test_a_value_that_never_ends_is_interrupted(kept: Interpreter, method: str) -> None:
    kept.begin(
        f"class A:\n  def {method}(*a, **k):\n    print('begun', flush=True)\n    while True: pass\nA()"
    )
    kept.wait_for("begun")
    kept.interrupt()
    assert kept.report().error_name == "KeyboardInterrupt"


def test_the_text_of_an_error_that_never_ends_is_interrupted(kept: Interpreter) -> None:
    kept.begin("class E(Exception):\n  def __str__(self):\n    print('begun')\n    while True: pass\nraise E")
    kept.wait_for("begun")
    kept.interrupt()
    assert kept.report().error_name == "E"


def test_code_may_catch_one_and_gets_the_next(kept: Interpreter) -> None:
    kept.begin(
        "for n in range(2):\n  try:\n    print('begun', n, flush=True)\n    while True: pass\n"
        "  except BaseException: pass\n'caught both'"
    )
    for number in range(2):
        kept.wait_for(f"begun {number}")
        kept.interrupt()
    assert kept.report().text == "'caught both'"


def test_code_may_handle_the_signal_itself_but_only_for_itself(kept: Interpreter) -> None:
    kept.begin(
        "import signal, time\nseen = []\nsignal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('begun', flush=True)\nwhile not seen: time.sleep(0.001)\nseen"
    )
    kept.wait_for("begun")
    kept.interrupt()
    assert kept.report().text == "[1]"
    kept.run("signal.signal(signal.SIGINT, signal.SIG_DFL)")
    kept.process.send_signal(signal.SIGINT)
    assert kept.run("1").text == "1"
    assert (
        kept.run("import _thread, time; _thread.interrupt_main(); time.sleep(9)").error_name
        == "KeyboardInterrupt"
    )


# --- at the edges


@contextmanager
def _stopped(interpreter: Interpreter) -> Iterator[None]:
    interpreter.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, interpreter.process.pid, os.WSTOPPED)
    yield
    interpreter.process.send_signal(signal.SIGCONT)


def test_a_run_is_interrupted_before_it_begins(kept: Interpreter) -> None:
    kept.run("ran = False")
    with _stopped(kept):
        kept.begin("ran = True")
        kept.interrupt()
    assert kept.report().error_name == "KeyboardInterrupt"
    assert kept.run("ran").text == "False"


def test_one_that_comes_after_the_end_hits_nothing(kept: Interpreter) -> None:
    kept.run("1")
    kept.interrupt()
    kept.process.send_signal(signal.SIGINT)
    assert kept.run("2").text == "2"
    with _stopped(kept):
        kept.interrupt()
        kept.begin("3")
    assert kept.report().text == "3"


def test_one_for_an_earlier_run_does_not_hit_a_later(kept: Interpreter, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    kept.begin(
        f"import os, time\nprint('begun', flush=True)\n"
        f"while not os.path.exists({str(flag)!r}): time.sleep(0.001)\n'whole'"
    )
    kept.wait_for("begun")
    kept.interrupt(kept.number - 1)
    flag.touch()
    assert kept.report().text == "'whole'"


def test_one_at_any_moment_leaves_one_clear_report(kept: Interpreter) -> None:
    moments = random.Random(7)
    kept.run("x = 42")
    names = set()
    for _ in range(150):
        kept.begin("display(x)\nfor _ in range(2000): pass\n{'value': [x] * 100}", most_bytes=20_000)
        for _ in range(moments.randrange(3000)):
            pass
        kept.interrupt()
        names.add(kept.report().error_name)
    assert names <= {None, "KeyboardInterrupt"}
    assert kept.run("x").text == "42"
