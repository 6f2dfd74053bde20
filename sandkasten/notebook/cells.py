"""`%%sandbox`: a cell that runs in the sandbox, with its output and the pictures it made."""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sandkasten._offline import lacks_network
from sandkasten._python.values import RichResult
from sandkasten.errors import ExtensionMissingError, SandkastenError
from sandkasten.models import ExecResult
from sandkasten.notebook.arguments import CellOptions
from sandkasten.notebook.errors import CellFailedError, CellRaisedError
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
from sandkasten.notebook.python.running import Page, enter, run_python, traceback_lines
from sandkasten.notebook.python.values import bring
from sandkasten.notebook.running import run
from sandkasten_sync import Session

_DEPTH = 3
_NO_NETWORK = "The session has no network; `%sandbox new --network host` makes one that has the host's."

Show = Callable[[Display], object]


@dataclass
class Notebook:
    """The surroundings of a cell.

    Attributes:
        variables: the notebook's own, for results.
        page: the output of the cell.
        directories: where the shell was when Python ran last, by session.
    """

    variables: MutableMapping[str, Any]
    page: Page
    directories: dict[str, str]


def run_cell(session: Session, cell: str, options: CellOptions, notebook: Notebook) -> RichResult | None:
    """Run a cell, show what it prints and then what it drew, and keep its result in a variable.

    Returns:
        The value of the cell's last expression, if it is Python.

    Raises:
        CellFailedError: it ended with a non-zero status, and that was not allowed.
        CellRaisedError: it raised an exception, and that was not allowed.
        CellInterrupted: the kernel was interrupted meanwhile.
        SandkastenError: any other failure.
    """
    before = None if options.show_nothing else _pictures_below(session, options.show or ".")
    if options.language == "python":
        with suppress(ExtensionMissingError):  # without it, each cell is a fresh program
            return _run_python(notebook, session, cell, options, before)
    result = run(
        session,
        shell_command(cell, options.language),
        timeout_ms=options.timeout_ms,
        write=_nowhere if options.quiet else _to_stdout,
    )
    notebook.variables.update(dict.fromkeys(options.results, result))
    if before is not None:
        _show_new(session, before, notebook.page.publish, scripts=options.scripts)
    _finish(result, options, _why(session, result.exit_code, result.output))
    return None


def _run_python(
    notebook: Notebook, session: Session, cell: str, options: CellOptions, before: Listing | None
) -> RichResult | None:
    is_known = before is not None and options.show is None
    directory = before.directory if is_known and before else session.exec(":").cwd
    enter(session, directory, notebook.directories)
    # The text begins with an empty line in place of the magic, as in other languages.
    page = None if options.quiet else notebook.page
    result = run_python(session, f"\n{cell}", timeout_ms=options.timeout_ms, page=page)
    if result.context_lost:
        notebook.directories.pop(session.id, None)
    if before is not None:
        _show_new(session, before, notebook.page.publish, scripts=options.scripts)
    found = bring(session, list(options.results)) if options.results and not result.context_lost else {}
    notebook.variables.update({name: found.get(name, result) for name in options.results})
    if not result.ok:
        why = _why(session, 1, str(result.error))
        lines = [*traceback_lines(result), *filter(None, [why])]
        if not options.may_fail:
            raise CellRaisedError(result, lines)
        if not options.quiet:
            print(*lines, sep="\n", file=sys.stderr, flush=True)
    value = next((each for each in result.results if each.is_value), None)
    return None if options.quiet else value


def _why(session: Session, exit_code: int, output: str) -> str:
    info = session.first_info
    offline = lacks_network(exit_code, output, info.network if info else None)
    return _NO_NETWORK if offline else ""


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
