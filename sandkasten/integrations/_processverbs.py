"""The verbs for processes beside the shell that agents get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from pydantic import Field, PrivateAttr

from sandkasten.errors import SandkastenError
from sandkasten.integrations._processtext import chunks_text, processes_text, run_text
from sandkasten.integrations._verb import MAX_TIMEOUT_SECONDS, Answer, Options, Verb, plain
from sandkasten.models import ProcessChunk, ProcessInfo, ProcessResult, SessionInfo

if TYPE_CHECKING:
    import sandkasten
    import sandkasten_sync
    from sandkasten.integrations._verb import AnySession

    AnyProcess = sandkasten.Process | sandkasten_sync.Process

# More than that is not asked for, to show so little of it.
_KEEP_BYTES = 256 * 1024
_CWD = "The directory; null is /workspace."
_ID = "The id that start_process gave."


class RunProcess(Verb):
    """Run a bash command in a process of its own, beside the shell; gives exit code, stdout and stderr apart.

    Variables and the directory of the shell are not those of the command, and stay as they are. Use it for
    programs whose errors must not mix with their output, that read standard input, or while the shell is
    busy. Nothing of it goes on afterwards if it runs out of time.
    """

    tool_name: ClassVar[str] = "run_process"
    command: str = Field(description="The command, any bash.")
    stdin: str | None = Field(default=None, description="What it reads as its standard input.")
    cwd: str | None = Field(default=None, description=_CWD)
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MAX_TIMEOUT_SECONDS,
        description="When to stop it, in seconds, at most 600; null is the usual limit.",
    )

    def start(self, session: AnySession, options: Options) -> Any:
        """Run the command."""
        timeout_ms = options.timeout_ms if self.timeout_seconds is None else self.timeout_seconds * 1000
        return session.run(
            self.command, input=self.stdin, cwd=self.cwd, timeout_ms=timeout_ms, keep_bytes=_KEEP_BYTES
        )

    def answer(self, result: ProcessResult, options: Options, info: SessionInfo | None) -> Answer:
        """Return the `ProcessResult` as text, and its fields with outputs as text."""
        network = info.network if info else None
        return Answer(run_text(result, options.max_output_chars, network), _fields(result))


class StartProcess(Verb):
    """Start a bash command in the background, such as a server, and give its id; it goes on until it ends.

    Read its output with read_process, and end it with kill_process.
    """

    tool_name: ClassVar[str] = "start_process"
    command: str = Field(description="The command, any bash.")
    cwd: str | None = Field(default=None, description=_CWD)

    def start(self, session: AnySession, options: Options) -> Any:
        """Start the command."""
        return session.start(self.command, cwd=self.cwd)

    def answer(self, result: AnyProcess, options: Options, info: SessionInfo | None) -> Answer:
        """Return the id."""
        return Answer(f"started process {result.id}", {"process_id": result.id})


class ReadProcess(Verb):
    """Read what a process of start_process printed, and whether it still runs.

    The answer says at which position the next reading goes on.
    """

    tool_name: ClassVar[str] = "read_process"
    is_read_only: ClassVar[bool] = True
    process_id: str = Field(description=_ID)
    position: int | None = Field(default=None, ge=0, description="Where to begin; null is the beginning.")
    wait_seconds: int | None = Field(
        default=None,
        ge=0,
        le=60,
        description="How long to wait for more, or for the end; null does not wait.",
    )
    _process: Any = PrivateAttr(default=None)

    def start(self, session: AnySession, options: Options) -> Any:
        """Read what is there, or comes in time."""
        self._process = session.process(self.process_id, self.position or 0)
        return self._process.read(timeout_ms=(self.wait_seconds or 0) * 1000, max_bytes=_KEEP_BYTES)

    def answer(self, result: Sequence[ProcessChunk], options: Options, info: SessionInfo | None) -> Answer:
        """Return the output, and how the process ended if it did."""
        end, position = _end_of(self._process), self._process.position
        text = chunks_text(result, end, position, options.max_output_chars)
        data: dict[str, Any] = {"process_id": self.process_id, "position": position, "running": end is None}
        data["output"] = "".join(chunk.text for chunk in result)
        return Answer(text, data if end is None else data | {"exit_code": end.exit_code, "end": end.end})


class ListProcesses(Verb):
    """List the processes of start_process: those that run, and the last that ended."""

    tool_name: ClassVar[str] = "list_processes"
    is_read_only: ClassVar[bool] = True

    def start(self, session: AnySession, options: Options) -> Any:
        """Ask the daemon."""
        return session.processes()

    def answer(self, result: Sequence[ProcessInfo], options: Options, info: SessionInfo | None) -> Answer:
        """Return ids, states and commands, one a line."""
        rows = [_info_fields(each) for each in result]
        return Answer(processes_text(result, options.max_output_chars), {"processes": rows})


class KillProcess(Verb):
    """End a process of start_process and all that it started. It gets 2 seconds to clean up."""

    tool_name: ClassVar[str] = "kill_process"
    process_id: str = Field(description=_ID)
    _process: Any = PrivateAttr(default=None)

    def start(self, session: AnySession, options: Options) -> Any:
        """End the process."""
        self._process = session.process(self.process_id)
        return self._process.close()

    def answer(self, result: None, options: Options, info: SessionInfo | None) -> Answer:
        """Return how it ended."""
        end = _end_of(self._process)
        if end is None:
            said = f"There is no process {self.process_id}. See which there are: list_processes."
            return Answer(said, {"process_id": self.process_id, "known": False})
        data = {"process_id": self.process_id, "known": True, "exit_code": end.exit_code, "end": end.end}
        return Answer(f"process {self.process_id} has ended: exit code {end.exit_code}", data)


def _end_of(process: AnyProcess) -> ProcessResult | None:
    try:
        return process.result
    except SandkastenError:  # it was not seen
        return None


def _fields(result: ProcessResult) -> dict[str, Any]:
    names = ("exit_code", "signal", "end", "stdout", "stderr", "truncated", "duration_ms")
    return {name: getattr(result, name) for name in names}


def _info_fields(info: ProcessInfo) -> dict[str, Any]:
    fields = attrs.asdict(info, recurse=False, value_serializer=plain)
    fields["args"] = list(info.args)
    fields["terminal"] = None if info.terminal is None else list(info.terminal)
    fields["result"] = None if info.result is None else _fields(info.result)
    return fields
