"""Draw the pictures of the start page from what real commands and cells print.

Usage: `python scripts/_docs/record.py` writes terminal.svg and notebook.svg in docs/assets, with `--check` it
only compares. It needs what tests need, and curl.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from _docs.pictures import Step, notebook, terminal  # noqa: E402  (found by the line above)

ASSETS = ROOT / "docs" / "assets"
COMMANDS = [
    "sandkasten run -- python3 -c 'print(6 * 7)'",
    "sandkasten run -- ls ~/.ssh  # your files are not there",
    "sandkasten run -- curl -sS https://example.com  # nor is a network",
    "sandkasten run --timeout 1 -- 'while :; do :; done'  # nothing hangs",
]
CELLS = [
    "%load_ext sandkasten",
    "%%sandbox\nmkdir rides && cd rides\necho 3 5 9 14 22 30 34 31 24 15 8 4 > counts",
    """\
%%sandbox --python
rides = [int(word) for word in open("counts").read().split()]
bars = [f'<rect x="{40 * i}" y="{140 - 4 * n}" width="32"'
        f' height="{4 * n}"/>' for i, n in enumerate(rides)]
with open("rides.svg", "w") as file:
    print('<svg xmlns="http://www.w3.org/2000/svg" fill="teal"'
          ' viewBox="0 0 480 140">', *bars, "</svg>", file=file)
print("most rides in a month:", max(rides))""",
]
# Title and description, for those who cannot see the pictures.
TERMINAL_WORDS = (
    "A terminal with four commands in sandboxes",
    "Each begins with: sandkasten run. Python prints 42. A listing of ~/.ssh finds no such directory. "
    "A download finds no network. An endless loop is stopped after one second.",
)
NOTEBOOK_WORDS = (
    "A notebook whose cells run in a sandbox",
    "The first cell loads the extension. The second one is shell: it makes a directory and writes a file. "
    "The third one is Python: it reads that file and draws twelve bars, which stand below the cell.",
)


def terminal_steps(data_dir: Path) -> list[Step]:
    """Run the commands, as somebody whose home is /home/you."""
    environ = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/home/you",
        "SANDKASTEN_DATA_DIR": str(data_dir),
        "PYTHONPATH": str(ROOT),
    }
    return [Step(command, printed(command, environ)) for command in COMMANDS]


def printed(command: str, environ: dict[str, str]) -> str:
    """Return what a command prints, on a terminal both outputs."""
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def notebook_steps(data_dir: Path) -> list[Step]:
    """Run the cells in a kernel."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SANDKASTEN_")}
    environ |= {
        "SANDKASTEN_DATA_DIR": str(data_dir),
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(data_dir / "ipython"),
    }
    client = NotebookClient(
        book, timeout=30, kernel_name="python3", resources={"metadata": {"path": str(data_dir)}}
    )
    client.execute(env=environ)
    return [step_of(cell) for cell in book.cells]


def step_of(cell: Any) -> Step:
    """Return a cell with what it printed, and the picture that it made."""
    texts = "".join(output.get("text", "") for output in cell.outputs)
    pages = "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
    found = re.search(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", pages)
    drawing = base64.b64decode(found[1]).decode() if found else ""
    return Step(cell.source, texts, drawing, (360, 105) if drawing else (0, 0))


def pictures(data_dir: Path) -> dict[str, str]:
    """Return the drawings by their names."""
    return {
        "terminal.svg": terminal(terminal_steps(data_dir), *TERMINAL_WORDS),
        "notebook.svg": notebook(notebook_steps(data_dir), *NOTEBOOK_WORDS),
    }


def main() -> int:
    """Write or compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    arguments = parser.parse_args()
    # Not below a home: the user that root's sandboxes run as must reach the data.
    data_dir = Path(tempfile.mkdtemp(prefix="sandkasten-pictures-", dir="/tmp"))
    data_dir.chmod(0o711)
    try:
        drawn = pictures(data_dir)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    stale = [
        name
        for name, text in drawn.items()
        if not (ASSETS / name).is_file() or (ASSETS / name).read_text("utf-8") != text
    ]
    if arguments.check:
        for name in stale:
            print(f"docs/assets/{name} is stale. Run: python scripts/_docs/record.py", file=sys.stderr)
        return 1 if stale else 0
    for name, text in drawn.items():
        (ASSETS / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
