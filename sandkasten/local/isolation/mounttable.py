"""The table of mounts that bubblewrap starts from, and what is mounted in it before.

Where the host's mounts are shared, as systemd has them, what the host mounts below a directory of the image
later would come along into running sandboxes, with its own options: neither read-only nor `nosuid`.
Bubblewrap does not prevent that; so it is started in a copy of the table that takes no part in it any more.

A file system in memory holds names and empty files, too, which its size does not bound: the kernel lets each
have as many as an eighth of the machine's memory holds. A control group counts them as the session's memory.
Where there is none, their number is bounded, for which bubblewrap has no option: so the file systems are
mounted before it starts, and it binds them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from sandkasten.local.isolation.policy import MEMORY, Launcher, size_in_memory

# In a user namespace, since an ordinary user may copy the table only there.
_PRIVATE_TABLE = ("--user", "--map-current-user", "--mount", "--propagation", "private", "--")
# Root of that namespace: others may not mount.
_TABLE_OF_ROOT = ("--user", "--map-root-user", *_PRIVATE_TABLE[2:])
# Quietly, since what stands on the terminal is the sandbox's.
_MOUNT_ALL = 'said=$("$1" -a -T "$2" 2>&1) || { printf "%s\\n" "$said"; exit 1; }; shift 2; exec "$@"'
# Each file that is not empty takes a page anyway. So files, links and names of no size take at most about a
# third more memory than what has a size, and no tree of ordinary files comes to an end early.
_BYTES_PER_INODE = 4096


def launchers(memory: Path | None, tmp_bytes: int | None) -> tuple[Launcher, ...]:
    """Return what may start bubblewrap here, the best first; the last one needs nothing of this machine.

    Args:
        memory: a directory for mount points, which sandboxes' user passes; None where control groups count
            what file systems in memory hold.
        tmp_bytes: the size of these; None leaves it to the kernel, and the number of files, too.
    """
    mountinfo = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    found: list[Launcher] = []
    if memory is not None and tmp_bytes is not None:
        found += bounded_memory(memory, tmp_bytes)
    if takes_part(mountinfo):
        found += private_table()
    return (*found, Launcher())


def private_table() -> tuple[Launcher, ...]:
    """Return what starts a program with a table of mounts of its own; nothing without util-linux."""
    unshare = _find("unshare")
    return () if unshare is None else (Launcher((unshare, *_PRIVATE_TABLE)),)


def bounded_memory(directory: Path, tmp_bytes: int) -> tuple[Launcher, ...]:
    """Return what mounts the file systems in memory, in a table that is private; nothing without util-linux.

    All sandboxes share the mount points below the directory, as each has a table of its own. This makes them.
    """
    unshare, mount = _find("unshare"), _find("mount")
    if unshare is None or mount is None:
        return ()
    places = {path: directory / path.rpartition("/")[2] for path in MEMORY}
    for place in places.values():
        place.mkdir()
    table = directory / f"fstab-{tmp_bytes}"
    _write_table(table, places, tmp_bytes)
    words = (unshare, *_TABLE_OF_ROOT, "/bin/sh", "-c", _MOUNT_ALL, "sh", mount, str(table))
    return (Launcher(words, {path: str(place) for path, place in places.items()}),)


def resized(launcher: Launcher, tmp_bytes: int | None) -> Launcher:
    """Return a launcher whose file systems in memory have another size; one that mounts none is as it was.

    The tables of all sizes stay until the daemon ends, and each is written once.
    """
    if not launcher.memory or tmp_bytes is None:
        return launcher
    table = Path(launcher.words[-1]).with_name(f"fstab-{tmp_bytes}")
    if not table.exists():
        places = {path: Path(place) for path, place in launcher.memory.items()}
        _write_table(table, places, tmp_bytes)
    return replace(launcher, words=(*launcher.words[:-1], str(table)))


def _write_table(table: Path, places: Mapping[str, Path], tmp_bytes: int) -> None:
    table.write_text("".join(_lines(places, tmp_bytes)), "utf-8", "surrogateescape")
    table.chmod(0o644)


def _lines(places: Mapping[str, Path], tmp_bytes: int) -> Iterator[str]:
    for path, place in places.items():
        size_bytes = size_in_memory(path, tmp_bytes) or tmp_bytes
        inodes = max(1, size_bytes // _BYTES_PER_INODE)  # to the kernel, 0 is no bound
        options = f"nosuid,nodev,mode={MEMORY[path]},size={size_bytes},nr_inodes={inodes}"
        yield f"none {_escaped(str(place))} tmpfs {options} 0 0\n"


def _escaped(path: str) -> str:
    """Write a path as tables of mounts have it."""
    return "".join(f"\\{ord(each):03o}" if each in " \t\n\\#" else each for each in path)


def has_programs() -> bool:
    """Return whether the programs are there that this takes."""
    return None not in (_find("unshare"), _find("mount"))


def _find(program: str) -> str | None:
    return shutil.which(program, path="/usr/bin:/bin")


def takes_part(mountinfo: str) -> bool:
    """Return whether any mount gets what is mounted elsewhere."""
    # Optional fields stand between the sixth one and a hyphen.
    optional = (line.split(" - ")[0].split()[6:] for line in mountinfo.splitlines())
    return any(field.startswith(("shared:", "master:")) for fields in optional for field in fields)
