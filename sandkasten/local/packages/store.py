"""Environments on the disk: each is made once, and never changed afterwards.

    <directory>/                closed to all users but those who build sandboxes
        sets/<key>.json         which environment a set of requirements came to, and when
        environments/<digest>/  named by the wheels that it was made of
            tree/               what sandboxes mount, read-only
            about.json          its packages
        wheels/<index>/         wheels that an index gave, which need not be fetched again
        .new-XXXXXXXX/          being made (`scratch.py`)

An environment comes to be by one rename. Whoever uses one holds a shared lock on its directory, and whoever
removes one needs the only lock, so nothing is removed that a sandbox has. Several daemons may share it all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sandkasten.local.files.directories import make_closed
from sandkasten.local.identity import Identity
from sandkasten.local.linux.scratch import Scratch, remove_tree, sweep
from sandkasten.local.records import dataclass

_TEMPORARY = ".new-"
_LAYOUT = "1"  # changed whenever environments are made in another way
_DIGEST = re.compile(r"[0-9a-f]{64}")
# An environment is looked at as a whole before it is used: what is in one is a regular file or a directory.
_KINDS = frozenset({stat.S_IFREG, stat.S_IFDIR})


@dataclass(frozen=True)
class Environment:
    """Packages for one Python.

    Attributes:
        digest: its name.
        tree: the directory that sandboxes mount.
        packages: names and versions, sorted.
    """

    digest: str
    tree: Path
    packages: tuple[tuple[str, str], ...]


class Store:
    """All environments of a data directory. Methods block: call them in a thread."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        """Bind to the directory; it is made when the first environment is."""
        self._directory = directory
        self._identity = identity

    def wheels(self, index: str) -> Path:
        """Return the directory of wheels that an index gave; it may not exist yet."""
        return self._directory / "wheels" / hashlib.sha256(index.encode()).hexdigest()[:16]

    def keep_wheels(self, stage: Path, index: str) -> None:
        """Keep the wheels that were fetched.

        Raises:
            OSError: they cannot be kept.
        """
        kept = self.wheels(index)
        make_closed(kept, self._identity)
        for wheel in (stage / "wheels").iterdir():
            wheel.replace(kept / wheel.name)

    def sweep(self) -> None:
        """Remove what killed processes did not complete."""
        sweep(self._directory, _TEMPORARY)

    def find(self, key: str, fresh_seconds: float | None) -> Environment | None:
        """Return the environment that a set of requirements came to before, if it is there.

        Args:
            key: the set's.
            fresh_seconds: for how long that counts; None: for ever.
        """
        try:
            row = json.loads((self._directory / "sets" / f"{key}.json").read_text("utf-8"))
            age_seconds = time.time() - float(row["at"])
            if fresh_seconds is not None and not 0 <= age_seconds <= fresh_seconds:
                return None
            return self._existing(str(row["environment"]))
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def _existing(self, digest: str) -> Environment | None:
        if not _DIGEST.fullmatch(digest):
            return None
        place = self._directory / "environments" / digest
        about = json.loads((place / "about.json").read_text("utf-8"))
        packages = tuple((str(name), str(version)) for name, version in about["packages"])
        return Environment(digest, place / "tree", packages)

    @contextmanager
    def stage(self) -> Generator[Path, None, None]:
        """Make a directory to fetch into, on the same disk, which is gone in the end.

        Raises:
            OSError: it cannot be made.
        """
        for path in (self._directory, self._directory / "sets", self._directory / "environments"):
            make_closed(path, self._identity)
        with closing(Scratch(self._directory, _TEMPORARY)) as place:
            self._identity.let_pass(place.path)
            (place.path / "tmp").mkdir(mode=0o700)
            yield place.path

    def adopt(self, stage: Path, key: str, python: str, packages: list[Mapping[str, Any]]) -> Environment:
        """Make what was fetched an environment, once it was looked at, and remember it for a set.

        Raises:
            ValueError: something is in it that an environment may not have.
            OSError: it cannot be kept.
        """
        size_bytes = checked_size(stage / "tree")
        rows = sorted((str(row["name"]), str(row["version"])) for row in packages)
        wheels = sorted(str(row["sha256"]) for row in packages)
        digest = hashlib.sha256(json.dumps([_LAYOUT, python, wheels]).encode()).hexdigest()
        place = self._directory / "environments" / digest
        if not place.exists():
            about = {"packages": rows, "size_bytes": size_bytes}
            made = stage / "made"
            made.mkdir()
            (stage / "tree").rename(made / "tree")
            (made / "about.json").write_text(json.dumps(about), "utf-8")
            self._identity.let_pass(made)
            with suppress(OSError):  # another daemon was faster
                made.rename(place)
        environment = self._existing(digest)
        if environment is None:
            raise ValueError("the environment is gone")
        note = stage / "set.json"
        note.write_text(json.dumps({"environment": digest, "at": time.time()}), "utf-8")
        note.rename(self._directory / "sets" / f"{key}.json")
        return environment

    def hold(self, environment: Environment) -> int:
        """Keep an environment from being removed; return a descriptor, whose close ends that.

        Raises:
            OSError: it is gone, or being removed.
        """
        place = environment.tree.parent
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), os.stat(place)):
                raise FileNotFoundError(place)
            with suppress(OSError):
                os.utime(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def prune(self, most_bytes: int) -> None:
        """Remove environments that nobody uses, the longest unused first, until the rest is small enough."""
        found: list[tuple[float, int, Path]] = []
        with suppress(OSError), os.scandir(self._directory / "environments") as entries:
            for entry in entries:
                with suppress(OSError, ValueError, LookupError, TypeError):
                    about = json.loads(Path(entry.path, "about.json").read_text("utf-8"))
                    found.append((entry.stat().st_mtime, int(about["size_bytes"]), Path(entry.path)))
        held_bytes = sum(size_bytes for _, size_bytes, _ in found)
        for _, size_bytes, place in sorted(found):
            if held_bytes <= most_bytes:
                break
            held_bytes -= size_bytes if self._remove(place) else 0
        if _size_of_files(self._directory / "wheels") > most_bytes:
            remove_tree(self._directory / "wheels")

    def _remove(self, place: Path) -> bool:
        with suppress(OSError):
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with closing(Scratch(self._directory, _TEMPORARY)) as doomed:
                    place.rename(doomed.path / "removed")
                return True
            finally:
                os.close(descriptor)
        return False


def checked_size(tree: Path) -> int:
    """Return the bytes of an environment, once each entry was looked at.

    Raises:
        ValueError: there is a link, a special file, or one that others could change or that has a setuid bit.
    """
    total_bytes = 0
    for folder, _folders, files in os.walk(tree, onerror=_raise):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            status = os.lstat(path)
            if stat.S_IFMT(status.st_mode) not in _KINDS or stat.S_IMODE(status.st_mode) not in {
                0o644,
                0o755,
            }:
                raise ValueError(f"{os.path.relpath(path, tree)[:80]!r} is no plain file")
            if stat.S_ISREG(status.st_mode):
                total_bytes += status.st_size
    return total_bytes


def _raise(error: OSError) -> None:
    raise error


def _size_of_files(directory: Path) -> int:
    total_bytes = 0
    for folder, _folders, files in os.walk(directory):
        for name in files:
            with suppress(OSError):
                total_bytes += os.lstat(os.path.join(folder, name)).st_size
    return total_bytes
