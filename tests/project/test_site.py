"""The documentation site: what is added to its pages while it is built, and what is looked for afterwards."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    """Load a script's module, which lies outside the packages."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # data classes look themselves up there
    spec.loader.exec_module(module)
    return module


CHECK: Any = script("_docs/check")
DOCSTRINGS: Any = script("_docs/docstrings")
FIGURES: Any = script("_docs/figures")
MARKUP: Any = script("_docs/markup")
PICTURES: Any = script("_docs/pictures")
SOURCES: Any = script("_docs/sources")
BENCH = (ROOT / "docs" / "performance.md").read_text("utf-8")
NAV = [{"Start": "index.md"}, {"More": [{"Page": "page.md"}]}]

# ---- What is looked for


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A site with two pages and a picture, and what it was made of."""
    for name in ("docs/index.md", "docs/page.md", "site/logo.svg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "site/page.html").write_text('<h2 id="there">There</h2>')
    return tmp_path


def complaints_about(built: Path, html: str, nav: list[Any] = NAV) -> list[str]:
    (built / "site/index.html").write_text(html)
    return list(CHECK.complaints(built / "docs", built / "site", nav))


def test_the_site_is_refused_nothing_where_everything_is_there(built: Path) -> None:
    html = (
        '<a href="page.html#there"></a><a href="https://example.com"></a><img src="logo.svg"><a href="#"></a>'
    )
    assert complaints_about(built, html) == []


@pytest.mark.parametrize(
    "html",
    [
        '<a href="missing.html">x</a>',
        '<a href="page.html#nowhere">x</a>',
        '<a href="#nowhere">x</a>',
        '<img src="missing.svg">',
        '<script src="https://example.com/script.js"></script>',
        '<link rel="stylesheet" href="https://example.com/font.css">',
    ],
)
def test_the_site_is_refused_with_a_reference_that_does_not_hold(built: Path, html: str) -> None:
    (complaint,) = complaints_about(built, html)
    assert complaint.startswith("index.html ")


def test_the_site_is_refused_with_pages_that_the_navigation_lacks_or_invents(built: Path) -> None:
    assert complaints_about(built, "", [{"Start": "index.md"}, {"No": "no.md"}]) == [
        "docs/page.md is not in the navigation of zensical.toml.",
        "zensical.toml has no.md, but there is no docs/no.md.",
    ]


def test_every_page_of_the_documentation_is_in_the_navigation() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert list(CHECK.complaints_about_pages(pages, set(CHECK.named(nav)))) == []


def test_literal_blocks_of_docstrings_become_code() -> None:
    shown = DOCSTRINGS.fenced("Do it.\n\nExample::\n\n    await do()\n\n    done()\n\nArgs:\n    it: what.\n")
    assert shown == "Do it.\n\nExample:\n\n```python\nawait do()\n\ndone()\n```\n\nArgs:\n    it: what.\n"


def test_literal_blocks_that_are_not_python_stay_text() -> None:
    assert DOCSTRINGS.fenced("A tree::\n\n    a\n    └── b") == "A tree:\n\n```text\na\n└── b\n```\n\n"


# ---- What the copy button copies


@pytest.mark.parametrize(
    ("console", "commands"),
    [
        ("$ echo hi\nhi\n$ ls\n", "echo hi\nls"),
        ("$ one \\\n    two\nout\n", "one \\\n    two"),
        ("$ one \\\n> two\nout\n", "one \\\ntwo"),
        ("only output\n", ""),
        ("$ a   # a comment stays\n", "a   # a comment stays"),
    ],
)
def test_only_the_commands_of_a_console_are_copied(console: str, commands: str) -> None:
    assert MARKUP.commands_in(console) == commands


def test_a_console_block_carries_what_is_copied() -> None:
    code = '<a id="l1"></a><span class="gp">$ </span>echo<span class="w"> </span>&quot;a &amp; b&quot;\n'
    code += '<a id="l2"></a><span class="go">a &amp; b</span>\n'
    block = f'<div class="language-console highlight"><pre><span></span><code>{code}</code></pre></div>'
    other = block.replace("console", "python")
    shown = MARKUP.with_copies(block + other)
    assert shown.startswith(
        '<div class="language-console highlight" data-copy="echo &quot;a &amp; b&quot;"><pre>'
    )
    assert shown.endswith(other)


def test_the_site_is_refused_with_a_console_block_that_copies_its_prompts(built: Path) -> None:
    block = '<div class="language-console highlight"><pre><code>$ ls</code></pre></div>'
    (complaint,) = complaints_about(built, block)
    assert complaint == "index.html has a console block whose copy button copies prompts or nothing."
    assert complaints_about(built, block.replace(">", ' data-copy="ls">', 1)) == []


# ---- Pictures


def test_drawings_that_follow_the_page_stand_in_it_and_others_stay_files() -> None:
    files = {
        "live.svg": PICTURES.terminal([PICTURES.Step("ls", "file\n")], "T", "D"),
        "other.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>',
    }
    html = '<p><img alt="a" src="live.svg"> <img src="other.svg"> <img src="logo.png"></p>'
    shown = MARKUP.with_pictures(html, files.__getitem__)
    assert shown.startswith('<p><svg xmlns="http://www.w3.org/2000/svg" class="pic"')
    assert shown.endswith('</svg> <img src="other.svg"> <img src="logo.png"></p>')


def test_a_terminal_shows_commands_and_what_they_printed() -> None:
    steps = [PICTURES.Step("echo '<b>'  # why", "<b>\n" + " ".join(["word"] * 20))]
    drawn = ElementTree.fromstring(PICTURES.terminal(steps, "Title & more", "Description"))
    texts = ["".join(text.itertext()) for text in drawn.findall("{*}text")]
    assert texts[:2] == ["$ echo '<b>'  # why", "<b>"]
    assert len(texts) == 4
    assert " ".join(texts[2:]).split() == ["word"] * 20
    assert all(len(text) <= 72 for text in texts)


def test_a_notebook_shows_cells_with_what_they_made() -> None:
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"><path id="made"/></svg>'
    steps = [PICTURES.Step("%%sandbox\necho hi", "hi\n"), PICTURES.Step("x", "", drawing, (20, 10))]
    drawn = ElementTree.fromstring(PICTURES.notebook(steps, "T", "D"))
    texts = ["".join(text.itertext()) for text in drawn.findall("{*}text")]
    assert texts[1:] == ["[1]:", "%%sandbox", "echo hi", "hi", "[2]:", "x"]
    (placed,) = drawn.findall("{*}svg")
    assert (placed.get("width"), placed.get("viewBox")) == ("20", "0 0 2 1")


@pytest.mark.parametrize("name", ["terminal.svg", "notebook.svg"])
def test_a_picture_is_small_has_words_and_colours_for_light_and_dark(name: str) -> None:
    text = (ROOT / "docs" / "assets" / name).read_text("utf-8")
    drawn = ElementTree.fromstring(text)
    assert len(text) < 8_000
    assert drawn.get("role") == "img"
    named = {part.get("id"): (part.text or "") for part in drawn if part.tag.endswith(("title", "desc"))}
    assert list(named) == (drawn.get("aria-labelledby") or "").split()
    assert all(len(words) > 20 for words in named.values())
    assert "@media (prefers-color-scheme: dark)" in text
    # Each colour that a drawing has stands in the page's style, for both of its schemes.
    style = (ROOT / "docs" / "assets" / "extra.css").read_text("utf-8")
    for scheme, number in (("default", 0), ("slate", 1)):
        rules = re.findall(rf'\[data-md-color-scheme="{scheme}"\] \.pic \{{(.*?)\}}', style, re.DOTALL)
        assert sorted(re.findall(r"--[\w-]+: #\w+", "".join(rules))) == sorted(
            re.findall(r"--[\w-]+: #\w+", text.split("@media")[number])
        )


def test_the_pictures_show_what_commands_and_cells_print() -> None:
    program = [sys.executable, "scripts/_docs/record.py", "--check"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- Figures in words


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.855, "0.9 ms"), (4.82, "5 ms"), (9.7, "10 ms"), (24.3, "24 ms"), (1234, "1,200 ms")],
)
def test_figures_are_rounded_as_people_say_them(value: float, said: str) -> None:
    page = f"| it / floor | - | {value:,g} ms | - | - | |\n\nTaken on: Python 3, 2 cores, Linux.\n"
    assert FIGURES.Values(page).said("it") == said


def test_a_figure_that_is_not_in_the_table_is_named() -> None:
    with pytest.raises(LookupError, match=r"has 0 figures that begin with 'no such'"):
        FIGURES.Values(BENCH).said("no such")


def test_the_figures_in_words_are_those_of_the_table() -> None:
    assert FIGURES.write(check=True) == []
    for name in FIGURES.PAGES:
        assert FIGURES.sentence(FIGURES.Values(BENCH)) in (ROOT / name).read_text("utf-8")


def test_a_new_table_changes_the_words(tmp_path: Path) -> None:
    for name in FIGURES.PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"))
    source = tmp_path / FIGURES.SOURCE
    source.write_text(re.sub(r"(exec, cold [^|]*\| [^|]* \|) \S+ ms", r"\1 1,770 ms", BENCH))
    assert FIGURES.write(tmp_path) == list(FIGURES.PAGES)
    assert all("1,800 ms" in (tmp_path / name).read_text("utf-8") for name in FIGURES.PAGES)
    assert FIGURES.write(tmp_path) == []


# ---- Files in pages


def test_a_program_stands_in_the_page_that_names_it() -> None:
    lines = ["text", "<!-- show: one.py -->", "<!-- show: no such thing -->"]
    shown = SOURCES.with_sources(lines, {"one.py": "x = '```'\n"}.__getitem__)
    assert shown == ["text", "````python", "x = '```'", "````", "", "<!-- show: no such thing -->"]


def test_a_notebook_stands_in_the_page_with_its_outputs() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "Words."]},
        {
            "cell_type": "code",
            "source": "%%sandbox\nls",
            "outputs": [{"output_type": "stream", "text": ["<a>\n", "\x1b[31mb\x1b[0m\n"]}],
        },
        {
            "cell_type": "code",
            "source": "%%sandbox --python\n1",
            "outputs": [{"data": {"text/html": "<b>\n\n</b>", "text/plain": "no"}}],
        },
    ]
    text = json.dumps({"cells": cells})
    assert SOURCES.as_markdown("a.ipynb", text) == [
        "Words.",
        "",
        "```bash",
        "%%sandbox",
        "ls",
        "```",
        "",
        '<pre class="cell-output">&lt;a&gt;&#10;b</pre>',
        "",
        "```python",
        "%%sandbox --python",
        "1",
        "```",
        "",
        '<div class="cell-output">',
        "<b>",
        "</b>",
        "</div>",
        "",
    ]


# ---- What readers look for


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("pip", "packages"),
        ("npm", "packages"),
        ("apt", "packages"),
        ("stderr", "questions"),
        ("stdin", "questions"),
        ("env", "questions"),
        ("port", "questions"),
        ("GPU", "questions"),
        ("timeout", "questions"),
    ],
)
def test_a_search_finds_a_heading_for_what_people_call_it(word: str, page: str) -> None:
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / f"{page}.md").read_text("utf-8"), re.MULTILINE)
    assert any(re.search(rf"\b{word}\b", heading) for heading in headings)
