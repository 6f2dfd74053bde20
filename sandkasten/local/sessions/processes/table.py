"""All processes of a session beside its shell: those that run, and the last that ended."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from datetime import UTC, datetime

from sandkasten._protocol import WORKSPACE, Code
from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError, SandboxLostError, invalid_request
from sandkasten.local.isolation.backend import Sandbox
from sandkasten.local.isolation.programs import CannotSpawnError, NoDirectoryError, ProgramError
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.processes.channels import Channels, make_pipes, make_terminal
from sandkasten.local.sessions.processes.output import Captured, Sink, Tape
from sandkasten.local.sessions.processes.process import ProcessJob
from sandkasten.local.sessions.processes.request import ProcessSpec, Size, Variables, program_of
from sandkasten.local.sessions.terminal import Turns

MAX_HANDLES = 256
ENDED_MAX = 64
_REMEMBERED_MAX = 4096
# Ended processes whose output may go on, from what they left in the background.
_LINGERING_MAX = 64
# What is kept for readers: of one process, of one among many, and of all.
_TAPE_BYTES = 1024 * 1024
_TAPE_LEAST_BYTES = 64 * 1024
_TAPES_BYTES = 32 * 1024 * 1024
# How long the end of what fills the disk is waited for.
_STOP_SECONDS = 2.0
_SHOWN_BYTES = 4096
_SHOWN_ARGS = 64


@dataclass(eq=False)
class Handle:
    """A process that a client started, and may come back to.

    Attributes:
        id: the client's name for it.
        asked: stands for the request, so that it is the same one that comes twice.
        job: the process.
        tape: its output.
        args: its arguments, as far as they are shown.
        terminal: the size of its terminal; None: it has none.
        started_at: when that was.
    """

    id: str
    asked: bytes
    job: ProcessJob
    tape: Tape
    args: list[str]
    terminal: Size | None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def resize(self, size: Size) -> bool:
        """Set the size of its terminal; return whether there is one, or was."""
        if self.terminal is None:
            return False
        if self.job.resize(size):
            self.terminal = size
        return True


class Processes:
    """See above. Lives in the event loop's thread."""

    def __init__(
        self,
        sandbox: Sandbox,
        environment: Mapping[str, str],
        begin: Callable[[ProcessJob], None],
        ran_out_of_memory: Callable[[ProcessJob], bool],
        turns: Turns | None = None,
    ) -> None:
        """Begin with none.

        Args:
            sandbox: starts them.
            environment: of the session's shells.
            begin: called before each of them starts.
            ran_out_of_memory: returns whether the session did while a process ran that was killed.
            turns: knows who shares the event loop with this session; None: nobody does.
        """
        self._turns = turns or Turns()
        self._sandbox = sandbox
        self.directory = WORKSPACE  # where they begin
        self._variables = Variables(environment)
        self._begin = begin
        self._ran_out_of_memory = ran_out_of_memory
        self._running: dict[ProcessJob, None] = {}
        self._handles: dict[str, Handle] = {}  # those that run
        self._ended: OrderedDict[str, Handle] = OrderedDict()
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._lingering: dict[ProcessJob, None] = {}
        self._is_closed = False

    # --- starting

    def prepare(self, spec: ProcessSpec) -> ProcessJob:
        """Return a job for a process, which `run` or `start` then begins.

        Raises:
            ApiError: INVALID_REQUEST, it cannot be a process; or
            SandboxLostError: the session has ended.
        """
        if self._is_closed:
            raise SandboxLostError("the session ended")
        program = program_of(spec, self._variables.encoded(), self.directory)
        return ProcessJob(program, spec.timeout_ms, self._ran_out_of_memory)

    async def run(self, job: ProcessJob, sink: Captured, *, has_input: bool) -> None:
        """Begin a process that somebody waits for, with pipes.

        Raises:
            ApiError: CANNOT_START or CAPACITY_EXCEEDED.
            SandboxLostError: the session is gone.
        """
        await self._start(job, sink, lambda: self._streams(job, None, has_input=has_input))

    async def start(
        self,
        process_id: str,
        spec: ProcessSpec,
        on_ended: Callable[[ProcessJob], None],
        *,
        has_input: bool,
    ) -> Handle:
        """Begin a process that somebody comes back to; for an id that was used before, return that process.

        Args:
            process_id: the client's choice.
            spec: what it is.
            on_ended: called when it has ended, or could not begin.
            has_input: whether its standard input is written to.

        Raises:
            ApiError: CANNOT_START, CAPACITY_EXCEEDED, INVALID_REQUEST where the id stands for another
                process, RESULT_GONE where that process is no longer known.
            SandboxLostError: the session is gone.
        """
        asked = hashlib.sha256(repr((spec, has_input)).encode("utf-8", "surrogatepass")).digest()
        found = self._known(process_id)
        if found is not None:
            if found.asked != asked:
                raise invalid_request("This id was used for another process. Take a new one.")
            await found.job.begun.wait()
            if isinstance(found.job.error, ApiError):
                raise found.job.error
            return found
        if process_id in self._gone:
            raise ApiError(410, Code.RESULT_GONE, "This process was started already, and has ended long ago.")
        if len(self._handles) >= MAX_HANDLES:
            sentence = f"{MAX_HANDLES} processes of this session run. End some before you start another."
            raise ApiError(429, Code.CAPACITY_EXCEEDED, sentence)
        job = self.prepare(spec)
        tape = Tape(_TAPE_BYTES, job.output_taken)
        handle = Handle(process_id, asked, job, tape, _shown(spec.args), spec.terminal)
        self._handles[process_id] = handle
        self._share()
        job.when_finished(lambda: self._on_handle_ended(handle))
        job.when_finished(lambda: on_ended(job))
        await self._start(job, tape, lambda: self._streams(job, spec.terminal, has_input=has_input))
        return handle

    def _known(self, process_id: str) -> Handle | None:
        return self._handles.get(process_id) or self._ended.get(process_id)

    def _streams(self, job: ProcessJob, terminal: Size | None, *, has_input: bool) -> Channels:
        if terminal is None:
            return make_pipes(job.take, self._is_shared, has_input=has_input)
        return make_terminal(job.take, self._is_shared, terminal)

    def _is_shared(self) -> bool:
        return self._turns.is_shared(self)

    async def _start(self, job: ProcessJob, sink: Sink, make: Callable[[], Channels]) -> None:
        self._running[job] = None
        job.when_finished(lambda: self._on_ended(job))
        self._begin(job)
        self._turns.use(self)
        try:
            await job.start(self._sandbox, make(), sink)
        except (ProgramError, CannotSpawnError, OSError, SandboxLostError) as error:
            reason = refusal(error)
            job.refuse(reason)
            raise reason from error
        except BaseException:
            job.refuse(SandboxLostError("the process could not be started"))
            raise

    # --- finding

    def get(self, process_id: str) -> Handle:
        """Return a process that was started.

        Raises:
            ApiError: PROCESS_NOT_FOUND.
        """
        found = self._known(process_id)
        if found is None or not found.job.begun.is_set():
            sentence = f"This session knows no process {process_id[:64]!r}."
            raise ApiError(404, Code.PROCESS_NOT_FOUND, sentence)
        return found

    def list(self) -> list[Handle]:
        """Return those that run, and the last that ended, oldest first."""
        return [one for one in (*self._ended.values(), *self._handles.values()) if one.job.begun.is_set()]

    @property
    def any_runs(self) -> bool:
        """True if any process runs."""
        return bool(self._running)

    # --- stopping

    async def stop_all(self, reason: JobEnd) -> None:
        """End all at once, and wait for a while until they are gone."""
        running = [*self._running]
        for job in running:
            job.stop(reason, 0)
        for job in [*self._lingering]:
            await job.stop_rest(0)
        await asyncio.gather(*(job.ended(_STOP_SECONDS) for job in running))

    def close(self, error: SandboxLostError) -> None:
        """The session has ended."""
        self._is_closed = True
        for job in [*self._running, *self._lingering]:
            job.lose(error)
        self._lingering.clear()

    # --- their ends

    def _on_ended(self, job: ProcessJob) -> None:
        del self._running[job]
        for ended in [one for one in self._lingering if not one.has_open_streams]:
            del self._lingering[ended]
        if job.has_open_streams:
            self._lingering[job] = None
        while len(self._lingering) > _LINGERING_MAX:
            oldest = next(iter(self._lingering))
            del self._lingering[oldest]
            oldest.close()

    def _on_handle_ended(self, handle: Handle) -> None:
        del self._handles[handle.id]
        handle.tape.close()
        if isinstance(handle.job.error, ApiError):  # it never began
            return
        self._ended[handle.id] = handle
        while len(self._ended) > ENDED_MAX:
            oldest, _handle = self._ended.popitem(last=False)
            self._gone[oldest] = None
        while len(self._gone) > _REMEMBERED_MAX:
            self._gone.popitem(last=False)

    def _share(self) -> None:
        """Give each an equal part of the memory for output."""
        share = _TAPES_BYTES // (len(self._handles) + len(self._ended))
        for handle in self._all():
            handle.tape.limit(max(_TAPE_LEAST_BYTES, min(_TAPE_BYTES, share)))

    def _all(self) -> Iterator[Handle]:
        yield from self._handles.values()
        yield from self._ended.values()


