"""The packages of an environment that are elsewhere on this machine: editable installs, `.pth` files, links.

They are not mounted. Python passes over paths that are not there, so the rest of the environment works.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from sandkasten.local.images.prefixes import Prefixes, read_text

_MAX_LISTED = 50
_MAX_CHARS = 300


def left_out(prefixes: Prefixes) -> tuple[str, ...]:
    """Return what of an environment is not in the sandbox, each as one line of text."""
    found = dict.fromkeys(prefixes.outside)
    editable: set[str] = set()
    for directory in prefixes.packages:
        for name, path in _editable(directory):
            if not prefixes.holds(path):
                editable.add(os.path.realpath(path))
                found[f"{name} (editable): {path}"] = None
    for directory in prefixes.packages:
        for name, path in (*_paths(directory), *_links(directory)):
            real = os.path.realpath(path)
            known = any(real == each or real.startswith(f"{each}/") for each in editable)
            if os.path.exists(path) and not known and not prefixes.holds(path):
                found[f"{name}: {path}"] = None
    lines = [_line(text) for text in found]
    more = len(lines) - _MAX_LISTED
    return (*lines[:_MAX_LISTED], *([f"and {more} more"] if more > 0 else []))


def _editable(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the editable installs, by what their installers wrote down (PEP 610)."""
    for info in sorted(directory.glob("*.dist-info")):
        text = read_text(info / "direct_url.json")
        path = None if text is None else _editable_path(text)
        if path is not None:
            yield info.name.partition("-")[0], path
    for link in sorted(directory.glob("*.egg-link")):
        yield link.stem, (read_text(link) or "").partition("\n")[0].strip()


def _editable_path(text: str) -> str | None:
    try:
        read: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    fields = cast("dict[str, Any]", read) if isinstance(read, dict) else {}
    about, url = fields.get("dir_info"), fields.get("url")
    if not isinstance(about, dict) or not cast("dict[str, Any]", about).get("editable"):
        return None
    try:
        return unquote(urlsplit(url).path) if isinstance(url, str) else None
    except ValueError:
        return None


def _paths(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of `.pth` files that are paths; others are code, which runs in the sandbox only."""
    for file in sorted(directory.glob("*.pth")):
        for line in (read_text(file) or "").splitlines():
            path = line.strip()
            if path and "\0" not in path and not path.startswith(("#", "import ", "import\t")):
                yield file.name, os.path.join(directory, path)


def _links(directory: Path) -> Iterator[tuple[str, str]]:
    with os.scandir(directory) as entries:
        found = sorted(entry.path for entry in entries if entry.is_symlink())
    for path in found:
        yield os.path.basename(path), os.path.realpath(path)


def _line(text: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= _MAX_CHARS else f"{shown[: _MAX_CHARS - 3]}..."
