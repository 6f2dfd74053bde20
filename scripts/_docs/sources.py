"""Put files into pages: a program below the link to it, a notebook as its cells and outputs; pure.

In a page's Markdown, `<!-- show: NAME -->` on a line of its own stands for the file NAME beside the page. For
readers of the Markdown itself the comment is invisible, and a link above it leads to the file.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_SHOW = re.compile(r"<!-- show: (?P<name>[\w.-]+) -->")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def with_sources(lines: list[str], read: Callable[[str], str]) -> list[str]:
    """Replace each comment that names a file by what the file holds."""
    shown: list[str] = []
    for line in lines:
        match = _SHOW.fullmatch(line.strip())
        shown += as_markdown(match["name"], read(match["name"])) if match else [line]
    return shown


def as_markdown(name: str, text: str) -> list[str]:
    """Return the Markdown that shows a file."""
    if name.endswith(".ipynb"):
        return [line for cell in json.loads(text)["cells"] for line in _cell(cell)]
    return fenced("python", text)


def fenced(language: str, text: str) -> list[str]:
    """Return a block of code, in a fence that no line of the text closes."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *text.rstrip("\n").split("\n"), fence, ""]


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = joined(cell["source"])
    if cell["cell_type"] == "markdown":
        # The page has a title of its own.
        yield from [re.sub(r"\A# [^\n]*\n+", "", source), ""]
        return
    yield from fenced(_language(source), source)
    for output in cell["outputs"]:
        yield from _output(output)


def _language(source: str) -> str:
    """Return the language of a cell: `%%sandbox` without an option is shell."""
    first = source.partition("\n")[0]
    return "bash" if first.startswith("%%sandbox") and "--python" not in first else "python"


def _output(output: dict[str, Any]) -> Iterator[str]:
    """Show what a cell printed or displayed; a table or picture comes before the text that stands for it."""
    data = output.get("data", {})
    if "text/html" in data:
        yield from ['<div class="cell-output">', *_lines(joined(data["text/html"])), "</div>", ""]
        return
    text = joined(output.get("text", data.get("text/plain", "")))
    yield from [
        f'<pre class="cell-output">{html.escape(_ESCAPE.sub("", text).rstrip())}</pre>'.replace(
            "\n", "&#10;"
        ),
        "",
    ]


def _lines(text: str) -> list[str]:
    """Return the lines without empty ones, which would end a block of HTML in Markdown."""
    return [line for line in text.split("\n") if line.strip()]


def joined(text: str | list[str]) -> str:
    """Return a notebook's text, which may be a list of lines."""
    return text if isinstance(text, str) else "".join(text)
