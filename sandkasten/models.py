"""The daemon's answers as frozen values, with the same classes for both packages.

Times are aware `datetime`s, sizes are bytes, and every name says its unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from attrs import field, frozen

from sandkasten._options.environments import EnvironmentInfo as EnvironmentInfo  # noqa: PLC0414
from sandkasten._options.limits import Limits as Limits  # noqa: PLC0414  (they are two of these)
from sandkasten._shown import none_if_empty, none_if_zero, shortened, size
from sandkasten.errors import CommandFailedError

T = TypeVar("T")


class _Shown:
    """A value that a notebook shows as a table, with or without the extension."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from sandkasten.notebook.displays import html_of  # noqa: PLC0415  (notebooks only)

        return html_of(self)


class Rows(list[T]):
    """A list that a notebook shows as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        from sandkasten.notebook.displays import list_html  # noqa: PLC0415  (notebooks only)

        return list_html(self)


@frozen
class ExecResult(_Shown):
    """The end of a command, and what it printed.

    Attributes:
        exit_code: the shell's status: 0 is success, 128 + n means ended by signal n.
        cwd: the shell's directory after the command.
        output: standard output and standard error together, in the order they were written.
        truncated: whether output is missing; the local daemon keeps head and tail, and says how much it is.
        duration_ms: how long the command ran, in milliseconds.
        shell_restarted: whether the command ended the shell (`exit`, a kill), and a new one took its place.
        end: why it ended, where the daemon says; the words are those of `ProcessResult.end`.
    """

    exit_code: int
    cwd: str
    output: str = field(repr=shortened)
    truncated: bool = False
    duration_ms: int = 0
    shell_restarted: bool = False
    end: str | None = None

    @property
    def ok(self) -> bool:
        """True if the command succeeded (`exit_code` is 0)."""
        return self.exit_code == 0

    def check(self) -> ExecResult:
        """Return this result if the command succeeded.

        Raises:
            CommandFailedError: the exit code is not 0; it carries this result.
        """
        if not self.ok:
            raise CommandFailedError(self)
        return self


@frozen
class ExecChunk:
    """A piece of a running command's output; the last one has `done` set and says how it ended.

    Attributes:
        output: the text that was printed since the last chunk; empty on the last one.
        timestamp: when the daemon saw it (on the last chunk of some daemons: when it arrived here).
        done: whether the command has ended.
        exit_code: the status, on the last chunk only.
        cwd: the shell's directory, on the last chunk only.
        duration_ms: how long the command ran, on the last chunk only.
        shell_restarted: as in `ExecResult`, on the last chunk only.
        missed_bytes: how much output is lost here, as the connection was away for too long; mostly 0.
        data: what came through the pipe of a command that was run with `pipe_output`, byte for byte.
        end: as in `ExecResult`, on the last chunk only.
    """

    output: str
    timestamp: datetime
    done: bool = False
    exit_code: int | None = None
    cwd: str | None = None
    duration_ms: int | None = None
    shell_restarted: bool = False
    missed_bytes: int = 0
    data: bytes = field(default=b"", repr=size)
    end: str | None = None


@frozen
class ProcessResult(_Shown):
    """The end of a process beside the shell, and what it printed.

    Attributes:
        exit_code: its status: 0 is success, 128 + n means ended by signal n, as in a shell.
        signal: the signal that ended it, such as `SIGKILL`; None if it ended by itself.
        stdout_bytes: its standard output; of more than is kept, head and tail, and a line that says so.
        stderr_bytes: its standard error, in the same way.
        end: why it ended: `exited`, `signal`, `timeout` (it was stopped), `interrupted` (by its client),
            `out_of_memory`, `disk_full`, or `lost` (its session ended with it).
        truncated: whether any of that output was left out.
        duration_ms: how long it ran, in milliseconds.
        stdout_total_bytes: how much it wrote to its standard output, whatever of that was kept.
        stderr_total_bytes: how much it wrote to its standard error.
    """

    exit_code: int
    signal: str | None
    stdout_bytes: bytes = field(repr=size)
    stderr_bytes: bytes = field(repr=size)
    end: str = "exited"
    truncated: bool = False
    duration_ms: int = 0
    stdout_total_bytes: int = 0
    stderr_total_bytes: int = 0

    @property
    def stdout(self) -> str:
        """The standard output as text; what is not UTF-8 is U+FFFD there."""
        return self.stdout_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        """The standard error as text."""
        return self.stderr_bytes.decode(errors="replace")

    @property
    def output(self) -> str:
        """The standard output, and after it the standard error."""
        return self.stdout + self.stderr

    @property
    def ok(self) -> bool:
        """True if it succeeded (`exit_code` is 0)."""
        return self.exit_code == 0

    def check(self) -> ProcessResult:
        """Return this result if the process succeeded.

        Raises:
            CommandFailedError: the exit code is not 0; it carries this result.
        """
        if not self.ok:
            raise CommandFailedError(self)
        return self


@frozen
class ProcessChunk:
    """A piece of a process's output.

    Attributes:
        stream: `stdout` or `stderr`; a terminal has only the first. Empty for a gap.
        data: the bytes.
        text: the same as text; a character whose bytes come in two pieces is in the second of them.
        missed_bytes: how much output is lost here, as nobody read it for too long; mostly 0.
        timestamp: when the daemon saw it.
    """

    stream: str
    data: bytes = field(repr=size)
    text: str
    missed_bytes: int
    timestamp: datetime


@frozen
class ProcessInfo(_Shown):
    """The facts that a daemon reports about a process.

    Attributes:
        id: its id, for `Session.process`.
        args: its program and the arguments.
        cwd: the directory that it was started in.
        running: whether it runs.
        started_at: when it was started.
        pid: its number inside the sandbox, where it is known.
        terminal: the columns and rows of its terminal; None if it has none.
        result: how it ended; None while it runs.
    """

    id: str
    args: tuple[str, ...]
    cwd: str
    running: bool
    started_at: datetime
    pid: int | None = None
    terminal: tuple[int, int] | None = None
    result: ProcessResult | None = None


@frozen
class ReadResult:
    """A file's bytes.

    Attributes:
        content: the bytes, exactly as they are in the sandbox.
        path: the path that was read.
        truncated: whether the file is longer than `content`.
    """

    content: bytes = field(repr=size)
    path: str
    truncated: bool = False

    @property
    def text(self) -> str:
        """The content as UTF-8 text.

        Raises:
            UnicodeDecodeError: the content is not UTF-8.
        """
        return self.content.decode()


@frozen
class SessionInfo(_Shown):
    """The facts that the daemon reports about a session.

    Attributes:
        id: the session's id.
        image: the image it was made from.
        status: `running`, `expired`, `destroyed`, or another word of the daemon's.
        cwd: the shell's directory.
        created_at: when it was made.
        expires_at: when it ends unless it is used before.
        workspace_id: the workspace at /workspace; None if it has one of its own that ends with it.
        acquire_source: `pool` or `cold`, where the daemon says.
        acquire_detail: more about that, where the daemon says.
        last_activity: when it was last used, where the daemon says.
        network: `none` or `host`, where the daemon says.
        programs: which of `python3` and `node` it has, where the daemon says.
        name: its name, if it was given one.
        labels: what its owner noted about it, where the daemon says.
        limits: what it may take, where the daemon says.
        python_environment: the environment of Python that it has in place of an image; None if it has none.
        node: the tag of its machine, where there are several behind a gateway.
    """

    id: str
    image: str
    status: str
    cwd: str
    created_at: datetime
    expires_at: datetime
    workspace_id: str | None = field(default=None, converter=none_if_empty)
    acquire_source: str | None = None
    acquire_detail: str | None = None
    last_activity: datetime | None = None
    network: str | None = None
    programs: tuple[str, ...] | None = None
    name: str | None = None
    labels: Mapping[str, str] | None = None
    limits: Limits | None = None
    python_environment: EnvironmentInfo | None = None
    node: str | None = None


@frozen
class SessionStats(_Shown):
    """The resources that a session uses right now.

    Attributes:
        memory_bytes: the memory of all its processes.
        memory_limit: the limit in bytes; None if there is none.
        cpu_usage_usec: the CPU time used since it was made, in microseconds.
    """

    memory_bytes: int
    memory_limit: int | None = field(default=None, converter=none_if_zero)
    cpu_usage_usec: int = 0


@frozen
class WorkspaceInfo(_Shown):
    """A workspace: files that outlive sessions.

    Attributes:
        id: its id, 2 to 64 of `a-z 0-9 -`.
        created_at: when it was made, where the daemon says.
        labels: what its owner noted about it.
    """

    id: str
    created_at: datetime | None = None
    labels: Mapping[str, str] | None = None


@frozen
class DirEntry(_Shown):
    """A name in a directory.

    Attributes:
        name: the name alone, or the path below the directory of a listing with a `depth`; bytes that are not
            UTF-8 are as in `os.fsdecode`, so that `read` takes them.
        is_dir: whether it is a directory; a symlink is not one, wherever it leads.
        kind: `file`, `directory`, `symlink` or `other`, where the daemon says.
        size_bytes: how long it is, where the daemon says.
        modified_at: when it was last written to, where the daemon says; code in the sandbox can set that.
        link_target: where a symlink leads, where the daemon says.
    """

    name: str
    is_dir: bool = False
    kind: str | None = None
    size_bytes: int | None = None
    modified_at: datetime | None = None
    link_target: str | None = None


@frozen
class SearchMatch:
    """A line that a search found.

    Attributes:
        path: the file, relative to the directory that was searched.
        line_number: the line, from 1 on.
        line: its text, of which at most 500 characters are kept.
    """

    path: str
    line_number: int
    line: str


@frozen
class SearchResult:
    """The lines that a search found.

    Attributes:
        matches: the lines, in the order of the paths.
        truncated: whether there are more of them.
    """

    matches: tuple[SearchMatch, ...]
    truncated: bool = False


@frozen
class FileStat:
    """The status of a path in the sandbox.

    Attributes:
        path: the path that was asked for.
        kind: `file`, `directory`, `symlink` or `other`.
        size_bytes: how long it is, where the daemon says.
        mode: its permission bits, such as 0o644, where the daemon says.
        modified_at: when it was last written to, where the daemon says; code in the sandbox can set that.
        link_target: where a symlink leads, of one that was not followed.
    """

    path: str
    kind: str
    size_bytes: int | None = None
    mode: int | None = None
    modified_at: datetime | None = None
    link_target: str | None = None

    @property
    def is_dir(self) -> bool:
        """True if the path is a directory."""
        return self.kind == "directory"


@frozen
class Health(_Shown):
    """The facts that a daemon reports about itself, without a key.

    Attributes:
        status: `ok`.
        server: which daemon it is; None where it does not say.
        version: the daemon's version; None where it does not say.
        extensions: the names of what it can do beyond the common protocol.
    """

    status: str
    server: str | None = None
    version: str | None = None
    extensions: tuple[str, ...] = ()
