"""`%sandbox VERB`: what can be done with a notebook's sessions, besides running cells in them."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandkasten._options.environments import PythonEnvironment
from sandkasten.models import SessionInfo, SessionStats
from sandkasten.notebook.errors import MagicError
from sandkasten.notebook.listing import MAX_ENTRIES, Listing, list_directory
from sandkasten.notebook.progress import ProgressLine
from sandkasten.notebook.running import find_process, print_output, process_table
from sandkasten.notebook.sessions import NotebookSessions, SessionOptions
from sandkasten.notebook.tables import Table
from sandkasten.notebook.text import moment, one_line, size
from sandkasten_sync import Process, Session

_NO_SESSION = Table((), note="There is no session yet; the first cell makes one.")

# Each takes the sessions and the arguments as `parse_line` gives them, and returns what is displayed.
Verb = Callable[[NotebookSessions, Any], Any]


def new(sessions: NotebookSessions, arguments: Any) -> Session:
    """Make a session in place of the one there was."""
    image = arguments.image if arguments.env is None else _environment(arguments.env)
    options = SessionOptions(image, arguments.network, arguments.workspace)
    made = sessions.new(arguments.session, options)
    if arguments.env is not None and (environment := made.info().python_environment) is not None:
        left_out = ", ".join(environment.left_out) or "nothing"
        print(f"Python {environment.python_version} of {environment.path}. Left out: {left_out}.")
    return made


def _environment(path: str) -> PythonEnvironment:
    return PythonEnvironment(path) if path else PythonEnvironment.current()


def session(sessions: NotebookSessions, arguments: Any) -> Session:
    """The session itself, for use from Python."""
    return sessions.get(arguments.session)


def names(sessions: NotebookSessions, _arguments: Any) -> Table:
    """All sessions of this notebook."""
    rows = list(sessions.ids().items())
    return Table(rows, ("name", "session") if rows else (), "") if rows else _NO_SESSION


def info(sessions: NotebookSessions, arguments: Any) -> SessionInfo | Table:
    """Return what the daemon knows about the session, which is not made for that."""
    found = sessions.find(arguments.session)
    return _NO_SESSION if found is None else found.info()


def stats(sessions: NotebookSessions, arguments: Any) -> SessionStats | Table:
    """Return what the session uses, which is not made for that."""
    found = sessions.find(arguments.session)
    return _NO_SESSION if found is None else found.stats()


def variables(sessions: NotebookSessions, arguments: Any) -> Table:
    """Return the variables of the session's Python; neither is made for that."""
    found = sessions.find(arguments.session)
    rows = [] if found is None else found.python_context().variables()
    if not rows:
        return Table((), note="There are no variables in the sandbox's Python.")
    cells = [(each.name, each.type, each.size, one_line(each.repr, 60)) for each in rows]
    return Table(cells, ("name", "type", "size", "value"))


def restart(sessions: NotebookSessions, arguments: Any) -> None:
    """End the session's Python; the next cell begins in a new one."""
    found = sessions.find(arguments.session)
    if found is not None:
        sessions.directories.pop(found.id, None)
        found.python_context().restart()
    print("The next Python cell begins without variables.")


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
        with _progress(path.name) as on_progress:
            copies = box.upload(path, dest_path=directory, on_progress=on_progress)
        for copy in copies:
            print(f"{path} -> {copy}")


def download(sessions: NotebookSessions, arguments: Any) -> None:
    """Copy a file or a directory of the sandbox to this machine."""
    box = sessions.get(arguments.session)
    remote = posixpath.join(box.info().cwd, arguments.remote)
    with _progress(posixpath.basename(remote)) as on_progress:
        copy = box.download(remote, os.path.expanduser(arguments.local or "."), on_progress=on_progress)
    print(f"{remote} -> {copy}")


def pip(sessions: NotebookSessions, arguments: Any) -> Table | None:
    """Install packages of Python, or list those that the session was given."""
    box = sessions.get(arguments.session)
    if arguments.action == "list":
        rows = [(package.name, package.version) for package in box.packages()]
        return Table(rows, ("name", "version"), "") if rows else Table((), note="There is none yet.")
    if not arguments.packages:
        raise MagicError("%sandbox pip install: name the packages, as in `%sandbox pip install pandas`.")
    before = {(package.name, package.version) for package in box.packages()}
    installed = sessions.install(arguments.session, arguments.packages)
    new = [f"{one.name} {one.version}" for one in installed if (one.name, one.version) not in before]
    if not arguments.quiet:
        print(f"Installed {', '.join(new)}." if new else "All of that is installed.")
    return None


def mkdir(sessions: NotebookSessions, arguments: Any) -> None:
    """Make a directory in the sandbox, which may be there."""
    box = sessions.get(arguments.session)
    box.mkdir(_path(box, arguments.path), exist_ok=True)


def rm(sessions: NotebookSessions, arguments: Any) -> None:
    """Remove a file or a directory of the sandbox."""
    box = sessions.get(arguments.session)
    box.remove(_path(box, arguments.path), recursive=arguments.recursive)


