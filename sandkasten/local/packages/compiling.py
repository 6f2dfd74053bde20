"""Bytecode of packages: made by the image's own Python in a sandbox, where no code of a package runs either.

Packages are mounted read-only, so a Python that starts could not keep what it compiled, and would compile all
of a large package each time. The bytecode comes out of a sandbox, and so goes only into sandboxes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sandkasten.local.errors import ApiError
from sandkasten.local.files.tree import Tree
from sandkasten.local.isolation.policy import PREPARED, WORKSPACE
from sandkasten.local.packages.target import SEARCHED
from sandkasten.local.packages.wheels import SITE

COMPILE_MS = 180_000
_OUTPUT = "bytecode"
_MAX_BYTES = 32 * 1024 * 1024  # of one module
# -S: no `.pth` file of a package is read. Tests of packages are seldom imported.
COMMAND = (
    f"env -i PATH={SEARCHED} LC_ALL=C.UTF-8 python3 -I -S -X pycache_prefix={WORKSPACE}/{_OUTPUT} -W ignore "
    f"-m compileall -qq -j 4 --invalidation-mode unchecked-hash -x '/tests?/' {PREPARED}/{SITE} </dev/null"
)


def take(compiled: Tree, tree: Path, minor: str) -> None:
    """Copy the bytecode of an environment's modules out of a session's files; blocks.

    Only files are taken whose names belong to a module of the environment, and the kernel resolves their
    paths within the session's files.
    """
    tag = f"cpython-{minor.replace('.', '')}"
    for module in _modules(tree / SITE):
        below = module.parent.relative_to(tree)
        name = f"{module.stem}.{tag}.pyc"
        with suppress(ApiError, OSError), compiled.open(f"{_OUTPUT}{PREPARED}/{below}/{name}") as file:
            content = file.read(_MAX_BYTES + 1)
            if len(content) <= _MAX_BYTES:
                _write(module.parent / "__pycache__", name, content)


def _modules(site: Path) -> Iterator[Path]:
    for folder, _folders, files in os.walk(site):
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def _write(directory: Path, name: str, content: bytes) -> None:
    with suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(0o755)
    if stat.S_ISDIR(directory.lstat().st_mode):
        descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
