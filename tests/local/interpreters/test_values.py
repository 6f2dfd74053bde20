"""Values, errors and variables, as the driver reports them."""

from __future__ import annotations

import ast
import base64
import json
import sys
from pathlib import Path

import pytest

from sandkasten.local.sessions.interpreters import inside
from tests.local.interpreters.talking import Interpreter


def test_variables_live_from_one_run_to_the_next(kept: Interpreter) -> None:
    assert kept.run("x = 42").value is None
    assert kept.run("x + 1").text == "43"
    assert kept.run("_ + 1").text == "44"
    assert kept.version == sys.version.split()[0]


@pytest.mark.parametrize(
    "code", ["x = 1", "1;", "(1) ; ", "1; # quiet", "'ä';", "None", "for i in []: i", "", "# only\n"]
)
def test_some_code_has_no_value(kept: Interpreter, code: str) -> None:
    report = kept.run(code)
    assert (report.text, report.displays, report.stdout) == (None, [], "")


@pytest.mark.parametrize(
    ("code", "text"), [("(\n 1\n)", "1"), ("1 # ;", "1"), ("';'", "';'"), ("x = 2; x", "2")]
)
def test_the_last_expression_is_the_value(kept: Interpreter, code: str, text: str) -> None:
    assert kept.run(code).text == text


def test_the_magic_that_notebooks_have_for_figures_is_passed_over(kept: Interpreter) -> None:
    assert (
        kept.run("%matplotlib inline\nif True:\n  %matplotlib inline\n'%matplotlib inline'").text is not None
    )
    assert kept.run("%run x\n1").error_name == "SyntaxError"


def test_what_is_printed_is_there_before_the_end_is_reported(kept: Interpreter) -> None:
    report = kept.run(
        "import sys\nprint('a', end='')\nprint('b', end='', file=sys.stderr)\nprint('\\ud800\\udcff')"
    )
    assert (report.stdout, report.stderr) == ("a\\ud800\\udcff\n", "b")


def test_await_works_at_the_top_and_tasks_live_on(kept: Interpreter) -> None:
    kept.run(
        "import asyncio\nasync def later(): return 5\ntask = asyncio.ensure_future(later()) if 0 else None"
    )
    assert kept.run("await later()").text == "5"
    kept.run("await asyncio.sleep(0); task = asyncio.create_task(later())")
    assert kept.run("await task").text == "5"
    assert kept.run("asyncio.run(later())").text == "5"
    report = kept.run("async def fail(): 1/0\nawait fail()")
    assert report.error is not None
    assert "asyncio" not in report.error["traceback"]


def test_errors_have_a_short_traceback_with_lines(kept: Interpreter) -> None:
    kept.run("def divide(n):\n    return 1 / n")
    report = kept.run("y = 7\ndivide(0)")
    assert report.error is not None
    lines = [line for line in report.error["traceback"].splitlines() if set(line) - set(" ^~")]
    cell = lines[1].split('"')[1]
    assert lines == [
        "Traceback (most recent call last):",
        f'  File "{cell}", line 2, in <module>',
        "    divide(0)",
        lines[3],
        "    return 1 / n",
        "ZeroDivisionError: division by zero",
    ]
    assert (report.error_name, report.error["message"]) == ("ZeroDivisionError", "division by zero")
    assert kept.run("y").text == "7"


NULL_BYTES = "SyntaxError" if sys.version_info >= (3, 11, 4) else "ValueError"  # as Python says itself


@pytest.mark.parametrize(
    ("code", "name", "end"),
    [
        ("a b", "SyntaxError", "SyntaxError: invalid syntax"),
        ("'\\0'\n\x00", NULL_BYTES, "null bytes"),
        ("import sys; sys.exit(3)", "SystemExit", "SystemExit: 3"),
        ("exit()", "SystemExit", "SystemExit: None"),
        ("input('name')", "EOFError", "Put the value into the code."),
        ("raise ValueError('\\ud800')", "ValueError", "ValueError: ?"),
        ("class E(Exception):\n  def __str__(self): 1/0\nraise E", "E", "E: <exception str() failed>"),
        ("raise GeneratorExit", "GeneratorExit", "GeneratorExit"),
        ("async def f(): raise KeyError(1)\nawait f()", "KeyError", "KeyError: 1"),
    ],
)
def test_all_that_ends_code_is_an_error(kept: Interpreter, code: str, name: str, end: str) -> None:
    report = kept.run(code)
    assert report.error is not None
    assert report.error_name == name
    assert report.error["traceback"].endswith(end)
    assert "sandkasten" not in report.error["traceback"]
    assert kept.run("1").text == "1"


