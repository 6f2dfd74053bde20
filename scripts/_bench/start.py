"""The cost of starting: imports, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from _bench.tools import Figure, Seconds, duration, in_turns


def figures() -> Iterator[Figure]:
    """All of this kind."""
    yield import_time()
    yield from command_line()


def import_time() -> Figure:
    """Importing the client, beside importing the HTTP library that it cannot do without."""
    with tempfile.TemporaryDirectory() as cache:
        # Byte code is compiled in the round for warmth, for both alike, and not into the tree.
        environ = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ["PYTHONPYCACHEPREFIX"] = cache
        statements = "import httpx", "from sandkasten_sync import SandboxClient"
        importing = [partial(import_once, name, environ) for name in statements]
        floor, value = in_turns(25, *importing)
    return Figure("import sandkasten_sync / import httpx", floor, value, goal=1.3)


def import_once(statement: str, environ: Mapping[str, str]) -> Seconds:
    """Import something in a fresh interpreter."""
    code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    return float(subprocess.check_output([sys.executable, "-P", "-c", code], env=environ))


def command_line() -> Iterator[Figure]:
    """The command line's help, and a whole command in a sandbox of its own."""
    sandkasten = str(Path(sys.executable).with_name("sandkasten"))
    python = partial(run, sys.executable, "-c", "pass")
    click = partial(run, sys.executable, "-c", "import click")
    floor, value = in_turns(15, click, partial(run, sandkasten, "--help"))
    yield Figure('sandkasten --help / python -c "import click"', floor, value, goal=2)
    floor, value = in_turns(7, python, partial(run, sandkasten, "run", "--", "true"))
    yield Figure("sandkasten run -- true, beyond starting Python", None, value - floor, goal=500)


def run(*argv: str) -> Seconds:
    """Run a program to its end."""
    return duration(lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL))
