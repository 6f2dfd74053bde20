"""The cost of starting: imports, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from _bench.tools import Figure, Seconds, duration, in_turns, plain_sandbox


def figures() -> Iterator[Figure]:
    """All of this kind."""
    with tempfile.TemporaryDirectory() as cache:
        # Byte code is compiled in the round for warmth, for all alike, and not into the tree.
        environ = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ["PYTHONPYCACHEPREFIX"] = cache
        yield import_time(environ)
        yield from command_line(environ)
        yield first_output(environ)


def import_time(environ: Mapping[str, str]) -> Figure:
    """Importing the client, beside importing the HTTP library that it cannot do without."""
    statements = "import httpx", "from sandkasten_sync import SandboxClient"
    floor, value = in_turns(25, *(partial(import_once, name, environ) for name in statements))
    return Figure("import sandkasten_sync / import httpx", floor, value, goal=1.2)


def import_once(statement: str, environ: Mapping[str, str]) -> Seconds:
    """Import something in a fresh interpreter."""
    code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    return float(subprocess.check_output([sys.executable, "-P", "-c", code], env=environ))


def command_line(environ: Mapping[str, str]) -> Iterator[Figure]:
    """The command line's help, and a whole command in a sandbox of its own."""
    sandkasten = str(Path(sys.executable).with_name("sandkasten"))
    python = partial(run, environ, sys.executable, "-c", "pass")
    click = partial(run, environ, sys.executable, "-c", "import click")
    floor, value = in_turns(15, click, partial(run, environ, sandkasten, "--help"))
    yield Figure('sandkasten --help / python -c "import click"', floor, value, goal=2)
    floor, value = in_turns(9, python, partial(run, environ, sandkasten, "run", "--", "true"))
    yield Figure("sandkasten run -- true, beyond starting Python", None, value - floor, goal=300)


def first_output(environ: Mapping[str, str]) -> Figure:
    """A program from its start to the first output of a sandbox, beside one that only starts bubblewrap."""
    ours = """
from sandkasten_sync import SandboxClient
with SandboxClient() as client, client.create_session() as session:
    print(session.exec("echo hello").output, end="", flush=True)"""
    argv = [*plain_sandbox(), "echo", "hello"]
    plain = f"import subprocess; subprocess.run({argv!r}, check=True)"
    floor, value = in_turns(9, partial(first_line, environ, plain), partial(first_line, environ, ours))
    return Figure("a program's start to its first output / Python and bwrap ... echo", floor, value, goal=3)


def first_line(environ: Mapping[str, str], code: str) -> Seconds:
    """Run a program until it prints its first line; its end is not counted."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hello\n"
        return time.perf_counter() - began


def run(environ: Mapping[str, str], *argv: str) -> Seconds:
    """Run a program to its end."""
    return duration(lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environ))
