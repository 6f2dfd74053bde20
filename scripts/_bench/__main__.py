"""Measure what Sandkasten costs beside the least it could cost; `scripts/bench` runs this.

A figure and its floor are measured in turns, in the same run: a machine's speed varies more from hour to hour
than most changes to the code do, and a ratio of medians keeps still. To add a figure, write a function
that returns one, and yield it in `figures` of the module beside this one that it belongs to.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from dataclasses import asdict
from html import escape
from pathlib import Path

from _docs import figures as words

from _bench import growth, interference, many, sessions, start, transfers
from _bench.tools import Figure

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "start": start,
    "sessions": sessions,
    "transfers": transfers,
    "many": many,
    "growth": growth,
    "interference": interference,
}


def as_table(rows: list[Figure]) -> str:
    """Show the figures to people."""
    line = "{:<74} {:>9} {:>9} {:<8} {:>6} {:>5}  {}".format
    head = line("figure", "floor", "value", "", "ratio", "goal", "").rstrip()
    lines = [
        line(
            row.name,
            number(row.floor),
            number(row.value),
            row.unit,
            number(row.ratio),
            number(row.goal),
            row.verdict,
        ).rstrip()
        for row in rows
    ]
    return "\n".join([head, "-" * len(head), *lines])


def number(value: float | None) -> str:
    """Show three digits, and a dash for nothing."""
    return "-" if value is None else f"{float(f'{value:.3g}'):,g}"


def as_json(rows: list[Figure]) -> str:
    """Show the figures to programs."""
    told = [asdict(row) | {"ratio": row.ratio} for row in rows]
    return json.dumps({"python": platform.python_version(), "figures": told}, indent=2)


def with_figures(page: str, rows: list[Figure], marker: str, drawing: str) -> str:
    """Put the table between a page's markers, with a drawing below."""
    lines = ["| figure | floor | value | ratio | goal | |", "| --- | --: | --: | --: | --: | --- |"]
    for row in rows:
        goal = "" if row.goal is None else f"{'≥' if row.at_least else '≤'} {number(row.goal)}"
        cells = (
            row.name,
            number(row.floor),
            f"{number(row.value)} {row.unit}",
            number(row.ratio),
            goal,
            row.verdict,
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}"
    body = "\n\n".join(["\n".join(lines), f"Taken on: {machine}.", drawing]).strip()
    told = f"<!-- {marker} -->\n\n{body}\n\n<!-- /{marker} -->"
    return re.sub(f"<!-- {marker} -->.*<!-- /{marker} -->", lambda _: told, page, flags=re.DOTALL)


_STYLE = (
    "text{fill:#222}.line{stroke:#222}.met{fill:#2a9d8f}.missed{fill:#e76f51}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.line{stroke:#ddd}}"
)


def as_plot(rows: list[Figure]) -> str:
    """Draw how far each figure is from its goal: a bar up to the line is a goal that was just met."""
    held = [(row, row.value if row.ratio is None else row.ratio) for row in rows if row.goal]
    left, unit, most = 470, 150, 2.0
    width, height = left + int(most * unit) + 90, 30 * len(held) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><style>{_STYLE}</style>'
    ]
    for index, (row, value) in enumerate(held):
        assert row.goal is not None
        share = row.goal / value if row.at_least else value / row.goal
        beyond = " ..." if share > most else ""  # the bar ends there, and goes on
        end, y = left + min(most, share) * unit, 30 * index + 30
        parts.append(
            f'<text x="{left - 10}" y="{y + 14}" text-anchor="end">{escape(row.name)}</text>'
            f'<rect x="{left}" y="{y}" width="{end - left:.0f}" height="20" rx="3" class="{row.verdict}"/>'
            f'<text x="{end + 6:.0f}" y="{y + 14}">{number(value)}{beyond}</text>'
        )
    x = left + unit
    parts.append(
        f'<line x1="{x}" y1="22" x2="{x}" y2="{height - 6}" class="line" stroke-dasharray="4 3"/>'
        f'<text x="{x}" y="16" text-anchor="middle">goal</text></svg>'
    )
    return "\n".join(parts) + "\n"


def write(rows: list[Figure], *, of_a_cluster: bool) -> None:
    """Put the figures into the documentation."""
    page, plot = (ROOT / "docs" / name for name in ("performance.md", "performance.svg"))
    marker = "cluster figures" if of_a_cluster else "figures"
    drawing = "" if of_a_cluster else f"![How far each figure is from its goal]({plot.name}){{ .drawing }}"
    page.write_text(with_figures(page.read_text("utf-8"), rows, marker, drawing), "utf-8")
    if not of_a_cluster:
        plot.write_text(as_plot(rows), "utf-8")
        words.write(ROOT)


def main() -> None:
    """Measure everything and print the figures."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure what Sandkasten costs.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--only", choices=KINDS, action="append", help="measure only this kind, and others so named"
    )
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="measure a cluster of three nodes on this machine, and only that",
    )
    parser.add_argument("--docs", action="store_true", help="put the figures into docs/performance.md")
    arguments = parser.parse_args()
    if arguments.only and (arguments.docs or arguments.cluster):
        parser.error("the page has all figures, and --cluster has its own: leave out --only.")
    if arguments.cluster:
        from _bench import cluster  # noqa: PLC0415  (with Ray)

        rows = list(cluster.figures())
    else:
        rows = [row for kind in arguments.only or KINDS for row in KINDS[kind].figures()]
    print(as_table(rows))
    if arguments.docs:
        write(rows, of_a_cluster=arguments.cluster)
    if arguments.json is not None:
        arguments.json.write_text(as_json(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
