"""A search for a regular expression, as a program of its own, to be killed if the pattern takes for ever.

Python's regular expressions hold up all threads of a process, so they are never tried in the daemon. The
program gets the directory as a descriptor and follows no symlink, becomes the sandbox's user before it opens
anything, and needs nothing but the standard library. It prints a line of JSON for each match.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import resource
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import Any

MAX_DEPTH = 100
MAX_FILE_BYTES = 64 * 1024 * 1024
_MAX_ENTRIES = 1_000_000
_MAX_LINE_CHARS = 500
_SNIFFED_BYTES = 8000  # how far git looks for a NUL, too
_MEMORY_BYTES = 1024**3
_CPU_SECONDS = 70
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Glob:
    """A pattern for paths: `*`, `?` and `[...]` within a name, `**` for any number of directories."""

    def __init__(self, pattern: str) -> None:
        """Read a pattern; a part of it matches in time that is linear in the name."""
        parts = [part for part in pattern.split("/") if part not in {"", "."}]
        # Several `**` in a row say no more than one, and cost the square of their number.
        self._parts = [
            None if part == "**" else re.compile(fnmatch.translate(part))
            for part, before in zip(parts, ["", *parts], strict=False)
            if (part, before) != ("**", "**")
        ]

    def matches(self, path: Sequence[str]) -> bool:
        """Return whether a path matches as a whole."""
        # At which parts of the pattern the path may be, so that many `**` take no longer than one.
        places = self._beyond({0})
        for name in path:
            places = self._beyond(
                {
                    place if part is None else place + 1
                    for place in places
                    if place < len(self._parts)
                    and ((part := self._parts[place]) is None or part.match(name) is not None)
                }
            )
        return len(self._parts) in places

    def _beyond(self, places: set[int]) -> set[int]:
        found = set(places)
        for place in sorted(places):
            further = place
            while further < len(self._parts) and self._parts[further] is None:
                further += 1
                found.add(further)
        return found


class _Search:
    def __init__(self, pattern: re.Pattern[str], glob: Glob) -> None:
        self._pattern = pattern
        self._glob = glob
        self._count = 0

    def matches(self, directory: int, above: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """Yield the matches in a directory, in the order of the names."""
        for name in sorted(os.listdir(directory)):
            self._count += 1
            if self._count > _MAX_ENTRIES:
                return
            path = (*above, name)
            try:
                mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode) and len(path) <= MAX_DEPTH:
                    below = os.open(name, _DIRECTORY, dir_fd=directory)
                elif stat.S_ISREG(mode) and self._glob.matches(path):
                    below = os.open(name, _FILE, dir_fd=directory)
                else:
                    continue
            except OSError:  # closed to this user, or something else by now
                continue
            try:
                is_directory = stat.S_ISDIR(os.fstat(below).st_mode)
                yield from self.matches(below, path) if is_directory else self._in_file(below, path)
            finally:
                os.close(below)

    def _in_file(self, descriptor: int, path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE_BYTES)
        if b"\0" in content[:_SNIFFED_BYTES]:
            return
        for number, raw in enumerate(content.split(b"\n"), start=1):
            line = raw.decode("utf-8", "surrogateescape")
            if self._pattern.search(line):
                yield {
                    "path": os.fsencode("/".join(path)).hex(),
                    "line_number": number,
                    "line": line[:_MAX_LINE_CHARS].encode("utf-8", "replace").decode(),
                }


def main() -> None:
    """Read what is asked for as JSON from standard input, and search."""
    asked = json.load(sys.stdin)
    if asked["uid"] is not None:
        os.setgroups([])
        os.setresgid(asked["gid"], asked["gid"], asked["gid"])
        os.setresuid(asked["uid"], asked["uid"], asked["uid"])
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # For a daemon that was killed: nobody else ends this program then.
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    try:
        pattern = re.compile(asked["pattern"], re.IGNORECASE if asked["ignore_case"] else 0)
    except (re.error, RecursionError, OverflowError, MemoryError) as error:
        print(json.dumps({"error": str(error)[:200]}), flush=True)
        return
    for match in _Search(pattern, Glob(asked["glob"])).matches(asked["directory"], ()):
        print(json.dumps(match), flush=True)


if __name__ == "__main__":
    main()
