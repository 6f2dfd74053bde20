"""Mounting what is closed to the user that root's sandboxes run as, such as a Python below /root.

Bubblewrap runs as that user and cannot pass /root, although all that is mounted of it is readable. So root
binds the directories to places that the user passes, in a copy of the table of mounts that only this sandbox
has, and then becomes the user. Root resolves those paths with all its rights, so nobody else may be able to
change what they mean.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from sandkasten._directories import find_trouble
from sandkasten.local.errors import SandboxLostError
from sandkasten.local.identity import Identity, has_capability

_SYS_ADMIN = 21
_PROGRAMS = ("unshare", "mount", "setpriv")
_WHERE = "/usr/bin:/bin"
# Quietly, since what stands on the terminal is the sandbox's.
_SCRIPT = """
uid=$1; shift
while [ "$1" != -- ]; do
    said=$("$MOUNT" --no-canonicalize --bind "$1" "$2" 2>&1) || { printf '%s\\n' "$said"; exit 1; }
    shift 2
done
shift
exec "$SETPRIV" --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
"""


def closed(paths: Mapping[str, str], identity: Identity) -> list[str]:
    """Return the paths of this machine, of those to be mounted, that sandboxes' user cannot reach."""
    return (
        []
        if not identity.drops
        else [path for path in dict.fromkeys(paths.values()) if not _reaches(identity, path)]
    )


def opened(paths: Mapping[str, str]) -> dict[str, int]:
    """Return path inside to a descriptor of what is mounted there; the caller closes them.

    The paths were resolved before, and here they must still be what they were: without a symlink.

    Raises:
        SandboxLostError: they are not.
    """
    descriptors: dict[str, int] = {}
    for inside, path in paths.items():
        try:
            # The last step may be a symlink, which this opens; one before it shows in the name.
            descriptors[inside] = descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            is_link = stat.S_ISLNK(os.fstat(descriptor).st_mode)
            is_same = not is_link and os.readlink(f"/proc/self/fd/{descriptor}") == path
        except OSError:
            is_same = False
        if not is_same:
            for descriptor in descriptors.values():
                os.close(descriptor)
            raise SandboxLostError(f"{path} was changed while it was to be mounted")
    return descriptors


def problem_with(path: str, identity: Identity) -> str | None:
    """Return why a path cannot be mounted that sandboxes' user cannot reach, as the end of a sentence."""
    if not identity.drops:
        return "it cannot be read"
    if any(shutil.which(program, path=_WHERE) is None for program in _PROGRAMS):
        return "the programs unshare, mount and setpriv of util-linux are missing"
    if not has_capability(_SYS_ADMIN):
        return f"it is closed to uid {identity.uid}, which root's sandboxes run as"
    try:
        trouble = find_trouble(Path(path))
    except OSError:
        return "it cannot be read"
    return None if trouble is None else f"{trouble.path} {trouble.says}"


def carried(
    paths: Mapping[str, str], identity: Identity, directory: Path
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what to mount in place of some paths, and the words before the command that mounts it.

    Args:
        paths: path inside to path on this machine.
        identity: whom the command runs as.
        directory: for mount points, which all sandboxes share, as each has a table of its own.
    """
    places = {
        path: directory / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        for path in closed(paths, identity)
    }
    if not places:
        return dict(paths), ()
    directory.mkdir(exist_ok=True)
    identity.let_pass(directory)
    for path, place in places.items():
        if os.path.isdir(path):
            place.mkdir(mode=0o700, exist_ok=True)
        else:
            place.touch(mode=0o600)
    return {inside: str(places.get(path, path)) for inside, path in paths.items()}, (
        *_words(places, identity),
    )


def _words(places: Mapping[str, Path], identity: Identity) -> Iterator[str]:
    unshare, mount, setpriv = (str(shutil.which(program, path=_WHERE)) for program in _PROGRAMS)
    script = _SCRIPT.replace('"$MOUNT"', mount).replace('"$SETPRIV"', setpriv)
    yield from (unshare, "--mount", "--propagation", "private", "--", "/bin/sh", "-c", script, "sh")
    yield str(identity.uid)
    for path, place in places.items():
        yield from (path, str(place))
    yield "--"


def _reaches(identity: Identity, path: str) -> bool:
    try:
        return identity.can_reach(Path(path))
    except OSError:
        return False
