"""Put the figures of docs/performance.md into words, there and on the pages where readers start.

Usage: `python scripts/_docs/figures.py` writes the words, with `--check` it only compares.
`scripts/bench --docs` writes them after the table that they come from.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "docs/performance.md"
PAGES = ("README.md", "docs/index.md", SOURCE)

_ROW = re.compile(r"^\| (?P<name>[^|]+) \| [^|]+ \| (?P<value>\S+) (?P<unit>\S+) \|", re.MULTILINE)
_CORES = re.compile(r"^Taken on: .*?(\d+) cores", re.MULTILINE)
_NUMBERS = {1: "one core", 2: "two cores", 4: "four cores", 8: "eight cores"}

# What a reader does, the beginning of the figure's name, and the words around its value.
COSTS = [
    (
        "Make a session and run its first command, if one is ready",
        "create_session + first exec, pooled",
        "{}",
    ),
    ("The same, if none is ready", "create_session + first exec, cold", "{}"),
    ("Run a command in a session", 'session.exec("true") / client.health()', "{}"),
    ("See a line of output that a running command prints", "echo in the sandbox to chunk", "{}"),
    ("Run many commands at once, in 64 sessions", "execs per second, 64 sessions", "{} commands a second"),
    ("Stream output", "stream of 64 MiB", "{}"),
    ("Upload a large file", "upload of 256 MiB", "{}"),
    ("Download a large file", "download of 256 MiB", "{}"),
    ("Keep an idle session", "memory of an idle session", "{} of memory"),
    ("Keep 10,000 sessions in one client", "client memory for 10,000 sessions", "{} of memory"),
    ("`sandkasten run -- true`, beyond the start of Python", "sandkasten run -- true", "{}"),
    ("Import `sandkasten_sync`", "import sandkasten_sync", "{}"),
]


class Values:
    """The figures of a table, by the beginnings of their names."""

    def __init__(self, page: str) -> None:
        """Read the table of a page, and the machine below it."""
        self._rows: Mapping[str, tuple[float, str]] = {
            match["name"]: (float(match["value"].replace(",", "")), match["unit"])
            for match in _ROW.finditer(page)
        }
        cores = int(_CORES.findall(page)[0])
        self.cores = _NUMBERS.get(cores, f"{cores} cores")

    def said(self, beginning: str) -> str:
        """Return a figure as people say it, such as `24 ms`."""
        found = [row for name, row in self._rows.items() if name.startswith(beginning)]
        if len(found) != 1:
            raise LookupError(f"{SOURCE} has {len(found)} figures that begin with {beginning!r}, not one.")
        ((value, unit),) = found
        number = f"{rounded(value):,g}"
        return number if unit == "/s" else f"{number} {unit}"


def rounded(value: float) -> float:
    """Round to two digits, and to one below ten."""
    return float(f"{value:.{1 if value < 10 else 2}g}")


def sentence(values: Values) -> str:
    """Return what a session costs, in one sentence."""
    pooled, cold, command = (values.said(COSTS[index][1]) for index in range(3))
    memory = values.said("memory of an idle session")
    return (
        f"On {values.cores}, a session takes about {pooled} if one is kept ready and {cold} if not, "
        f"a command about {command}, and an idle session {memory} of memory."
    )


def table(values: Values) -> str:
    """Return what everything costs, a row each."""
    rows = [f"| {what} | {words.format(values.said(name))} |" for what, name, words in COSTS]
    return "\n".join(["| what you do | cost, about |", "| --- | --: |", *rows])


def with_words(page: str, values: Values) -> str:
    """Put the words between a page's markers."""
    for marker, words in (("costs", sentence(values)), ("cost table", f"\n\n{table(values)}\n\n")):
        told = f"<!-- {marker} -->{words}<!-- /{marker} -->"
        before, found, rest = page.partition(f"<!-- {marker} -->")
        if found:
            page = before + told + rest.partition(f"<!-- /{marker} -->")[2]
    return page


def write(root: Path = ROOT, *, check: bool = False) -> list[str]:
    """Write the words into all pages, or only compare; return the pages that had others."""
    values = Values((root / SOURCE).read_text("utf-8"))
    stale = []
    for name in PAGES:
        text = (root / name).read_text("utf-8")
        if (new := with_words(text, values)) != text:
            stale.append(name)
            if not check:
                (root / name).write_text(new, "utf-8")
    return stale


def main() -> int:
    """Write or compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    arguments = parser.parse_args()
    stale = write(check=arguments.check)
    if arguments.check and stale:
        print(f"{', '.join(stale)}: stale. Run: python scripts/_docs/figures.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
