"""Places on both sides: paths in the sandbox, and where on this machine a download goes."""

from __future__ import annotations

import os
import posixpath
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from sandkasten import _checks as check
from sandkasten._protocol import WORKSPACE
from sandkasten.errors import SandkastenError, SandkastenInputError, SandkastenResponseError

_IS_WINDOWS = os.name == "nt"

_SLASHES = ("/", os.sep)
_NOT_ON_WINDOWS = re.compile(
    r'[<>:"/\\|?*\x00-\x1f]|[. ]$|^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)', re.IGNORECASE
)


# --- in the sandbox


def absolute(path: str | PurePosixPath, *, name: str = "path") -> str:
    """The path as commands see it.

    Raises:
        SandkastenInputError: it is not below /workspace, which is all that most daemons reach.
    """
    whole = posixpath.normpath(posixpath.join(WORKSPACE, check.sandbox_path(path, name=name)))
    if whole != WORKSPACE and not whole.startswith(f"{WORKSPACE}/"):
        raise SandkastenInputError(
            f"{name} {str(path)[:200]!r} is outside /workspace.", "Reach other files by a command."
        )
    return whole


def in_workspace(path: str | PurePosixPath) -> str:
    """Return the path from the root of a workspace, as calls without a session take it on every daemon.

    A path outside begins with `..`, which every daemon refuses to read and to write. (The Go daemon lists its
    root instead, so `check_in_workspace` comes first.)
    """
    return posixpath.relpath(posixpath.join(WORKSPACE, check.sandbox_path(path)), WORKSPACE)


def listed_name(name: str) -> str:
    """Return a name in a directory, as a daemon lists it.

    Raises:
        SandkastenResponseError: the text is not a name.
    """
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise SandkastenResponseError(f"The daemon lists a file {name[:100]!r}, which is not a name.")
    return name


def stays_inside(path: Sequence[str], target: str) -> bool:
    """Return whether a symlink at this place of a tree leads into the tree, whatever else is in it.

    So `..` may only come first, and not more often than there are directories: behind another name it
    could begin anywhere, since that may be a symlink itself.
    """
    names = target.split("/")
    ups = next((index for index, name in enumerate(names) if name != ".."), len(names))
    return not target.startswith("/") and ".." not in names[ups:] and ups < len(path) and bool(target)


# --- on this machine


def place_for(dest: str | Path, path: str) -> Path:
    """The place of a download: in a directory that exists, under its own name; or `dest`.

    Raises:
        SandkastenInputError: that cannot be.
    """
    if not isinstance(dest, str | os.PathLike) or not str(dest):
        raise SandkastenInputError(f"dest is {dest!r}: it must be a path on this machine.")
    place = Path(dest)
    if place.is_dir():
        name = posixpath.basename(posixpath.normpath(posixpath.join(WORKSPACE, path)))
        if not name:
            raise SandkastenInputError("/ as a whole cannot be downloaded.", "Name a directory in it.")
        check_name(name)
        place /= name
    if place.is_dir():
        raise SandkastenInputError(f"{str(place)!r} is a directory.", "Remove it, or choose another dest.")
    if place.exists() and not place.is_file():  # /dev/null would become a plain file
        raise SandkastenInputError(f"{str(place)!r} is a device, a FIFO or a socket.", "Choose another dest.")
    if not place.parent.is_dir():
        raise SandkastenInputError(
            f"{str(place.parent)!r} is not a directory on this machine.", "Make it first."
        )
    return place


def make_directories(dest: str | Path) -> Sequence[Path]:
    """Make the directory that a `dest` with a slash at its end names; return what was made, outermost first.

    Raises:
        SandkastenInputError: that cannot be.
    """
    text = os.fspath(dest) if isinstance(dest, str | os.PathLike) else ""
    if not text.endswith(_SLASHES):  # which a `Path` never does
        return ()
    directory = Path(text)
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SandkastenInputError(
            f"The directory {text!r} cannot be made here: {error.strerror}.", "Choose another dest."
        ) from error
    return missing[::-1]


def remove_directories(made: Sequence[Path]) -> None:
    """Remove what `make_directories` made, as far as nothing is in it."""
    for path in reversed(made):
        with suppress(OSError):
            path.rmdir()


def check_tree_place(place: Path) -> None:
    """Make sure that a directory can be put there.

    Raises:
        SandkastenInputError: it cannot.
    """
    if os.path.lexists(place):
        raise SandkastenInputError(f"{str(place)!r} exists.", "Remove it, or choose another dest.")


def beside(place: Path) -> Path:
    """Another name in the same directory, which nobody knows."""
    return place.with_name(f".sandkasten-{secrets.token_hex(8)}")


def remove_tree(directory: Path) -> None:
    """Remove a directory of ours, as well as that can be done, however deep it is.

    Directories in it are moved to its top first, which takes neither recursion nor long paths.
    """
    pending, count = [directory], 0
    while pending:
        here = pending.pop()
        with suppress(OSError), os.scandir(here) as entries:
            for entry in list(entries):
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        count += 1
                        moved = directory / f".{count}"
                        os.rename(entry.path, moved)
                        pending.append(moved)
                    else:
                        os.unlink(entry.path)
        if here != directory:
            with suppress(OSError):
                os.rmdir(here)
    with suppress(OSError):
        os.rmdir(directory)


def check_name(name: str, *, what: str = "name") -> None:
    """Make sure that a name is one here, and not a path, a device or a stream.

    Raises:
        SandkastenError: it is not.
    """
    if _IS_WINDOWS and _NOT_ON_WINDOWS.search(name):
        raise SandkastenError(f"The {what} {name[:100]!r} means something else on this machine.")