def refusal(error: Exception) -> ApiError | SandboxLostError:
    """Return what a client is answered whose process could not be started."""
    if isinstance(error, SandboxLostError):
        return error
    if isinstance(error, ProgramError):
        why = _reason(error)
        details = {"reason": why} if why else None
        return ApiError(400, Code.CANNOT_START, f"{error.strerror}.", details=details)
    if isinstance(error, CannotSpawnError):
        return ApiError(400, Code.CANNOT_START, str(error))
    reason = error.strerror if isinstance(error, OSError) else str(error)
    sentence = f"The process cannot be started: {reason}. End some processes of this session, or try later."
    return ApiError(503, Code.CAPACITY_EXCEEDED, sentence)


def _shown(args: tuple[str, ...]) -> list[str]:
    """Return arguments for a listing, which is no place for a megabyte of them."""
    shown: list[str] = []
    left = _SHOWN_BYTES
    for arg in args:
        text = arg.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if len(shown) >= _SHOWN_ARGS or len(text) > left:
            return [*shown, f"{text[:left]}..." if len(shown) < _SHOWN_ARGS else "..."]
        left -= len(text)
        shown.append(text)
    return shown


def _reason(error: ProgramError) -> str | None:
    if isinstance(error, NoDirectoryError):
        return "no_directory"
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return "not_found"
    is_unfit = error.errno in {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOEXEC, errno.ELIBBAD}
    return "not_executable" if is_unfit else None
