"""Running an example as its reader does: as a script of its own, with nothing but the package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sandkasten.local.launch import LocalDaemon

ROOT = Path(__file__).resolve().parents[1]


def run(code: str, data_dir: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run code, which must succeed and complain of nothing; give what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(data_dir), "SANDKASTEN_DATA_DIR": str(data_dir)}
        | dict(environ or {}),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def address_of(daemon: LocalDaemon) -> dict[str, str]:
    """Return the settings with which a client without options uses a daemon that runs, and starts none."""
    target = daemon.target
    return {"SANDKASTEN_BASE_URL": f"unix://{target.socket_path}", "SANDKASTEN_API_KEY": str(target.api_key)}
