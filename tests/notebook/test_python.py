"""`%%sandbox --python`: cells of an interpreter that remembers, in a real kernel."""

from __future__ import annotations

import pytest

from tests.soon import soon

from .kernel import Kernel

INTERRUPTED = "KeyboardInterrupt: The code was interrupted; the session goes on."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_a_cell_knows_the_variables_of_the_one_before_and_shows_its_last_value(kernel: Kernel) -> None:
    assert kernel.ok("%%sandbox --python\nx = 42").displays == []
    assert kernel.ok("%%sandbox --python\nx + 1").displays == [{"text/plain": "43"}]
    assert kernel.ok("%%sandbox --python\nx + 1;").displays == []
    assert kernel.ok("%%sandbox --python -q\nprint(x)\nx").displays == []


def test_tables_and_pictures_are_shown_and_nothing_of_theirs_runs_in_the_page(kernel: Kernel) -> None:
    code = (
        "import base64\nclass Table:\n  def _repr_html_(self): return '<b>bold</b><script>1</script>'\n"
        f"class Figure:\n  def _repr_png_(self): return base64.b64decode('{PIXEL}')\n"
        "display(Figure())\nTable()"
    )
    figure, table = kernel.ok(f"%%sandbox --python\n{code}").displays
    assert figure["image/png"].strip() == PIXEL
    assert "<iframe sandbox" in table["text/html"]
    assert "<script>" not in table["text/html"]


def test_streams_are_apart_and_an_error_is_the_sandboxs_own(kernel: Kernel) -> None:
    outputs = kernel.run("%%sandbox --python\nimport sys\nprint('out')\nprint('err', file=sys.stderr)\n1/0")
    assert sorted(outputs.text.split()) == ["err", "out"]
    assert outputs.error.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "sandkasten" not in outputs.error
    allowed = kernel.ok("%%sandbox --python --no-raise\nx = 7\n1/0")
    assert "ZeroDivisionError" in allowed.text
    assert kernel.ok("%%sandbox --python\nx").displays == [{"text/plain": "7"}]


def test_an_interrupt_ends_the_code_and_variables_live(kernel: Kernel) -> None:
    kernel.ok("%%sandbox --python\nx = 42")
    with soon():
        outputs = kernel.run(
            "%%sandbox --python\nprint('started')\nwhile True: pass",
            lambda text: kernel.interrupt() if "started" in text else None,
        )
    assert outputs.error == INTERRUPTED
    assert kernel.ok("%%sandbox --python\nx").displays == [{"text/plain": "42"}]


def test_an_interpreter_that_ends_is_replaced_and_the_next_cell_says_so(kernel: Kernel) -> None:
    outputs = kernel.run("%%sandbox --python\nx = 1\nimport os; os._exit(3)")
    assert "InterpreterLost" in outputs.error
    after = kernel.run("%%sandbox --python\nx")
    assert "began in a new one" in after.text
    assert "NameError" in after.error


def test_displays_are_updated_and_cleared_as_the_code_wishes(kernel: Kernel) -> None:
    code = "h = display(1, display_id=True)\nh.update(2)\ndisplay(3, clear=True)"
    outputs = kernel.ok(f"%%sandbox --python\n{code}")
    assert outputs.displays == [{"text/plain": "1"}, {"text/plain": "3"}]
    assert outputs.changes == [{"text/plain": "2"}, "clear_output"]


def test_python_follows_the_shell(kernel: Kernel) -> None:
    kernel.ok("%%sandbox\nmkdir -p below && cd below && echo 'answer = 42' > mine.py")
    assert kernel.ok("%%sandbox --python\nimport mine\nmine.answer").displays == [{"text/plain": "42"}]
    kernel.ok("%%sandbox --python\nimport os\nos.chdir('/tmp')")
    assert kernel.ok("%%sandbox --python\nos.getcwd()").displays == [{"text/plain": "'/tmp'"}]
    kernel.ok("%%sandbox\ncd /workspace")
    assert kernel.ok("%%sandbox --python\nos.getcwd()").displays == [{"text/plain": "'/workspace'"}]


def test_values_are_brought_as_data(kernel: Kernel) -> None:
    kernel.ok(
        "%%sandbox --python -o n -o some -o report\nn = 5\nsome = {'a': [1, 2.5, None, True], 'b': 'ä'}"
    )
    assert kernel.ok("print(n, some, report.ok)").text == "5 {'a': [1, 2.5, None, True], 'b': 'ä'} True\n"
    refused = kernel.run("%%sandbox --python -o thing\nthing = object()")
    assert refused.error.startswith("MagicError: %%sandbox -o: thing is a object, which cannot come out")
    assert kernel.ok("%%sandbox\nls -A").text == ""


def test_variables_are_listed_and_a_restart_forgets_them(kernel: Kernel) -> None:
    assert "no variables" in kernel.ok("%sandbox vars").displays[0]["text/plain"]
    kernel.ok("%%sandbox --python\nx = 'text'")
    (shown,) = kernel.ok("%sandbox vars").displays
    assert "'text'" in shown["text/plain"]
    assert "str" in shown["text/plain"]
    kernel.ok("%sandbox restart")
    assert "NameError" in kernel.run("%%sandbox --python\nx").error


@pytest.fixture(autouse=True)
def _fresh_session(kernel: Kernel) -> None:
    kernel.ok("%sandbox reset")
