"""A directory that is downloaded: it grows under another name, and is moved to its own when it is complete.

Its content was made by code in a sandbox, and is believed in nothing. A directory grows inside a new one
that only this user can enter, so that nothing in it was planted before: each file must be new, no name may
stand for another one, and symlinks are made last, when nothing is written through them any more. Those that
would lead out of the directory are left out, and so are devices, FIFOs and sockets.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from sandkasten._tar import Kind, Member
from sandkasten._transfer.pieces import PIECE_BYTES, Progress
from sandkasten._transfer.places import beside, check_name, remove_tree, stays_inside
from sandkasten._transfer.targets import Allowance, explained, new_file, write_all
from sandkasten.errors import SandkastenError, TooLargeError

MAX_MEMBERS = 1_000_000
# Symlinks are made last; until then their names and targets are in memory.
MAX_LINK_CHARS = 64 * 1024 * 1024


# The names in a directory, and in each of them; a set of whole paths would weigh the square of a deep tree.
_Names = dict[str, "_Names"]


class TreeTarget:
    """A partial directory, which takes the members of an archive. Methods block, see `FileTarget`."""

    in_memory = False

    def __init__(self, place: Path, max_bytes: int | None, on_progress: Progress | None) -> None:
        """Make nothing yet; `place` is the directory's own path."""
        self._place = place
        self._temporary = beside(place)
        self._root = self._temporary / "tree"
        self._count = 0
        self._directories: _Names = {}
        self._links: list[tuple[str, str]] = []
        self._link_chars = 0
        self._file: BinaryIO | None = None
        self.allowance = Allowance(place.parent, max_bytes, on_progress)

    def tell(self) -> None:
        """Report how many bytes came."""
        self.allowance.tell()

    def restart(self) -> None:
        """Begin, or begin again, with an empty directory."""
        self.discard()
        self.allowance.restart()
        self._count = 0
        self._directories = {}
        self._links = []
        self._link_chars = 0
        with explained(self._place):
            self._temporary.mkdir(mode=0o700)
            self._root.mkdir()

    def begin(self, member: Member) -> None:
        """Make a directory, or begin a file."""
        with explained(self._place):
            is_directory = member.kind is Kind.DIRECTORY
            made = self._make_directories(member.path if is_directory else member.path[:-1])
            self._count_more(made if is_directory and made else made + 1)
            if member.kind is Kind.FILE:
                self.allowance.check(member.size_bytes)
                self._file = new_file(self._at(member.path), member.mode)
            elif member.kind is Kind.HARD_LINK:
                self._copy(member)
            elif member.kind is Kind.SYMLINK and stays_inside(member.path, member.target):
                self._keep_link("/".join(member.path), member.target)

    def _count_more(self, count: int) -> None:
        self._count += count
        if self._count > MAX_MEMBERS:
            raise TooLargeError(
                f"The directory has more than {MAX_MEMBERS} files in it.", "Download it part by part."
            )

    def _keep_link(self, path: str, target: str) -> None:
        self._link_chars += len(path) + len(target)
        if self._link_chars > MAX_LINK_CHARS:
            raise TooLargeError("The directory has too many symlinks in it.", "Download it part by part.")
        self._links.append((path, target))

    def write(self, data: bytes | memoryview) -> None:
        """Write the next piece of an archive."""
        assert self._file is not None
        self.allowance.take(len(data))
        with explained(self._place):
            write_all(self._file, data)

    def end(self) -> None:
        """Finish a file: all of its content came."""
        assert self._file is not None
        with explained(self._place):
            self._file.close()
        self._file = None

    def add_file(self, path: tuple[str, ...], content: bytes) -> None:
        """Make a file whose content is known."""
        self.begin(Member(path, Kind.FILE, len(content)))
        self.write(content)
        self.end()

    def commit(self) -> Path:
        """Make the symlinks, and put the directory in its place."""
        with explained(self._place):
            for path, target in self._links:
                check_name(target.replace("/", "."), what="target")
                os.symlink(target, self._at(tuple(path.split("/"))))
            os.rename(self._root, self._place)
            self._temporary.rmdir()
        return self._place

    def discard(self) -> None:
        """Remove the directory, unless it is in its place."""
        if self._file is not None:
            self._file.close()
            self._file = None
        remove_tree(self._temporary)

    def _at(self, path: tuple[str, ...]) -> Path:
        for name in path:
            check_name(name)
        return self._root.joinpath(*path)

    def _make_directories(self, path: tuple[str, ...]) -> int:
        """Make what is missing on the way; return how many those were."""
        known, made = self._directories, 0
        for depth, name in enumerate(path, start=1):
            if name not in known:
                self._at(path[:depth]).mkdir()  # fails if another name means the same here
                known[name] = {}
                made += 1
            known = known[name]
        return made

    def _copy(self, member: Member) -> None:
        """Copy a file that has several names, so that it becomes several files."""
        names = tuple(name for name in member.target.split("/") if name not in {"", "."})
        source = self._at(names)
        if ".." in names or not stat.S_ISREG((status := os.lstat(source)).st_mode):
            raise SandkastenError("The archive has a hard link to something that is not a file in it.")
        self.allowance.check(status.st_size)
        with open(source, "rb") as old, new_file(self._at(member.path), status.st_mode) as new:
            shutil.copyfileobj(old, new, PIECE_BYTES)
        self.allowance.take(status.st_size)