def test_errors_of_errors_are_shown_and_groups(kept: Interpreter) -> None:
    report = kept.run(
        "try:\n  1/0\nexcept Exception as e:\n  raise ExceptionGroup('two', [e, KeyError(2)]) from e"
    )
    assert report.error is not None
    text = report.error["traceback"]
    assert text.count("ZeroDivisionError") == 2
    assert "KeyError: 2" in text
    assert "direct cause" in text


def test_code_that_prints_a_traceback_itself_has_lines_in_the_first_run(fresh: Interpreter) -> None:
    report = fresh.run("import traceback\ntry:\n    1/0\nexcept Exception: traceback.print_exc()")
    assert '  File "<cell 1>", line 3, in <module>\n    1/0\n' in report.stderr
    assert fresh.run("def f(): return 1\nimport inspect\nprint(inspect.getsource(f))").stdout.startswith(
        "def f()"
    )


def test_classes_of_the_code_can_be_pickled_and_warnings_are_seen(kept: Interpreter) -> None:
    code = (
        "import pickle\nclass Point: pass\npickle.loads(pickle.dumps(Point())).__class__ is Point, __name__"
    )
    assert kept.run(code).text == "(True, '__main__')"
    assert (
        "DeprecationWarning: old\n"
        in kept.run("import warnings; warnings.warn('old', DeprecationWarning)").stderr
    )


def test_imports_of_the_future_go_on(kept: Interpreter) -> None:
    kept.run("from __future__ import annotations")
    assert kept.run("def f(a: no_such_name): pass\nf.__annotations__").text == "{'a': 'no_such_name'}"


# --- rich values


def test_methods_of_notebooks_are_called(kept: Interpreter) -> None:
    kept.run(
        "class Rich:\n"
        "  def _repr_html_(self): return '<b>ä</b>'\n"
        "  def _repr_png_(self): return b'png', {'width': 3}\n"
        "  def _repr_json_(self): return {'a': [1, None, True, 0.5]}\n"
        "  def _repr_latex_(self): raise NotImplementedError\n"
        "  def _repr_svg_(self): return None\n"
        "  def __repr__(self): return 'rich'"
    )
    value = kept.run("Rich()").value
    assert value is not None
    assert json.loads(value.pop("application/json")) == {"a": [1, None, True, 0.5]}
    assert value == {
        "text/plain": "rich",
        "text/html": "<b>ä</b>",
        "image/png": base64.b64encode(b"png").decode(),
    }
    report = kept.run("display(Rich(), 2, metadata={'a': 1})\nRich")
    assert [sorted(each) for each in report.displays] == [
        [*sorted([*value, "application/json"])],
        ["text/plain"],
    ]
    assert report.metadata[0] == {"image/png": {"width": 3}, "a": 1}
    assert report.value is not None
    assert list(report.value) == ["text/plain"], "a class has no methods of its objects"


def test_bundles_come_first_and_single_methods_add_to_them(kept: Interpreter) -> None:
    kept.run(
        "class Bundle:\n"
        "  def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "    return {'text/plain': 'p', 'text/html': 'h'}, {'text/html': {'isolated': True}}\n"
        "  def _repr_html_(self): return 'other'\n"
        "  def _repr_markdown_(self): return '*m*'"
    )
    assert kept.run("Bundle()").value == {"text/plain": "p", "text/html": "h", "text/markdown": "*m*"}
    shown = kept.run("display(Bundle(), exclude=['text/html'])")
    assert shown.displays == [{"text/plain": "p", "text/markdown": "*m*"}]
    assert kept.run("display({'text/html': 'raw'}, raw=True)").displays == [{"text/html": "raw"}]


def test_displays_can_be_updated_and_cleared(kept: Interpreter) -> None:
    report = kept.run("h = display(1, display_id='a'); h.update(2); display(clear=True)")
    assert [each["sandkasten"] for each in report.metadata] == [
        {"display_id": "a", "update": False},
        {"display_id": "a", "update": True},
        {"clear": True, "wait": True},
    ]


