"""`%sandbox VERB`: what can be done with a notebook's sessions, besides running cells in them."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandkasten.models import SessionInfo, SessionStats
from sandkasten.notebook.errors import MagicError
from sandkasten.notebook.listing import Listing, list_directory
from sandkasten.notebook.sessions import NotebookSessions, SessionOptions
from sandkasten.notebook.tables import Table
from sandkasten_sync import Session

# Each takes the sessions and the arguments as `parse_line` gives them, and returns what is displayed.
Verb = Callable[[NotebookSessions, Any], Any]


def new(sessions: NotebookSessions, arguments: Any) -> Session:
    """Make a session in place of the one there was."""
    options = SessionOptions(arguments.image, arguments.network, arguments.workspace)
    return sessions.new(arguments.session, options)


def session(sessions: NotebookSessions, arguments: Any) -> Session:
    """The session itself, for use from Python."""
    return sessions.get(arguments.session)


def names(sessions: NotebookSessions, _arguments: Any) -> Table:
    """All sessions of this notebook."""
    rows = list(sessions.ids().items())
    return Table(rows, ("name", "session") if rows else (), "" if rows else "There is no session yet.")


def info(sessions: NotebookSessions, arguments: Any) -> SessionInfo:
    """What the daemon knows about the session."""
    return sessions.get(arguments.session).info()


def stats(sessions: NotebookSessions, arguments: Any) -> SessionStats:
    """What the session uses."""
    return sessions.get(arguments.session).stats()


def ls(sessions: NotebookSessions, arguments: Any) -> Listing:
    """List a directory of the sandbox."""
    path = arguments.path or "."
    listing = list_directory(sessions.get(arguments.session), path)
    if not listing.exists:
        raise MagicError(
            f"%sandbox ls: there is no directory {path!r} in the sandbox. `%sandbox ls` lists this one."
        )
    return listing


def upload(sessions: NotebookSessions, arguments: Any) -> None:
    """Copy files and directories of this machine into the sandbox."""
    patterns, destination = split_destination(arguments.names)
    paths = local_paths(patterns)
    box = sessions.get(arguments.session)
    directory = posixpath.join(box.info().cwd, destination)
    for path in paths:
        for copy in box.upload(path, dest_path=directory):
            print(f"{path} -> {copy}")


def download(sessions: NotebookSessions, arguments: Any) -> None:
    """Copy a file or a directory of the sandbox to this machine."""
    box = sessions.get(arguments.session)
    remote = posixpath.join(box.info().cwd, arguments.remote)
    copy = box.download(remote, os.path.expanduser(arguments.local or "."))
    print(f"{remote} -> {copy}")


def reset(sessions: NotebookSessions, arguments: Any) -> Session:
    """End the session and make another one like it."""
    return sessions.reset(arguments.session)


def close(sessions: NotebookSessions, arguments: Any) -> None:
    """End the session."""
    if not sessions.close(arguments.session):
        print("There is no such session.")


VERBS: Mapping[str, Verb] = {
    "new": new,
    "session": session,
    "sessions": names,
    "info": info,
    "stats": stats,
    "ls": ls,
    "upload": upload,
    "download": download,
    "reset": reset,
    "close": close,
}


def split_destination(words: list[str]) -> tuple[list[str], str]:
    """What `upload` copies, and the directory it goes to: a last word that ends with a slash."""
    if len(words) > 1 and words[-1].endswith("/"):
        return words[:-1], words[-1]
    return words, "."


def local_paths(patterns: list[str]) -> list[Path]:
    """What the words name; those with `*`, `?` and `[` are patterns unless something is called so.

    Raises:
        MagicError: a word names nothing.
    """
    paths: list[Path] = []
    for pattern in patterns:
        path = os.path.expanduser(pattern)
        found = [path] if os.path.lexists(path) else sorted(glob.glob(path))
        if not found:
            raise MagicError(
                f"%sandbox upload: there is no {pattern!r} here. "
                "A last word that ends with a slash is a directory of the sandbox."
            )
        paths += map(Path, found)
    return paths
