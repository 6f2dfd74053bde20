"""Compile spawner and dropper for all machines, with one pinned compiler, in a throw-away environment.

The binaries are committed, so that neither users nor tests need a compiler. Each holds the digest of the
source that it was made of, and a test compares that.

Usage: python scripts/build_spawner.py [--check]; with --check nothing is written, and other bytes are errors.
"""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

COMPILER = "ziglang==0.17.0"  # a C compiler with a C library (musl) for each machine, as a Python package
MACHINES = ("x86_64", "aarch64")
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-static", "-Os", "-s", "-fno-ident")
FOLDER = Path(__file__).resolve().parents[1] / "sandkasten" / "local" / "isolation" / "spawner"
PROGRAMS = ("spawner", "dropper")


def main() -> int:
    """Compile, and write or compare."""
    stale = []
    with tempfile.TemporaryDirectory() as directory:
        python = compiler(Path(directory) / "venv")
        for program, machine in itertools.product(PROGRAMS, MACHINES):
            built = compiled(python, program, machine, Path(directory))
            committed = FOLDER / f"{program}-{machine}"
            if "--check" not in sys.argv[1:]:
                committed.write_bytes(built)
                print(f"{committed.name}: {len(built)} bytes")
            elif committed.read_bytes() != built:
                stale.append(committed.name)
    for name in stale:
        source = f"{name.partition('-')[0]}.c"
        print(f"{name} is not what {source} gives. Run: python scripts/build_spawner.py", file=sys.stderr)
    return bool(stale)


def compiler(place: Path) -> Path:
    """Install the compiler, and return the Python that runs it."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", COMPILER], check=True)
    return python


def compiled(python: Path, program: str, machine: str, directory: Path) -> bytes:
    """Return a program for a machine."""
    source = FOLDER / f"{program}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    into = directory / f"{program}-{machine}"
    words = ["-target", f"{machine}-linux-musl", *FLAGS, f'-DSOURCE="{digest}"', "-o", into, source.name]
    # In its folder, so that the binary does not depend on where that is.
    subprocess.run([python, "-m", "ziglang", "cc", *words], check=True, cwd=FOLDER)
    return into.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
