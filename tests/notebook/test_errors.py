"""Errors of the library in cells without the magics: one sentence, and the line of the cell."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sandkasten.notebook.errors import CellInterrupted, interrupts_as
from sandkasten.notebook.progress import ProgressLine

from .kernel import Kernel


@pytest.fixture(scope="module")
def bare(kernel_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel that has not loaded the extension, with a session `box`."""
    kernel = Kernel.start(kernel_environment, tmp_path_factory.mktemp("bare"))
    kernel.ok("from sandkasten_sync import SandboxClient\nclient = SandboxClient()")
    kernel.ok("box = client.create_session()")
    yield kernel
    kernel.ok("client.close()")
    kernel.stop()


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("box.exec('')", "SandkastenInputError: "),
        ("box.exec('sleep 9', timeout_ms=50)", "ExecTimeoutError: "),
        ("client.get_session('deadbeef-123')", "SessionNotFoundError: "),
        ("box.read('nothing')", "SandboxFileNotFoundError: "),
        ("box.exec('exit 3').check()", "CommandFailedError: "),
        ("list(box.exec_stream('sleep 9', timeout_ms=50))", "ExecTimeoutError: "),
    ],
)
def test_an_error_is_one_sentence_and_the_line_of_the_cell(bare: Kernel, cell: str, said: str) -> None:
    error = bare.run(f"first = 1\ndef wrapped():\n    return {cell}\nwrapped()").error
    *lines, last = error.split("\n")
    assert last.startswith(said)
    assert lines == ["  line 4, in <module>: wrapped()", f"  line 3, in wrapped: return {cell}"]


@pytest.mark.parametrize(
    "cell",
    ["box.exec('touch begun; sleep 60')", "for chunk in box.exec_stream('touch begun; sleep 60'): pass"],
)
def test_an_interrupt_is_one_sentence_and_stops_the_command(bare: Kernel, cell: str) -> None:
    bare.ok("kept = box.exec('kept=yes; rm -f begun')")
    watcher = (
        "import threading, time\n"
        "def watch():\n"
        "    while not any(entry.name == 'begun' for entry in box.list()): time.sleep(0.02)\n"
        "    print('begun', flush=True)\n"
        "threading.Thread(target=watch).start()\n"
    )
    interrupted: list[str] = []

    def on_text(text: str) -> None:
        if "begun" in text:
            interrupted.append(text)
            bare.interrupt()

    error = bare.run(watcher + cell, on_text).error
    assert interrupted
    assert error.split("\n")[-1].startswith("KeyboardInterrupt: The call was interrupted; a command")
    assert error.count("\n") == 1
    assert bare.ok("print(box.exec('echo $kept').output)").text == "yes\n\n"


def test_all_of_a_traceback_can_be_had(bare: Kernel) -> None:
    bare.ok("import os; os.environ['SANDKASTEN_DEBUG'] = '1'")
    assert "_http.py" in bare.run("client.get_session('deadbeef-123')").error
    bare.ok("del os.environ['SANDKASTEN_DEBUG']")


def test_lists_are_tables(bare: Kernel) -> None:
    bare.ok("box.write('a.txt', 'x')")
    bare.ok("client.workspace('listed').write('f', 'x')")
    for cell in ("client.list_sessions()", "client.list_workspaces()", "box.list()"):
        assert "<table" in bare.ok(cell).displays[-1]["text/html"]
    assert "status 0" in bare.ok("box.exec('true')").displays[-1]["text/html"]


def test_a_progress_line_is_written_now_and_then_and_taken_away() -> None:
    written: list[str] = []
    now = [0.0]
    line = ProgressLine("a\nname", written.append, lambda: now[0])
    line(100, 1000)
    assert written == []  # not worth telling
    line(1_000_000, 10_000_000)
    line(2_000_000, 10_000_000)
    now[0] = 1.0
    line(9_999_999, 10_000_000)
    now[0] = 2.0
    line(5_000_000, None)
    line.end()
    line.end()
    assert written[0] == "\ra\\nname: 1.0 MB of 10 MB (10%)"
    assert written[1].startswith("\ra\\nname: 10 MB of 10 MB (99%)")
    assert written[2].startswith("\ra\\nname: 5.0 MB  ")
    assert len(written) == 4
    assert written[3].strip() == ""


def test_an_interrupt_that_a_lock_turns_into_another_error_is_an_interrupt() -> None:
    """As `threading` raises it, if the interrupt comes when Condition.wait has just given its lock away."""
    lock = threading.Lock()
    with pytest.raises(CellInterrupted, match=r"^It was stopped\.$"), interrupts_as("It was stopped."), lock:
        lock.release()
        raise KeyboardInterrupt


@pytest.mark.parametrize("cause", [RuntimeError("of its own"), ValueError("another")])
def test_other_errors_stay_what_they_are(cause: Exception) -> None:
    with pytest.raises(type(cause), match=str(cause)), interrupts_as("It was stopped."):
        raise cause
