"""Draw the pictures of the start page from what real commands and cells print.

Usage: `python scripts/_docs/record.py` writes terminal.svg and notebook.svg in docs/assets, and the outputs
of the notebook in docs/examples. With `--check` it only compares the pictures; a test of notebooks compares
the outputs. It needs what tests need.
"""

from __future__ import annotations

import argparse
import base64
import copy
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
EXAMPLE = ROOT / "docs" / "examples" / "data_analysis.ipynb"
COMMANDS = [
    "sandkasten run -- python3 -c 'print(6 * 7)'",
    "sandkasten run -- ls ~/.ssh  # your files are not there",
    "sandkasten run -- 'echo hello > /dev/tcp/1.1.1.1/80'  # nor is a network",
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
    "A connection finds no network. An endless loop is stopped after one second.",
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
    execute(book, data_dir)
    return [step_of(cell) for cell in book.cells]


def execute(book: Any, data_dir: Path) -> None:
    """Run a notebook's cells, whose outputs it has then, without the times at which they ran."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SANDKASTEN_")}
    environ |= {
        "SANDKASTEN_DATA_DIR": str(data_dir),
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(data_dir / "ipython"),
    }
    client = NotebookClient(
        book,
        timeout=30,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(data_dir)}},
    )
    client.execute(env=environ)


def example_text(data_dir: Path) -> str:
    """Return the example's notebook with the outputs of this run, and with the metadata that it had."""
    book = nbformat.read(EXAMPLE, 4)
    metadata = copy.deepcopy(book.metadata)
    execute(book, data_dir)
    book.metadata = metadata
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    return str(nbformat.writes(book)) + "\n"


def merged(outputs: list[Any]) -> list[Any]:
    """Join pieces of one stream, which come apart as chance has it."""
    joined: list[Any] = []
    for output in outputs:
        is_more = output.output_type == "stream" and joined and joined[-1].get("name") == output.name
        if is_more:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


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
        files = {ASSETS / name: text for name, text in pictures(data_dir).items()}
        if not arguments.check:
            files[EXAMPLE] = example_text(data_dir)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    return compare(files) if arguments.check else write(files)


def compare(files: dict[Path, str]) -> int:
    """Name the files that are not as they should be; the exit code."""
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} is stale. Run: python scripts/_docs/record.py", file=sys.stderr)
    return 1 if stale else 0


def write(files: dict[Path, str]) -> int:
    """Write files; the exit code."""
    for path, text in files.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
