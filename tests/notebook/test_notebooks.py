"""Whole notebooks, run without a browser, and the examples of the documentation."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
from nbclient import NotebookClient

from .conftest import ROOT
from .kernel import Kernel

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def run(notebook: Any, environment: dict[str, str], directory: Path) -> Any:
    client = NotebookClient(
        notebook, timeout=30, kernel_name="python3", resources={"metadata": {"path": directory}}
    )
    return client.execute(env=environment)


def shown(notebook: Any) -> list[Any]:
    """Return the displays of the cells, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"] for output in outputs if output["output_type"] == "display_data"]


def brought(cell: Any) -> list[Any]:
    """Return what a cell printed and displayed; of the magic's words on the session only the kinds."""
    outputs = cell.get("outputs", [])
    if cell.source.startswith("%sandbox"):
        return [sorted(output.get("data", {})) for output in outputs]
    texts = "".join(output.get("text", "") for output in outputs)
    return [texts, *(sorted(output.data.items()) for output in outputs if "data" in output)]


def svg_in(html: str) -> ElementTree.Element:
    match = re.fullmatch(
        r'<img src="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)" alt="[^"<>]*" style="[^"<>]*">', html
    )
    assert match
    return ElementTree.fromstring(base64.b64decode(match[1]))


def test_the_example_draws_its_pictures(kernel_environment: dict[str, str], tmp_path: Path) -> None:
    path = ROOT / "docs" / "examples" / "data_analysis.ipynb"
    notebook = run(nbformat.read(path, 4), kernel_environment, tmp_path)
    assert [brought(cell) for cell in notebook.cells] == [
        brought(cell) for cell in nbformat.read(path, 4).cells
    ]
    year, week = [svg_in(data["text/html"]) for data in shown(notebook)]
    assert len(year.findall("{*}circle")) == 365
    assert len(week.findall("{*}rect")) == 1 + 7 * 24
    assert "bicycles in the year" in str(notebook.cells)
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_what_its_cells_made_and_nothing_else(
    kernel_environment: dict[str, str], tmp_path: Path
) -> None:
    cells = [
        "%load_ext sandkasten",
        f"%%sandbox\necho {PIXEL} | base64 -d > old.png; cp old.png changed.png",
        "%%sandbox\ncp old.png new.png; touch changed.png; mkdir -p a/b .hidden; cp old.png a/b/deep.png\n"
        "cp old.png .hidden/; ln -s /etc/passwd link.png; cp old.png other.txt; echo no > fake.png",
        "%%sandbox --no-show\ncp old.png not-shown.png",
        "%%sandbox --show a\ncp old.png below.png; cp old.png a/here.png",
        "%%sandbox\necho '<p>page</p><script>alert(1)</script>' > page.html",
        "%%sandbox\ncd /tmp; echo '<svg/>' > outside.svg",
    ]
    notebook = run(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]),
        kernel_environment,
        tmp_path,
    )
    data = [[output.get("data", {}) for output in cell["outputs"]] for cell in notebook.cells]
    names = [[of_one["text/plain"] for of_one in of_cell if of_one] for of_cell in data]
    assert names[1] == ["<old.png, 70 bytes>", "<changed.png, 70 bytes>"]
    assert sorted(names[2]) == ["<changed.png, 70 bytes>", "<deep.png, 70 bytes>", "<new.png, 70 bytes>"]
    assert data[2][0]["image/png"].strip() == PIXEL
    assert "fake.png (not a PNG picture)" in str(notebook.cells[2]["outputs"])
    assert names[3:5] == [[], ["<here.png, 70 bytes>"]]
    assert 'sandbox=""' in data[5][0]["text/html"]
    assert "<script" not in data[5][0]["text/html"]
    assert names[6] == []


def test_the_blocks_of_the_documentation_run(kernel: Kernel) -> None:
    text = (ROOT / "docs" / "notebooks.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    outputs = [kernel.ok(block) for block in blocks]
    texts = "".join(output.text for output in outputs)
    assert "line 1\nline 2\nline 3\n" in texts
    assert "\n31\n" in texts
    assert "['1', '0'] 1\n" in texts
    assert "here is no , nor are there files: \n" in texts
    assert [sorted(display) for output in outputs for display in output.displays] == [
        ["text/plain"],
        *[["text/html", "text/plain"]] * 3,
    ]
    assert outputs[-1].displays[0]["text/plain"].startswith("0\n1\n4\n9\n16\n[status 0 · ")
