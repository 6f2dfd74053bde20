"""The start of root's sandboxes as another user, by a small static program of ours; see `dropper.c`.

`Popen` can become another user as well. But then it copies the table of all of the daemon's memory each time.
"""

from __future__ import annotations

import os
import platform
from importlib import resources
from pathlib import Path

from sandkasten.local.identity import Identity

_MACHINES = ("x86_64", "aarch64")


def place_dropper(identity: Identity, directory: Path, machine: str = "") -> tuple[str, ...]:
    """Return the words before a command that have it run as sandboxed code's user; none: `Popen` does that.

    Args:
        identity: whom the command runs as.
        directory: the daemon's own, where the program is put.
        machine: the kind of this machine.
    """
    machine = machine or platform.machine()
    if not identity.drops or machine not in _MACHINES or os.statvfs(directory).f_flag & os.ST_NOEXEC:
        return ()
    program = directory / "dropper"
    program.write_bytes(
        (resources.files("sandkasten.local.isolation.spawner") / f"dropper-{machine}").read_bytes()
    )
    program.chmod(0o500)
    return (str(program), str(identity.uid))
