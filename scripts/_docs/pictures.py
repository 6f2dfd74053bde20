"""Draw a terminal and a notebook as SVG; pure.

A drawing is shown in two ways: as a file, where the reader's system chooses between light and dark, and
within a page, where the page does (see `docs/assets/extra.css`). So its colours are variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 620
_LINE, _PAD, _BAR = 20, 18, 34
_GUTTER = 44
_COLUMNS = 72
_PYTHON = re.compile(
    r"(?P<magic>^%.*$)|(?P<text>f?\"[^\"]*\"|f?'[^']*')|(?P<word>\b(?:for|in|with|as|import|from|print|open)\b)",
    re.MULTILINE,
)
_STYLE = """\
.pic { --ground: #fffdf9; --band: #f1e8d6; --line: #d9c9a3; --ink: #12333c }
.pic { --dim: #6b6455; --sea: #0a6470; --sand: #8a5508 }
@media (prefers-color-scheme: dark) {
.pic { --ground: #13252b; --band: #1b333b; --line: #2c4a53; --ink: #e8e3d6 }
.pic { --dim: #9fb0b3; --sea: #6cc5cf; --sand: #e9b44c }
}
.pic text { font: 13.5px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace }
.pic text { fill: var(--ink); white-space: pre }
.pic .ground { fill: var(--ground); stroke: var(--line) }
.pic .band { fill: var(--band) }
.pic .dot { fill: var(--line) }
.pic .dim { fill: var(--dim) }
.pic .sea { fill: var(--sea) }
.pic .sand { fill: var(--sand) }
"""


@dataclass(frozen=True)
class Step:
    """A command or a cell, and what came of it.

    Attributes:
        source: what was typed.
        output: what was printed.
        drawing: the SVG that a cell made; empty if it made none.
        drawing_size: the width and height to show it with.
    """

    source: str
    output: str
    drawing: str = ""
    drawing_size: tuple[int, int] = (0, 0)


def terminal(steps: Sequence[Step], title: str, description: str) -> str:
    """Draw a terminal with commands and their outputs."""
    parts, y = [], _BAR + _PAD
    for step in steps:
        command, _, comment = step.source.partition("  # ")
        shown = f'<tspan class="sand">$</tspan> {escape(command)}'
        if comment:
            shown += f'<tspan class="dim">  # {escape(comment)}</tspan>'
        parts.append(_text(_PAD, y + 10, shown))
        y += _LINE
        for line in _folded(step.output):
            parts.append(_text(_PAD, y + 10, escape(line), "sea"))
            y += _LINE
        y += 8
    dots = "".join(f'<circle class="dot" cx="{_PAD + 4 + 18 * at}" cy="17" r="5"/>' for at in range(3))
    return _svg("terminal", title, description, y + _PAD - 12, [dots, *parts])


def notebook(steps: Sequence[Step], title: str, description: str) -> str:
    """Draw a notebook with cells, what they printed, and the pictures that they made."""
    parts, y = [], _BAR + 12
    left = _PAD + _GUTTER
    for number, step in enumerate(steps, 1):
        lines = step.source.split("\n")
        height = len(lines) * _LINE + 14
        parts.append(_text(_PAD - 4, y + 21, f"[{number}]:", "dim"))
        parts.append(
            f'<rect class="band" x="{left}" y="{y}" width="{WIDTH - left - _PAD}" height="{height}" rx="5"/>'
        )
        parts += [_text(left + 12, y + 21 + _LINE * at, _coloured(line)) for at, line in enumerate(lines)]
        y += height + 8
        for line in _folded(step.output):
            parts.append(_text(left + 12, y + 12, escape(line), "sea"))
            y += _LINE
        if step.drawing:
            width, height = step.drawing_size
            parts.append(_placed(step.drawing, left + 12, y + 2, width, height))
            y += height + 10
        y += 6
    tab = f'<text class="dim" x="{_PAD}" y="22">rides.ipynb</text>'
    return _svg("notebook", title, description, y + 8, [tab, *parts])


def _svg(name: str, title: str, description: str, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pic" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="{name}-title {name}-description">\n'
        f'<title id="{name}-title">{escape(title)}</title>\n'
        f'<desc id="{name}-description">{escape(description)}</desc>\n<style>\n{_STYLE}</style>\n'
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="9"/>\n'
        f'<path class="band" d="M1 {_BAR}V9a8 8 0 0 1 8-8H{WIDTH - 9}a8 8 0 0 1 8 8V{_BAR}z"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _text(x: int, y: int, inner: str, kind: str = "") -> str:
    return f'<text{f" class={chr(34)}{kind}{chr(34)}" if kind else ""} x="{x}" y="{y}">{inner}</text>'


def _folded(output: str) -> Iterator[str]:
    """Break lines as a terminal of this width does, at words where it can."""
    for line in output.rstrip("\n").split("\n") if output.strip() else []:
        rest = line
        while len(rest) > _COLUMNS:
            cut = rest.rfind(" ", 0, _COLUMNS) + 1 or _COLUMNS
            yield rest[:cut].rstrip()
            rest = rest[cut:]
        yield rest


def _coloured(line: str) -> str:
    """Give Python's strings and words, and magics, their colours."""
    shown, at = "", 0
    for match in _PYTHON.finditer(line):
        kind = {"magic": "sand", "text": "sea", "word": "sand"}[match.lastgroup or "text"]
        shown += f'{escape(line[at : match.start()])}<tspan class="{kind}">{escape(match[0])}</tspan>'
        at = match.end()
    return shown + escape(line[at:])


def _placed(drawing: str, x: int, y: int, width: int, height: int) -> str:
    """Put a drawing into another one, at a place and in a size."""
    place = f'<svg x="{x}" y="{y}" width="{width}" height="{height}"'
    return re.sub(r'^<svg(?: xmlns="[^"]*")?', lambda _: place, drawing.strip())
