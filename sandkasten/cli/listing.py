"""A directory of a session, listed from within: what comes back is the sandbox's word, and is checked."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sandkasten.cli import out
from sandkasten.cli.failures import CommandLineError
from sandkasten.cli.text import size

if TYPE_CHECKING:
    from sandkasten.models import ExecResult
    from sandkasten_sync import Session

_KINDS = {"f": "file", "d": "directory", "l": "link"}
_FIELDS = 4
_SHOW = r"-printf '%y\0%s\0%T@\0%f\0'"
# In a subshell, so that the session's shell stays as it is; and into a pipe, since on a terminal `find`
# replaces characters in names.
_LIST = (
    "( set -o pipefail; if [[ -d {path} ]]; then command find {path}/ -mindepth 1 -maxdepth 1 {show}; "
    "else command find {path} -maxdepth 0 {show}; fi | command cat )"
)


@dataclass(frozen=True)
class Entry:
    """A name in a directory."""

    name: str
    kind: str
    size_bytes: int
    modified_at: datetime


def list_directory(session: Session, path: str, *, as_json: bool, quiet: bool) -> None:
    """Print a directory, or the entry of a file.

    Raises:
        CommandLineError: it cannot be listed.
        SandkastenError: the session cannot be asked.
    """
    inside = shlex.quote(posixpath.join("/workspace", path))
    result = session.exec(_LIST.format(path=inside, show=_SHOW), raw_output=True)
    entries = sorted(_entries(path, result), key=lambda entry: entry.name)
    if as_json:
        out.emit_json([asdict(entry) for entry in entries])
    elif quiet:
        for entry in entries:
            out.emit(entry.name)
    else:
        out.emit_table(
            ("KIND", "SIZE", "MODIFIED", "NAME"),
            [
                (entry.kind, size(entry.size_bytes), out.when(entry.modified_at), entry.name)
                for entry in entries
            ],
        )


def _entries(path: str, result: ExecResult) -> Iterator[Entry]:
    if result.exit_code != 0:
        said = result.output.strip().rpartition("\n")[2] or f"status {result.exit_code}"
        raise CommandLineError(f"{path} cannot be listed ({said}). Check the path.")
    if result.truncated:
        raise CommandLineError(f"{path} has too many entries to list. Name a directory with fewer.")
    fields = result.output.split("\0")[:-1]
    for start in range(0, len(fields), _FIELDS):
        try:
            kind, size_bytes, modified_at, name = fields[start : start + _FIELDS]
            moment = datetime.fromtimestamp(float(modified_at), UTC)
            yield Entry(name, _KINDS.get(kind, "other"), int(size_bytes), moment)
        except (ValueError, OverflowError, OSError):
            raise CommandLineError(f"{path} cannot be listed: the session's answer makes no sense.") from None
