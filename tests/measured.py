"""A pytest plugin for `scripts/coverage`: embedded daemons measure themselves, too.

Coverage starts by a `.pth` file in each Python that a test starts. An embedded daemon runs with the options
`-I -S` and reads no such file, so this plugin puts the start into the daemon's first line.
"""

from __future__ import annotations

from sandkasten.local import interpreter

_IMPORT = "from sandkasten.local.embedded import main"

assert _IMPORT in interpreter._BOOT
interpreter._BOOT = interpreter._BOOT.replace(
    _IMPORT, f"import coverage; coverage.process_startup(); {_IMPORT}"
)
