"""`%%sandbox`: a cell that runs in the sandbox, with its output and the pictures it made."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, MutableMapping
from typing import Any

from sandkasten._offline import lacks_network
from sandkasten.errors import SandkastenError
from sandkasten.models import ExecResult
from sandkasten.notebook.arguments import CellOptions
from sandkasten.notebook.errors import CellFailedError
from sandkasten.notebook.languages import shell_command
from sandkasten.notebook.listing import FileEntry, Listing, list_files
from sandkasten.notebook.pictures import (
    MAX_FILE_BYTES,
    SUFFIXES,
    Display,
    NotShownError,
    choose,
    display_of,
    made_or_changed,
    notice,
)
from sandkasten.notebook.running import run
from sandkasten_sync import Session

_DEPTH = 3
_NO_NETWORK = "The session has no network; `%sandbox new --network host` makes one that has the host's."

Show = Callable[[Display], object]


def run_cell(
    session: Session, cell: str, options: CellOptions, variables: MutableMapping[str, Any], show: Show
) -> None:
    """Run a cell, show what it prints and then what it drew, and keep its result in `variables`.

    Raises:
        CellFailedError: it ended with a non-zero status, and that was not allowed.
        CellInterrupted: the kernel was interrupted meanwhile.
        SandkastenError: any other failure.
    """
    before = None if options.show_nothing else _pictures_below(session, options.show or ".")
    result = run(
        session,
        shell_command(cell, options.language),
        timeout_ms=options.timeout_ms,
        write=_nowhere if options.quiet else _to_stdout,
    )
    if options.result_name:
        variables[options.result_name] = result
    if before is not None:
        _show_new(session, before, show, scripts=options.scripts)
    info = session.first_info
    offline = lacks_network(result.exit_code, result.output, info.network if info else None)
    _finish(result, options, _NO_NETWORK if offline else "")


def _finish(result: ExecResult, options: CellOptions, why: str) -> None:
    if result.shell_restarted and not options.quiet:
        _to_stdout("[The cell ended the shell; a new one goes on, with directory and exported variables.]\n")
    if not (result.ok or options.may_fail):
        raise CellFailedError(result, why)
    if why and not options.quiet:
        _to_stdout(f"[{why}]\n")


def _to_stdout(text: str) -> None:
    print(text, end="", flush=True)


def _nowhere(_text: str) -> None:
    pass


def _pictures_below(session: Session, directory: str) -> Listing | None:
    """Return the pictures and pages in the directory, or None if the shell cannot list them."""
    try:
        return list_files(session, directory, SUFFIXES, _DEPTH)
    except SandkastenError:
        return None


def _show_new(session: Session, before: Listing, show: Show, *, scripts: bool) -> None:
    after = _pictures_below(session, before.directory)
    if after is None:
        return
    choice = choose(made_or_changed(before.entries, after.entries))
    skipped = list(choice.skipped)
    for file in choice.shown:
        try:
            show(_fetch(session, before.directory, file, scripts=scripts))
        except NotShownError as reason:
            skipped.append((file, str(reason)))
    if skipped:
        _to_stdout(notice(skipped))


def _fetch(session: Session, directory: str, file: FileEntry, *, scripts: bool) -> Display:
    path = posixpath.join(directory, file.path)
    try:
        read = session.read(path, max_bytes=MAX_FILE_BYTES)
    except SandkastenError:
        raise NotShownError("not to be read; files below /workspace are") from None
    if read.truncated:
        raise NotShownError("too large")
    return display_of(file.path, read.content, scripts=scripts)
