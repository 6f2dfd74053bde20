"""IPython's view of the library's values: formatters for their types, kept apart from the models."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

from sandkasten.models import (
    DirEntry,
    ExecResult,
    Health,
    ReadResult,
    SessionInfo,
    SessionStats,
    WorkspaceInfo,
)
from sandkasten.notebook.listing import MAX_ENTRIES, FileEntry, Listing
from sandkasten.notebook.tables import Table
from sandkasten.notebook.text import duration, moment, one_line, size, visible

# What a displayed result shows of its output: the end, where errors stand.
MAX_SHOWN_CHARS = 20_000

_KINDS = {"d": "directory", "f": "file", "l": "link", "p": "pipe", "s": "socket"}
_LISTED = (SessionInfo, WorkspaceInfo, DirEntry)
_SHOWN = (*_LISTED, SessionStats, Health, Listing, Table)

_PRE = (
    "margin: 0; white-space: pre-wrap; max-height: 30em; overflow: auto; background: none; "
    "font-family: var(--jp-code-font-family, monospace); font-size: var(--jp-code-font-size, 13px); "
    "line-height: 1.3"
)
_GOOD, _BAD = "var(--jp-success-color1, #2e7d32)", "var(--jp-error-color1, #c62828)"


def status(result: ExecResult) -> str:
    """Return the end of a command in a line."""
    parts = [
        f"status {result.exit_code}",
        duration(result.duration_ms),
        one_line(result.cwd),
        "output truncated" if result.truncated else "",
        "the shell was restarted" if result.shell_restarted else "",
    ]
    return " · ".join(filter(None, parts))


def result_text(result: ExecResult) -> str:
    """Return a result's output, and its status below."""
    output = _shown(result).rstrip("\n")
    return f"{output}\n[{status(result)}]" if output else f"[{status(result)}]"


def result_html(result: ExecResult) -> str:
    """Return the same as HTML, in which the output is text and never markup."""
    colour = _GOOD if result.ok else _BAD
    output = html.escape(_shown(result).rstrip("\n"))
    return (
        f'<div><pre style="{_PRE}">{output}</pre>'
        f'<div style="border-left: 3px solid {colour}; padding-left: 8px; margin-top: 4px; font-size: 90%">'
        f"{html.escape(status(result))}</div></div>"
    )


def _shown(result: ExecResult) -> str:
    omitted = len(result.output) - MAX_SHOWN_CHARS
    notice = f"[{omitted} characters before this are not shown]\n" if omitted > 0 else ""
    return notice + visible(result.output[-MAX_SHOWN_CHARS:])


@singledispatch
def table_of(value: Any) -> Table:
    """Return the table that shows a value of a type in `_SHOWN`."""
    raise TypeError(f"no table for {type(value).__name__}")


@table_of.register
def _(table: Table) -> Table:
    return table


@table_of.register
def _(info: SessionInfo) -> Table:
    rows = [
        ("session", info.id),
        ("image", info.image),
        ("status", info.status),
        ("directory", info.cwd),
        ("workspace", info.workspace_id or "its own, ends with it"),
        ("made", moment(info.created_at)),
        ("ends if unused", moment(info.expires_at)),
    ]
    return Table(rows)


@table_of.register
def _(stats: SessionStats) -> Table:
    limit = f" of {size(stats.memory_limit)}" if stats.memory_limit else ""
    return Table(
        [
            ("memory", size(stats.memory_bytes) + limit),
            ("CPU time", duration(stats.cpu_usage_usec / 1000)),
        ]
    )


@table_of.register
def _(health: Health) -> Table:
    daemon = " ".join(filter(None, [health.server, health.version])) or "unknown"
    return Table(
        [
            ("status", health.status),
            ("daemon", daemon),
            ("extensions", ", ".join(health.extensions) or "none"),
        ]
    )


@table_of.register
def _(info: WorkspaceInfo) -> Table:
    return _table_of_list([info])


@table_of.register
def _(entry: DirEntry) -> Table:
    return _table_of_list([entry])


@table_of.register
def _(listing: Listing) -> Table:
    rows = [_listed(entry) for entry in listing.entries]
    more = f", the first {MAX_ENTRIES} entries" if listing.truncated else ""
    note = f"{one_line(listing.directory)}{more or ('' if rows else ' is empty')}"
    return Table(rows, ("name", "kind", "size", "changed") if rows else (), note, frozenset({2}))


def _listed(entry: FileEntry) -> tuple[str, str, str, str]:
    length = size(entry.size_bytes) if entry.kind == "f" else ""
    return entry.path, _KINDS.get(entry.kind, "other"), length, moment(entry.changed_at)


def _table_of_list(values: Sequence[Any]) -> Table:
    first = values[0]
    if isinstance(first, SessionInfo):
        rows = [(v.id, v.image, v.status, v.cwd, moment(v.created_at)) for v in values]
        return Table(rows, ("session", "image", "status", "directory", "made"))
    if isinstance(first, WorkspaceInfo):
        made = [moment(v.created_at) if v.created_at else "" for v in values]
        return Table(
            [(v.id, when, _labels(v)) for v, when in zip(values, made, strict=True)],
            ("workspace", "made", "labels"),
        )
    return Table([(v.name, "directory" if v.is_dir else "file") for v in values], ("name", "kind"))


def _labels(info: WorkspaceInfo) -> str:
    return ", ".join(f"{name}={value}" for name, value in (info.labels or {}).items())


def list_html(values: list[Any]) -> str | None:
    """Return a table for a list of one of our types, or None for any other list."""
    if not any(values and all(isinstance(value, kind) for value in values) for kind in _LISTED):
        return None
    return _table_of_list(values).as_html()


def _read_text(result: ReadResult) -> str:
    return f"<{one_line(result.path)}, {size(len(result.content))}{', truncated' * result.truncated}>"


def _pretty(as_text: Callable[[Any], str]) -> Callable[[Any, Any, bool], None]:
    def print_it(value: Any, printer: Any, cycle: bool) -> None:
        # Within a list, or another value, it is the usual one-line `repr`.
        alone = len(printer.stack) <= 1 and not cycle
        printer.text(as_text(value) if alone else repr(value))

    return print_it


def _table_html(value: Any) -> str:
    return table_of(value).as_html()


def _table_text(value: Any) -> str:
    return table_of(value).as_text()


def html_of(value: Any) -> str:
    """Return a model as HTML."""
    return result_html(value) if isinstance(value, ExecResult) else _table_html(value)


def register_displays(ipython: Any) -> None:
    """Teach IPython to show the library's values; formatters that a type has already stay."""
    as_html: dict[type, Callable[[Any], str | None]] = {ExecResult: result_html, list: list_html}
    as_text: dict[type, Callable[[Any], str]] = {ExecResult: result_text, ReadResult: _read_text}
    for kind in _SHOWN:
        as_html[kind], as_text[kind] = _table_html, _table_text
    formatters = _formatters(ipython)
    for known, show in as_html.items():
        if known not in formatters["text/html"]:
            formatters["text/html"].for_type(known, show)
    for known, text in as_text.items():
        formatters["text/plain"].for_type(known, _pretty(text))


def unregister_displays(ipython: Any) -> None:
    """Undo `register_displays`."""
    formatters = _formatters(ipython)
    for kind in (ExecResult, ReadResult, *_SHOWN):
        for mime_type in ("text/html", "text/plain"):
            formatters[mime_type].pop(kind, None)
    if formatters["text/html"].type_printers.get(list) is list_html:
        formatters["text/html"].pop(list)


def _formatters(ipython: Any) -> Any:
    return ipython.display_formatter.formatters
