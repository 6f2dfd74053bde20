"""The packages of one session: a directory that is at /run/packages in its sandbox, read-only.

    sandkasten.pth      has Python import from `now/site`; the sandbox's user site directory links to it
    none/               what `now` leads to at first
    <number>/           an environment that was installed later, by hard links to the store where that can be
    now                 a link to the one that counts: `none`, a number, or /run/prepared

Python takes the user's site directory after the standard library and before the system's own packages. So a
package cannot take the place of a module of the standard library, as it would with PYTHONPATH, and `pip
install` in the sandbox keeps working, as it would not with PYTHONUSERBASE. The path is there from the
beginning, so an interpreter that runs already finds what is installed later.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from sandkasten.local.isolation.policy import PACKAGES, PREPARED, PackagePlaces
from sandkasten.local.linux.scratch import remove_tree
from sandkasten.local.packages.store import Environment
from sandkasten.local.packages.wheels import BIN, SITE

_NOW, _NONE = "now", "none"
_PTH = "sandkasten.pth"
_LINE = f"import site; site.addsitedir({f'{PACKAGES}/{_NOW}/{SITE}'!r})\n"


class SessionPackages:
    """The packages that a session was given so far. Lives in the event loop's thread.

    Attributes:
        directory: see above.
        turn: held by whoever installs, as each set is made of the one before.
        requirements: all that were asked for.
        installed: names and versions of what is there.
    """

    def __init__(self, directory: Path) -> None:
        """Begin with nothing."""
        self.directory = directory
        self.turn = asyncio.Lock()
        self.requirements: tuple[str, ...] = ()
        self.installed: tuple[tuple[str, str], ...] = ()

    def became(self, requirements: tuple[str, ...], environment: Environment) -> None:
        """Note what the session has from now on."""
        self.requirements, self.installed = requirements, environment.packages


def make_places(directory: Path, minor: str, prepared: Environment | None) -> PackagePlaces:
    """Make a session's directory for packages; return what its sandbox mounts and links. This blocks briefly.

    Args:
        directory: a new one.
        minor: the version of the image's Python, as `3.11`.
        prepared: what the session has from the beginning.
    """
    directory.mkdir(parents=True)
    for path in (directory, directory / _NONE, directory / _NONE / SITE, directory / _NONE / BIN):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    file = directory / _PTH
    file.write_text(_LINE, "utf-8")
    file.chmod(0o644)
    (directory / _NOW).symlink_to(_NONE if prepared is None else PREPARED)
    return PackagePlaces(
        session=str(directory),
        prepared=None if prepared is None else str(prepared.tree),
        links={f".local/lib/python{minor}/site-packages/{_PTH}": f"{PACKAGES}/{_PTH}"},
    )


def place(environment: Environment, directory: Path) -> None:
    """Have a session's sandbox find an environment from now on; it finds the one before until then.

    Blocks. A file that cannot be linked, since it is on another disk, is copied.

    Raises:
        OSError: there is no room, or the session is gone.
    """
    numbers = [int(path.name) for path in directory.iterdir() if path.name.isdigit()]
    made = directory / str(max(numbers, default=0) + 1)
    try:
        made.mkdir(mode=0o755)
        made.chmod(0o755)
        _link_tree(environment.tree, made)
        new = directory / f"{_NOW}.new"
        new.symlink_to(made.name)
        new.rename(directory / _NOW)
    except BaseException:
        remove_tree(made)
        raise
    for number in numbers:
        remove_tree(directory / str(number))


def _link_tree(source: Path, target: Path) -> None:
    can_link = True
    for folder, folders, files in os.walk(source):
        there = os.path.join(target, os.path.relpath(folder, source))
        for name in folders:
            path = os.path.join(there, name)
            os.mkdir(path, 0o755)
            os.chmod(path, 0o755)  # noqa: S103  (sandboxes read it)
        for name in files:
            original, path = os.path.join(folder, name), os.path.join(there, name)
            if can_link:
                try:
                    os.link(original, path)
                    continue
                except OSError:
                    can_link = False
            shutil.copyfile(original, path)
            shutil.copymode(original, path)
