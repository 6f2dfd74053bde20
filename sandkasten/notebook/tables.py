"""Tables of facts, as text and as HTML; pure. Every cell is escaped where it is written."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from sandkasten.notebook.text import one_line

# Both themes of JupyterLab set these; elsewhere the page's own colours are taken.
_FAINT = "color: var(--jp-ui-font-color2, #777)"
_RULE = "border-bottom: 1px solid var(--jp-border-color2, #8884)"
_CELL = "padding: 3px 18px 3px 0; text-align: left; vertical-align: top; white-space: nowrap"


@dataclass(frozen=True)
class Table:
    """Rows of texts below their headers; without headers, the first column is what names each row.

    Attributes:
        rows: all of one length.
        headers: as many as a row has texts, or none.
        note: a line below the table.
        right: the columns that hold numbers, counted from 0.
    """

    rows: Sequence[Sequence[str]]
    headers: Sequence[str] = ()
    note: str = ""
    right: frozenset[int] = frozenset()

    def as_text(self) -> str:
        """Columns of equal width, for terminals."""
        rows = [
            [one_line(text) for text in row]
            for row in ([self.headers] if self.headers else []) + [*self.rows]
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(self._padded(row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, self.note] if self.note else lines)

    def as_html(self) -> str:
        """A table that takes the colours of the page."""
        head = f"<thead>{self._row(self.headers, 'th')}</thead>" if self.headers else ""
        body = "".join(self._row(row, "td") for row in self.rows)
        note = f'<div style="{_FAINT}">{html.escape(one_line(self.note))}</div>' if self.note else ""
        table = f'<table style="border-collapse: collapse; margin: 2px 0">{head}<tbody>{body}</tbody></table>'
        return f"<div>{table if self.rows else ''}{note}</div>"

    def _padded(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        pairs = enumerate(zip(row, widths, strict=True))
        return [text.rjust(width) if n in self.right else text.ljust(width) for n, (text, width) in pairs]

    def _row(self, row: Sequence[str], tag: str) -> str:
        cells = [
            f'<{tag} style="{self._style(n, tag)}">{html.escape(one_line(t))}</{tag}>'
            for n, t in enumerate(row)
        ]
        return f'<tr style="background: none">{"".join(cells)}</tr>'

    def _style(self, column: int, tag: str) -> str:
        style = f"{_CELL}; text-align: right" if column in self.right else _CELL
        is_name = tag == "th" or (column == 0 and not self.headers)
        return f"{style}; {_FAINT}; font-weight: normal" + f"; {_RULE}" * (tag == "th") if is_name else style
