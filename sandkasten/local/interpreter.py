"""The daemon's Python and its environment, whatever the embedding process is; standard library only.

Nothing of that process is harmless to inherit. Here its environment is cut down and its Python is found; what
a process inherits beyond that (signals, priorities, limits) the daemon sets right itself, see `inherited.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# The daemon has the same modules as this process, in the same order, except for the standard library's, which
# go first, lest a script's `queue.py` becomes the daemon's.
# All that is imported stays, so nothing of it is looked at for garbage: that takes a sixth of the time.
_BOOT = (
    "import gc, sys; gc.disable(); sys.path += sys.argv[1:]; "
    "from sandkasten.local.embedded import main; gc.freeze(); gc.enable(); main()"
)
# -X utf8: names of files are bytes to the daemon, in whatever encoding the user's locale has them.
_OPTIONS = ("-I", "-S", "-X", "utf8", "-c")
# What the loader and the allocator do at the wish of the environment, except for finding libraries, which
# some interpreters need. Each program that is started would complain of a library that cannot be preloaded.
_LOADER = ("LD_", "MALLOC_", "GLIBC_TUNABLES")
_KEPT = "LD_LIBRARY_PATH"


def daemon_command() -> list[str]:
    """Return the command line of an embedded daemon.

    Raises:
        FileNotFoundError: there is no Python to run it with.
    """
    return [_python(), *_OPTIONS, _BOOT, *_module_paths()]


def daemon_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the daemon may see of an environment."""
    return {name: value for name, value in environ.items() if name == _KEPT or not name.startswith(_LOADER)}


def _python() -> str:
    """Find the program of this interpreter; `sys.executable` is None or the host's where it is embedded."""
    for path in _candidates():
        if path and "py" in os.path.basename(path).lower() and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError


def _candidates() -> Iterator[str | None]:
    yield sys.executable
    yield getattr(sys, "_base_executable", None)
    for prefix in (sys.exec_prefix, sys.base_exec_prefix):
        yield os.path.join(prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")


def _module_paths() -> list[str]:
    here = str(Path(__file__).resolve().parents[2])
    return list(dict.fromkeys([*_absolute(sys.path), here]))


def _absolute(paths: list[str]) -> Iterator[str]:
    for path in filter(None, paths):
        try:
            yield os.path.abspath(path)
        except FileNotFoundError:
            continue  # seen from a current directory that is gone: nothing is found there
