"""Copying between this machine and a session or a workspace, with a progress bar on a terminal."""

from __future__ import annotations

import posixpath
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sandkasten._protocol import Code
from sandkasten.cli.output.failures import USAGE, CommandLineError
from sandkasten.cli.output.out import has_rich
from sandkasten.cli.parsing.arguments import NAME, ROOT

if TYPE_CHECKING:
    from sandkasten_sync import Session, Workspace

    Files = Session | Workspace

OnProgress = Callable[[int, int | None], None]


def push(files: Files, source: Path, directory: str, name: str) -> None:
    """Copy a file or a directory of this machine into a remote directory, under a name.

    Raises:
        SandkastenError: as `upload` does.
    """
    with progress(name) as on_progress:
        files.upload(source, dest_path=directory, filename=name, on_progress=on_progress)


def pull(files: Files, path: str, target: str | Path) -> None:
    """Copy a remote file or directory to a path of this machine, by the rules of `download`.

    Raises:
        SandkastenError: as `download` does.
    """
    with progress(posixpath.basename(path.rstrip("/"))) as on_progress:
        files.download(path, target, on_progress=on_progress)


def push_stdin(files: Files, path: str) -> None:
    """Copy standard input into a remote file.

    Raises:
        SandkastenError: as `upload` does.
    """
    directory, name = split(path)
    with tempfile.TemporaryFile() as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)
        spool.seek(0)
        files.upload(spool, dest_path=directory, filename=name)


def pull_to_stdout(files: Files, path: str) -> None:
    """Copy a remote file to standard output.

    Raises:
        SandkastenError: as `download` does.
    """
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "file"
        pull(files, path, target)
        if target.is_dir():
            raise CommandLineError(f"{path} is a directory. Name a place for it instead of -.", USAGE)
        with target.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def is_directory(files: Files, path: str) -> bool:
    """Return whether there is a directory at a remote path.

    Raises:
        SandkastenError: the daemon cannot be asked.
    """
    from sandkasten.errors import NotFoundError  # noqa: PLC0415

    if posixpath.normpath(posixpath.join(ROOT, path)) == ROOT:
        return True  # also in a workspace that does not exist yet
    try:
        return files.stat(path).is_dir
    except NotFoundError as error:
        if error.error_code == Code.SESSION_NOT_FOUND:
            raise
        return False


def inside(files: Files, source: str, target: str) -> str:
    """Return the path that a copy or a move within a session leads to: in a directory, the source's own name.

    Raises:
        SandkastenError: the daemon cannot be asked.
    """
    if target.endswith("/") or is_directory(files, target):
        return posixpath.join(target, name_of(source))
    return target


def existing(path: str) -> Path:
    """Return a path of this machine that must exist.

    Raises:
        CommandLineError: nothing is there.
    """
    if not Path(path).exists():
        raise CommandLineError(f"{path!r} does not exist on this machine. Check the path.")
    return Path(path)


def own_name(path: Path) -> str:
    """Return the name under which a file or directory of this machine is stored remotely.

    Raises:
        CommandLineError: the path has no name that can be sent.
    """
    name = path.resolve().name
    if not NAME.fullmatch(name):
        raise CommandLineError(
            f"{str(path)!r} has no name to store it as. Name the copy: sandkasten cp SRC SESSION:NAME.",
            USAGE,
        )
    return name


def free_name(name: str) -> str:
    """Return the local name for a download, checked before a command runs for it.

    Raises:
        CommandLineError: the name is taken by something that a download does not replace.
    """
    if Path(name).exists() and not Path(name).is_file():
        raise CommandLineError(
            f"{name!r} is here already, and is no plain file. Move it away, or start from another directory."
        )
    return name


def name_of(path: str) -> str:
    """Return the last name of a remote path, under which it is stored here.

    Raises:
        CommandLineError: the path has no name.
    """
    name = PurePosixPath(posixpath.normpath(posixpath.join(ROOT, path))).name
    if not name or "\\" in name:
        raise CommandLineError(f"{path!r} has no name to store it as. Name a file or a directory.", USAGE)
    return name


def split(path: str) -> tuple[str, str]:
    """Return the directory and the name of a remote file.

    Raises:
        CommandLineError: the path has no name.
    """
    whole = posixpath.join(ROOT, path)
    directory, name = posixpath.split(whole)
    if name in {"", ".", ".."} or whole == ROOT:
        raise CommandLineError(f"{path!r} is a directory. Name the file, too.", USAGE)
    return directory or "/", name


@contextmanager
def progress(label: str) -> Generator[OnProgress, None, None]:
    """Show a bar if standard error is a terminal; yield the function that takes bytes done and total."""
    if not sys.stderr.isatty() or not has_rich():
        yield lambda _done_bytes, _total_bytes: None
        return
    from rich.console import Console  # noqa: PLC0415  (for terminals alone)
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    from sandkasten.cli.output.text import field  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(field(label), total=None)
        yield lambda done_bytes, total_bytes: bars.update(task, completed=done_bytes, total=total_bytes)
