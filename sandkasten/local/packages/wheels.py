"""Wheels are unpacked here: every name, kind and size in them is an attempt until it was checked.

Nothing of a wheel is run or compiled. An environment is a directory with `site` (what Python imports), `bin`
(the programs) and what wheels bring beside that, such as `share`. Standard library
only, as `fetching.py` needs it.
"""

from __future__ import annotations

import configparser
import os
import re
import stat
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO

from sandkasten.local.records import dataclass

SITE, BIN = "site", "bin"
_FILE_NAME = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._]{0,98}[A-Za-z0-9_])?)-([A-Za-z0-9.!+_]{1,100})(?:-[0-9][A-Za-z0-9._]*)?"
    r"-[A-Za-z0-9._]+-[A-Za-z0-9._]+-[A-Za-z0-9._]+\.whl",
    re.ASCII,
)
_SCRIPT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)
_OBJECT = re.compile(
    r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*:\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\s*\[[^\]]*\])?"
)
_SCRIPT_GROUPS = ("console_scripts", "gui_scripts")
_MAX_PATH_BYTES, _MAX_NAME_BYTES = 1024, 255
_MAX_TEXT_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024
_PYTHON_LINE = re.compile(rb"\A#!pythonw?(?=[ \t\r\n])")  # as wheels write it for whoever installs them
_SCRIPT = """\
#!{python}
import sys

from {module} import {first}

if __name__ == "__main__":
    sys.exit({function}())
"""


class WheelError(Exception):
    """A wheel that is not unpacked; the text says what is wrong with it, to be read after its name."""


class NoRoomError(Exception):
    """An environment would be larger than it may be."""


@dataclass
class Room:
    """The bytes and files that may still be unpacked."""

    bytes: int
    files: int

    def take(self, size_bytes: int, files: int = 0) -> None:
        """Take some of it.

        Raises:
            NoRoomError: there is less.
        """
        self.bytes -= size_bytes
        self.files -= files
        if self.bytes < 0 or self.files < 0:
            raise NoRoomError


def split_name(file_name: str) -> tuple[str, str]:
    """Return name and version of a wheel, from its file name.

    Raises:
        WheelError: it is not one of a wheel.
    """
    found = _FILE_NAME.fullmatch(file_name)
    if found is None:
        raise WheelError("has a file name that no wheel has")
    return found[1], found[2]