def mv(sessions: NotebookSessions, arguments: Any) -> None:
    """Move a file or a directory of the sandbox to another path, or into a directory."""
    box = sessions.get(arguments.session)
    box.move(*_ends(box, arguments), overwrite=True)


def cp(sessions: NotebookSessions, arguments: Any) -> None:
    """Copy a file or a directory of the sandbox to another path, or into a directory."""
    box = sessions.get(arguments.session)
    box.copy(*_ends(box, arguments), overwrite=True)


def _ends(box: Session, arguments: Any) -> tuple[str, str]:
    """Return both paths of a move or a copy; in a directory, the name stays."""
    source, target = (_path(box, path) for path in (arguments.path, arguments.to))
    if arguments.to.endswith("/") or (box.exists(target) and box.stat(target).is_dir):
        target = posixpath.join(target, posixpath.basename(source.rstrip("/")))
    return source, target


def chmod(sessions: NotebookSessions, arguments: Any) -> None:
    """Set the permissions of a file or a directory of the sandbox."""
    box = sessions.get(arguments.session)
    box.chmod(_path(box, arguments.path), arguments.mode)


def stat(sessions: NotebookSessions, arguments: Any) -> Table:
    """Return what a path of the sandbox is."""
    box = sessions.get(arguments.session)
    found = box.stat(_path(box, arguments.path), follow_symlinks=False)
    facts = {
        "path": found.path,
        "kind": found.kind,
        "size": None if found.size_bytes is None else size(found.size_bytes),
        "mode": None if found.mode is None else f"{found.mode:04o}",
        "modified": None if found.modified_at is None else moment(found.modified_at),
        "target": found.link_target,
    }
    return Table([(name, text) for name, text in facts.items() if text is not None])


def find(sessions: NotebookSessions, arguments: Any) -> Table:
    """Return the paths below a directory of the sandbox that match a pattern."""
    box = sessions.get(arguments.session)
    found = box.glob(arguments.pattern, _path(box, arguments.directory))
    rows = [(posixpath.join(arguments.directory, path),) for path in found[:MAX_ENTRIES]]
    return _found(rows, ("path",), "paths", is_cut=len(found) > MAX_ENTRIES)


def grep(sessions: NotebookSessions, arguments: Any) -> Table:
    """Return the lines of files below a directory of the sandbox that match a regular expression."""
    box = sessions.get(arguments.session)
    found = box.search(
        arguments.pattern,
        _path(box, arguments.directory),
        glob=arguments.include,
        ignore_case=arguments.ignore_case,
        max_results=MAX_ENTRIES,
    )
    rows = [
        (posixpath.join(arguments.directory, match.path), str(match.line_number), match.line)
        for match in found.matches
    ]
    return _found(rows, ("path", "line", "text"), "lines", is_cut=found.truncated)


def _found(rows: Sequence[Sequence[str]], headers: Sequence[str], what: str, *, is_cut: bool) -> Table:
    if not rows:
        return Table((), note=f"No {what} match.")
    return Table(rows, headers, f"More {what} match." if is_cut else "")


def start(sessions: NotebookSessions, arguments: Any) -> Process:
    """Start a command in the background, beside the shell."""
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not words:
        raise MagicError("%sandbox start: there is no command. Write it behind: %sandbox start COMMAND")
    box = sessions.get(arguments.session)
    return box.start(words[0] if len(words) == 1 else words, cwd=box.info().cwd)


def ps(sessions: NotebookSessions, arguments: Any) -> Table:
    """List the processes that were started beside the shell."""
    return process_table(sessions.get(arguments.session).processes())


def logs(sessions: NotebookSessions, arguments: Any) -> None:
    """Print what a process printed so far."""
    print_output(find_process(sessions.get(arguments.session), arguments.process, "logs"))


def kill(sessions: NotebookSessions, arguments: Any) -> None:
    """End a process and all that it started."""
    find_process(sessions.get(arguments.session), arguments.process, "kill").close()


def _path(box: Session, path: str) -> str:
    return posixpath.join(box.info().cwd, path)


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
    "vars": variables,
    "restart": restart,
    "ls": ls,
    "upload": upload,
    "download": download,
    "pip": pip,
    "mkdir": mkdir,
    "rm": rm,
    "mv": mv,
    "cp": cp,
    "chmod": chmod,
    "stat": stat,
    "find": find,
    "grep": grep,
    "start": start,
    "ps": ps,
    "logs": logs,
    "kill": kill,
    "reset": reset,
    "close": close,
}


@contextmanager
def _progress(name: str) -> Generator[ProgressLine, None, None]:
    line = ProgressLine(name, lambda text: print(text, end="", flush=True))
    try:
        yield line
    finally:
        line.end()


def split_destination(words: list[str]) -> tuple[list[str], str]:
    """Return the words that `upload` copies, and the destination: a last word that ends with a slash."""
    if len(words) > 1 and words[-1].endswith("/"):
        return words[:-1], words[-1]
    return words, "."


def local_paths(patterns: list[str]) -> list[Path]:
    """Return the paths that words name; words with `*`, `?` and `[` are patterns unless such a file exists.

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
