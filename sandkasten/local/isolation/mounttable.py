"""The table of mounts that bubblewrap starts from; pure but for `launcher`.

Where the host's mounts are shared, as systemd has them, what the host mounts below a directory of the image
later would come along into running sandboxes, with its own options: neither read-only nor `nosuid`.
Bubblewrap does not prevent that; so it is started in a copy of the table that takes no part in it any more.
"""

from __future__ import annotations

import shutil
from pathlib import Path

# In a user namespace, since an ordinary user may copy the table only there.
_PRIVATE_TABLE = ("--user", "--map-current-user", "--mount", "--propagation", "private", "--")


def launcher() -> tuple[str, ...]:
    """Return the words before bubblewrap's; none where they are not needed, or cannot be had."""
    mountinfo = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    return private_table() if takes_part(mountinfo) else ()


def private_table() -> tuple[str, ...]:
    """Return the words that start a program with a table of mounts of its own; none without util-linux."""
    unshare = shutil.which("unshare", path="/usr/bin:/bin")
    return () if unshare is None else (unshare, *_PRIVATE_TABLE)


def takes_part(mountinfo: str) -> bool:
    """Return whether any mount gets what is mounted elsewhere."""
    # Optional fields stand between the sixth one and a hyphen.
    optional = (line.split(" - ")[0].split()[6:] for line in mountinfo.splitlines())
    return any(field.startswith(("shared:", "master:")) for fields in optional for field in fields)