def unpack(wheel: Path, tree: Path, room: Room, python: str) -> None:
    """Unpack a wheel into an environment; a file that another wheel brought stays as it is.

    Args:
        wheel: its file.
        tree: the environment's directory, which this process made.
        room: what may still be unpacked.
        python: the path of the Python in the sandbox that is to run its programs.

    Raises:
        WheelError: it has names, links or contents that a wheel may not have.
        NoRoomError: it is too large.
        OSError: it cannot be written.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = archive.infolist()
            room.take(0, len(members))
            for member in members:
                target = place_of(member.orig_filename, member.external_attr >> 16, member.flag_bits)
                if target is not None:
                    _write_member(archive, member, tree, target, room=room, python=python)
            _write_scripts(archive, members, tree, python)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError) as error:
        raise WheelError("is damaged") from error


def place_of(name: str, mode: int, flags: int = 0) -> str | None:
    """Return where in an environment a member of a wheel belongs; None for a directory; pure.

    Raises:
        WheelError: no member may have such a name, or be of such a kind.
    """
    if flags & 1:
        raise WheelError("has members that are encrypted")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise WheelError(f"has a link or another special file ({name[:80]!r})")
    parts = name.removesuffix("/").split("/")
    if any(_is_bad_part(part) for part in parts) or len(os.fsencode(name)) > _MAX_PATH_BYTES:
        raise WheelError(f"has a member whose name leads elsewhere ({name[:80]!r})")
    if name.endswith("/"):
        return None
    if not parts[0].endswith(".data"):
        return "/".join((SITE, *parts))
    kind, below = parts[1] if len(parts) > 2 else "", parts[2:]
    if kind in {"purelib", "platlib"}:
        return "/".join((SITE, *below))
    if kind == "scripts" and len(below) == 1:
        return f"{BIN}/{_script_name(below[0])}"
    if kind == "headers":
        return "/".join(("include", *below))
    if kind == "data" and below[0] != SITE:
        return "/".join(below)
    raise WheelError(f"has data of an unknown kind ({name[:80]!r})")


def _is_bad_part(part: str) -> bool:
    if part in {"", ".", ".."} or "\\" in part or any(ord(char) < 32 or ord(char) == 127 for char in part):
        return True
    try:
        return len(part.encode()) > _MAX_NAME_BYTES
    except UnicodeEncodeError:
        return True


def _script_name(name: str) -> str:
    if not _SCRIPT_NAME.fullmatch(name):
        raise WheelError(f"has a program with the name {name[:80]!r}")
    return name


def _write_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, tree: Path, target: str, *, room: Room, python: str
) -> None:
    is_script = target.startswith(f"{BIN}/")
    try:
        file = _new_file(tree, target, is_program=is_script or bool(member.external_attr >> 16 & 0o111))
    except FileExistsError:
        return
    with file, archive.open(member) as source:
        piece = source.read(_PIECE_BYTES)
        if is_script:
            piece = _PYTHON_LINE.sub(b"#!" + os.fsencode(python), piece, count=1)
        while piece:
            room.take(len(piece))
            file.write(piece)
            piece = source.read(_PIECE_BYTES)


def _new_file(tree: Path, target: str, *, is_program: bool) -> IO[bytes]:
    """Create a file below a directory that only this process changes, with its parents.

    Raises:
        FileExistsError: another wheel brought it.
        WheelError: another wheel brought a file where a directory would have to be, or the other way round.
    """
    path = tree / target
    missing: list[Path] = []
    parent = path.parent
    while parent != tree and not parent.is_dir():
        missing.append(parent)
        parent = parent.parent
    for directory in reversed(missing):
        try:
            directory.mkdir()
        except FileExistsError:
            raise WheelError(f"has a file that clashes with another one ({target[:80]!r})") from None
        directory.chmod(0o755)
    if path.is_dir():
        raise WheelError(f"has a file that clashes with another one ({target[:80]!r})")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o755 if is_program else 0o644)
    return os.fdopen(descriptor, "wb")


def _write_scripts(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], tree: Path, python: str) -> None:
    """Write the programs that a wheel only declares."""
    for member in members:
        folder, _, name = member.filename.partition("/")
        if name == "entry_points.txt" and folder.endswith(".dist-info"):
            if member.file_size > _MAX_TEXT_BYTES:
                raise WheelError("has too long a list of programs")
            with archive.open(member) as source:
                text = source.read(_MAX_TEXT_BYTES).decode("utf-8", "replace")
            for script, content in scripts_of(text, python).items():
                with suppress(FileExistsError), _new_file(tree, f"{BIN}/{script}", is_program=True) as file:
                    file.write(content.encode())


def scripts_of(text: str, python: str) -> dict[str, str]:
    """Return the programs that `entry_points.txt` declares, and their contents; pure.

    Raises:
        WheelError: it cannot be read, or a program has a name that none may have.
    """
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
        groups = [dict(parser.items(group)) for group in _SCRIPT_GROUPS if parser.has_section(group)]
    except configparser.Error as error:
        raise WheelError("has a list of programs that cannot be read") from error
    scripts: dict[str, str] = {}
    for name, target in (row for group in groups for row in group.items()):
        found = _OBJECT.fullmatch(target.strip())
        if found is None:
            raise WheelError(f"has a program that names no function ({target[:80]!r})")
        function = found[2]
        scripts[_script_name(name)] = _SCRIPT.format(
            python=python, module=found[1], first=function.partition(".")[0], function=function
        )
    return scripts