def test_a_form_that_fails_leaves_the_others(kept: Interpreter) -> None:
    report = kept.run(
        "class Half:\n  def _repr_html_(self): 1/0\n  def __repr__(self): return 'half'\nHalf()"
    )
    assert report.value == {"text/plain": "half"}
    assert report.stderr == "_repr_html_ failed: ZeroDivisionError: division by zero\n"


def test_values_that_make_up_methods_and_those_that_show_themselves(kept: Interpreter) -> None:
    report = kept.run("from unittest.mock import MagicMock\nMagicMock(name='m')")
    assert report.value is not None
    assert list(report.value) == ["text/plain"]
    own = "class Own:\n  def _ipython_display_(self): display('self')\nOwn()"
    report = kept.run(own)
    assert (report.displays, report.value) == ([{"text/plain": "'self'"}], None)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("[]", "[]"),
        ("(1,)", "(1,)"),
        ("{3, 1, 2}", "{1, 2, 3}"),
        ("frozenset([1])", "frozenset({1})"),
        ("a = [1]; a.append(a); a", "[1, [...]]"),
        (
            "{'key': 'v' * 60, 'other': ['w' * 30] * 2}",
            f"{{'key': '{'v' * 60}',\n 'other': ['{'w' * 30}', '{'w' * 30}']}}",
        ),
        ("list(range(2000))", "[" + ",\n ".join(map(str, range(1000))) + ",\n ...]"),
        ("10 ** 20", str(10**20)),
    ],
)
def test_containers_are_broken_into_lines(kept: Interpreter, code: str, text: str) -> None:
    assert kept.run(code).text == text


def test_long_texts_are_cut_and_say_so(kept: Interpreter) -> None:
    long = kept.run("class Long:\n  def __repr__(self): return 'a' * 1_000_000 + 'z'\nLong()").text
    assert long is not None
    assert len(long) < 110_000
    assert long.endswith("z")
    assert "\n[... 900,001 characters left out ...]\n" in long
    many = kept.run("[['x' * 1000] * 1000] * 1000").text
    assert many is not None
    assert len(many) < 110_000
    text = kept.run("'y' * 10_000_000").text
    assert text is not None
    assert text.endswith("'... 9,900,000 more")


# --- libraries, by modules that stand in for them

_PYPLOT = """
import sys, types
class Figure:
    __module__ = "matplotlib.figure"
    def __init__(self, size): self.size = size
    def savefig(self, file, format, bbox_inches): file.write(b"p" * self.size)
def install(figures):
    package, pyplot = types.ModuleType("matplotlib"), types.ModuleType("matplotlib.pyplot")
    pyplot.get_fignums = lambda: list(figures)
    pyplot.figure = figures.__getitem__
    pyplot.close = lambda which: figures.clear()
    sys.modules.update({"matplotlib": package, "matplotlib.pyplot": pyplot})
figures = {}
install(figures)
"""


def test_open_figures_are_shown_at_the_end_and_closed(fresh: Interpreter) -> None:
    fresh.run(_PYPLOT)
    report = fresh.run(
        "import os\nfigures[1] = Figure(4); figures[2] = Figure(5)\nprint(os.environ['MPLBACKEND'])"
    )
    assert [base64.b64decode(each["image/png"]) for each in report.displays] == [b"pppp", b"ppppp"]
    assert report.stdout == "Agg\n"
    assert fresh.run("len(figures)").text == "0"
    failed = fresh.run("figures[1] = Figure(4)\n1/0")
    assert (len(failed.displays), failed.error_name) == (1, "ZeroDivisionError")
    shown_once = fresh.run("figures[1] = f = Figure(4)\ndisplay(f)\nlen(figures)")
    assert (len(shown_once.displays), shown_once.text) == (1, "1")
    as_value = fresh.run("figures[1] = f = Figure(4)\nf")
    assert (as_value.displays, as_value.value is None) == ([], False)
    large = fresh.run("Figure(2_000_000)")
    assert large.value is not None
    assert len(base64.b64decode(large.value["image/png"])) == 2_000_000


