"""A pytest plugin for `scripts/coverage`: all processes that tests start measure themselves.

Coverage starts by a `.pth` file in each Python that finds its settings in the environment. A test that gives
a process an environment of its own leaves them out, so this plugin puts them in. An embedded daemon runs with
the options `-I -S` and reads no such file, so the plugin puts the start into the first line of the daemon.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

from sandkasten.local import interpreter

_IMPORT = "from sandkasten.local.embedded import main"

assert _IMPORT in interpreter._BOOT
interpreter._BOOT = interpreter._BOOT.replace(
    _IMPORT, f"import coverage; coverage.process_startup(); {_IMPORT}"
)

_start = subprocess.Popen.__init__


def _measured(process: subprocess.Popen[Any], *args: Any, **options: Any) -> None:
    if options.get("env") is not None:
        settings = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        options["env"] = settings | dict(options["env"])
    _start(process, *args, **options)


subprocess.Popen.__init__ = _measured  # type: ignore[method-assign]
