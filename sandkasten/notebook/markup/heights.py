"""The height of an HTML document, estimated from its text; pure.

A frame without scripts and with an origin of its own cannot say how high its content is, and nobody else can
look into it. So the lines are counted: tables and text, of which most pages of cells consist, come out within
a few lines. A style of the page's own may change everything, and a frame can be drawn larger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LOWEST_PX, HIGHEST_PX = 60, 1200
# The rest is taken to be like its beginning.
_LOOKED_AT_CHARS = 100_000
# For pages whose scripts draw something.
DRAWN_PX = 480

_LINE_PX = 18.5
_MARGINS_PX = 36  # of the body, and what rounding costs
_CHARS_PER_LINE = 110
_UNKNOWN_PICTURE_PX = 150
# What each kind of block adds to its lines: margins that collapse with those of its neighbours, padding.
_ADDED_PX: Mapping[str, float] = {
    "h1": 38, "h2": 28, "h3": 20, "h4": 20, "h5": 20, "h6": 20,
    "p": 16, "ul": 16, "ol": 16, "dl": 16, "pre": 16, "blockquote": 16, "figure": 16, "hr": 18,
    "tr": 3.5, "fieldset": 24,
}  # fmt: skip
_BLOCKS = {
    *_ADDED_PX, "address", "article", "aside", "body", "br", "caption", "dd", "details", "div", "dt",
    "footer", "form", "header", "html", "li", "main", "nav", "section", "summary", "table", "tbody", "thead",
}  # fmt: skip
_PICTURES = {"img", "svg", "canvas", "video", "picture"}
_UNSEEN = {"style", "script", "title", "head", "template", "svg"}
# Neither looks further than to the next tag, whatever was made to keep it busy.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,15})([^<>]*)>")
_HEIGHT = re.compile(
    r"""(?:\bheight=["']?|[;\s"'](?:min-)?height:\s?)(\d{1,5})(?:\.\d{1,5})?(?:px)?(?:["';\s]|\Z)"""
)
_LONGEST_ATTRIBUTES_CHARS = 2000


def estimated_height_px(page: str) -> int:
    """Return about how high a page is, within bounds."""
    looked_at = page[:_LOOKED_AT_CHARS]
    measure = _Measure()
    end = 0
    for tag in _TAG.finditer(looked_at):
        measure.text(looked_at[end : tag.start()])
        end = tag.end()
        if tag[1]:
            measure.end_tag(tag[2].lower())
        else:
            measure.start_tag(tag[2].lower(), tag[3])
    measure.text(looked_at[end:])
    measure.end_block()
    scale = len(page) / len(looked_at) if looked_at else 1
    return round(min(max(measure.height_px * scale + _MARGINS_PX, LOWEST_PX), HIGHEST_PX))


class _Measure:
    """Adds up the lines of text between the borders of blocks; the cells of a row are side by side."""

    def __init__(self) -> None:
        self.height_px = 0.0
        self._line_chars = 0
        self._cells: list[int] | None = None
        self._unseen = 0
        self._pre = 0

    def start_tag(self, tag: str, attributes: str) -> None:
        """Take a tag that opens an element, and what stands in it."""
        height_px = _height_of(attributes)
        if tag in _PICTURES and not self._unseen:
            self.height_px += height_px or _UNKNOWN_PICTURE_PX
        elif tag not in _UNSEEN:
            self.height_px += height_px or 0
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag == "tr":
            self.end_block()
            self._cells = []
        elif tag in {"td", "th"}:
            self._end_cell()
        elif tag in _BLOCKS and self._cells is None:
            self.end_line()
        self._pre += tag == "pre"
        self.height_px += _ADDED_PX.get(tag, 0)
        if tag == "br":
            self.height_px += _LINE_PX

    def end_tag(self, tag: str) -> None:
        """Take a tag that closes an element."""
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in {"tr", "table"}:
            self.end_block()
        elif tag in _BLOCKS and self._cells is None:
            self.end_line()
        if tag == "pre":
            self._pre = max(0, self._pre - 1)

    def text(self, data: str) -> None:
        """Take the text between two tags."""
        if self._unseen:
            return
        if self._pre:
            self.height_px += data.rstrip("\n").count("\n") * _LINE_PX
        self._line_chars += min(len(" ".join(data.split())), _CHARS_PER_LINE if self._pre else len(data))

    def end_block(self) -> None:
        """Count the row or the lines so far."""
        if self._cells is not None:
            self._end_row()
        self.end_line()

    def end_line(self) -> None:
        """Count the lines of the text so far."""
        self.height_px += -(-self._line_chars // _CHARS_PER_LINE) * _LINE_PX
        self._line_chars = 0

    def _end_cell(self) -> None:
        if self._cells is not None:
            self._cells.append(self._line_chars)
            self._line_chars = 0

    def _end_row(self) -> None:
        self._end_cell()
        cells, self._cells = self._cells or [0], None
        width = max(8, _CHARS_PER_LINE // len(cells))
        self.height_px += max(1, -(-max(cells) // width)) * _LINE_PX


def _height_of(attributes: str) -> float | None:
    found = _HEIGHT.search(attributes[:_LONGEST_ATTRIBUTES_CHARS])
    return float(found[1]) if found else None