def test_a_figure_that_is_too_large_is_named(fresh: Interpreter) -> None:
    fresh.run(_PYPLOT)
    report = fresh.run("figures[1] = Figure(50_000_000)\n'and the value'")
    assert report.text == "'and the value'"
    assert report.displays[0]["text/plain"].endswith(
        "[image/png of 66,666,668 bytes was left out: a run shows less]"
    )
    assert report.size_bytes < 2000


def test_modules_that_would_open_a_window_show_their_figures(tmp_path: Path, fresh: Interpreter) -> None:
    package = tmp_path / "plotly" / "io"
    package.mkdir(parents=True)
    (tmp_path / "plotly" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "_renderers.py").write_text("def show(figure): raise RuntimeError('a browser')")
    (tmp_path / "plotly" / "figures.py").write_text(
        "from plotly.io import _renderers\n"
        "class Figure:\n"
        "  def to_html(self, include_plotlyjs, full_html): return f'<div>{include_plotlyjs}</div>'\n"
        "  def to_json(self): return '{}'\n"
        "  def show(self): return _renderers.show(self)\n"
    )
    (tmp_path / "altair.py").write_text(
        "class Base:\n"
        "  def show(self): raise RuntimeError('a browser')\n"
        "  def _repr_mimebundle_(self, *a, **k): return {'text/html': 'altair'}\n"
        "class Chart(Base): pass\n"
    )
    code = (
        "from plotly.figures import Figure\nimport altair\nFigure().show()\naltair.Chart().show()\nFigure()"
    )
    report = fresh.run(code)
    assert report.error is None
    assert report.value is not None
    assert report.value.keys() == report.displays[0].keys()
    assert report.displays[0]["text/html"] == "<div>cdn</div>"
    assert report.displays[0]["application/vnd.plotly.v1+json"] == "{}"
    assert report.displays[1]["text/html"] == "altair"


def test_ipythons_functions_report_here(fresh: Interpreter) -> None:
    report = fresh.run(
        "from IPython.display import HTML, display as shown, clear_output, Image, publish_display_data\n"
        "shown(HTML('<i>1</i>'))\nh = shown(2, display_id=True)\nh.update(3)\nclear_output()\n"
        "publish_display_data({'text/html': 'raw'})\n{'a': 1}"
    )
    assert report.text == "{'a': 1}"
    assert report.displays[0]["text/html"] == "<i>1</i>"
    assert [each.get("text/plain") for each in report.displays[1:3]] == ["2", "3"]
    assert report.metadata[2]["sandkasten"]["update"] is True
    assert report.metadata[3] == {"sandkasten": {"clear": True, "wait": False}}
    assert report.displays[4] == {"text/html": "raw"}
    assert report.stdout == ""


# --- variables


def test_variables_are_listed_without_calling_their_code(fresh: Interpreter) -> None:
    fresh.run(
        "import os\nn = 5; text = 'a' * 1000; items = [1, 2]; nested = [object()] * 3; _hidden = 1\n"
        "class Loud:\n  def __repr__(self): os._exit(1)\n  __len__ = __sizeof__ = __repr__\nloud = Loud()\n"
        "def function(): pass"
    )
    found = fresh.variables()
    assert set(found) == {"n", "text", "items", "nested", "Loud", "loud", "function"}
    assert found["n"] == {"name": "n", "type": "int", "size": sys.getsizeof(5), "repr": "5"}
    assert len(found["text"]["repr"]) == 200
    assert [found[name]["repr"] for name in ("items", "nested", "loud")] == ["[1, 2]", "3 items", ""]


def test_arrays_are_listed_with_their_shape_and_bytes(fresh: Interpreter) -> None:
    report = fresh.run("import numpy\ntable = numpy.zeros((3, 4))\ntable")
    assert report.text is not None
    assert report.text.startswith("array([[0., 0., 0., 0.],\n")
    row = fresh.variables()["table"]
    assert row == {"name": "table", "type": "ndarray", "size": 96, "repr": "3 x 4"}


def test_the_texts_are_read_by_python_3_8() -> None:
    texts = list(Path(inside.__file__).parent.glob("*.py"))
    assert len(texts) == 6
    for path in texts:
        ast.parse(path.read_text("utf-8"), feature_version=(3, 8))
