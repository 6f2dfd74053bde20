"""The parts of uvicorn that a daemon loads, and all of it for those who ask for more."""

from __future__ import annotations

import json
import subprocess
import sys

LOADED = """
import json, sys
import sandkasten.local.embedded
before = [name for name in ("uvicorn.main", "click.core", "multiprocessing") if name in sys.modules]
import click, uvicorn
import uvicorn.config
from click import Command
from uvicorn import Config
from sandkasten.local.api.http.serving import Config as ours
try:
    uvicorn.nothing
except AttributeError as error:
    lacks = str(error)
after = [name for name in ("uvicorn.main", "click.core") if name in sys.modules]
print(json.dumps([before, after, lacks, Config is ours is uvicorn.config.Config, callable(uvicorn.run),
    click.style("x", fg="red"), uvicorn.__version__ > "0"]))
"""


def test_a_daemon_loads_no_command_line_and_whoever_wants_it_has_it() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], stdout=subprocess.PIPE, check=True)
    before, after, lacks, *rest = json.loads(done.stdout)
    assert before == []
    assert after == ["uvicorn.main", "click.core"]
    assert "has no attribute 'nothing'" in lacks
    assert rest == [True, True, "\x1b[31mx\x1b[0m", True]
