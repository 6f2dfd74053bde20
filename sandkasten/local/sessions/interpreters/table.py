"""All contexts of a session, and a spare interpreter, which has run no code, for the next of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import ENOENT

from sandkasten._protocol import WORKSPACE, Code
from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError, SandboxLostError
from sandkasten.local.isolation.backend import Sandbox
from sandkasten.local.isolation.programs import CannotSpawnError, ProgramError
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.interpreters.context import Context, House
from sandkasten.local.sessions.interpreters.interpreter import Interpreter
from sandkasten.local.sessions.interpreters.program import NAMES, args_of
from sandkasten.local.sessions.interpreters.run import PythonRun, RunSink
from sandkasten.local.sessions.processes.process import ProcessJob
from sandkasten.local.sessions.processes.request import ProcessSpec, encoded, program_of
from sandkasten.local.sessions.processes.table import refusal
from sandkasten.local.sessions.terminal import Turns

MAX_CONTEXTS = 16
# Sessions that may have fewer processes, or less memory, do without a spare.
_SPARE_PROCESSES = 64
_SPARE_MEMORY_BYTES = 256 * 1024 * 1024
# Whoever just got an interpreter is about to use it, and starting the next would be in the way.
_SPARE_AFTER_SECONDS = 0.05
_NO_PYTHON = (
    "The image of this session has no Python: neither python3 nor python is in PATH. Use one that has."
)
# How long variables may take to be listed: each says what it is in its own words.
VARIABLES_MS = 5_000


@dataclass(frozen=True)
class Surroundings:
    """The parts of a session that its interpreters need.

    Attributes:
        sandbox: starts them.
        environment: of the session's shells.
        begin: called before each of them starts, or runs code.
        ran_out_of_memory: returns whether the session did while a process ran that was killed.
        processes: how many processes the session may have; None: any number.
        memory_bytes: how much memory it may have; None: any amount.
    """

    sandbox: Sandbox
    environment: Mapping[str, str]
    begin: Callable[[ProcessJob], None]
    ran_out_of_memory: Callable[[ProcessJob], bool]
    processes: int | None
    memory_bytes: int | None


class Interpreters:
    """See above. Lives in the event loop's thread."""

    def __init__(self, surroundings: Surroundings, turns: Turns | None = None) -> None:
        """Begin with none; `turns` knows who shares the event loop with this session."""
        self.directory = WORKSPACE  # where they begin
        self._surroundings = surroundings
        self._turns = turns or Turns()
        self._contexts: dict[str, Context] = {}
        self._names = list(NAMES)
        self._live = set[Interpreter]()
        self._spare: asyncio.Task[Interpreter] | None = None
        self._refilling: asyncio.TimerHandle | None = None
        self._ending = set[asyncio.Task[None]]()
        self._house = House(self._take, self._begin_run)
        self._is_closed = False

    # --- what others ask

    def run(
        self, name: str, code: str, timeout_ms: int, make_sink: Callable[[PythonRun], RunSink]
    ) -> PythonRun:
        """Have code run in a context, which is made if there is none of that name.

        Raises:
            ApiError: CAPACITY_EXCEEDED, there are too many contexts.
            SandboxLostError: the session has ended.
        """
        if self._is_closed:
            raise SandboxLostError("the session ended")
        context = self._contexts.get(name)
        if context is None:
            if len(self._contexts) >= MAX_CONTEXTS:
                sentence = f"This session has {MAX_CONTEXTS} contexts. Close one before you use another."
                raise ApiError(429, Code.CAPACITY_EXCEEDED, sentence)
            context = self._contexts[name] = Context(name, self._house)
        self._turns.use(self)
        run = PythonRun(code, timeout_ms, context)
        run.sink = make_sink(run)
        context.submit(run)
        return run

    def ask_variables(self, name: str) -> PythonRun | None:
        """Have a context list its variables; None: it has none.

        Raises:
            ApiError: CONFLICT, code runs in it.
        """
        context = self._contexts.get(name)
        if context is None or context.started_at is None:
            return None
        if context.is_running:
            raise ApiError(
                409, Code.CONFLICT, f"The context {name!r} runs code. Wait for that, or interrupt it."
            )
        run = PythonRun(None, VARIABLES_MS, context)
        context.submit(run)
        return run

    def get(self, name: str) -> Context | None:
        """Return a context."""
        return self._contexts.get(name)

    def list(self) -> list[Context]:
        """Return all contexts, oldest first."""
        return [*self._contexts.values()]

    async def close_context(self, name: str) -> bool:
        """End a context; return whether there was one."""
        context = self._contexts.pop(name, None)
        if context is not None:
            await context.close()
        return context is not None

    @property
    def any_runs(self) -> bool:
        """True if there is an interpreter that was given code: it may do something at any time."""
        return any(context.is_busy for context in self._contexts.values())

    # --- stopping

    def stop_all(self, reason: JobEnd, *, at_once: bool) -> None:
        """Stop what runs; at once: with all interpreters."""
        for context in self._contexts.values():
            context.stop(reason, at_once=at_once)

    def close(self, error: SandboxLostError) -> None:
        """The session has ended."""
        self._is_closed = True
        if self._refilling is not None:
            self._refilling.cancel()
        for context in self._contexts.values():
            context.lose(error)
        if self._spare is not None:
            self._spare.cancel()
        for interpreter in [*self._live]:
            interpreter.close()
            interpreter.job.lose(error)

    # --- interpreters

    async def _take(self) -> Interpreter:
        """Return an interpreter that has run no code.

        Raises:
            ApiError: CANNOT_START or CAPACITY_EXCEEDED.
            SandboxLostError: the session is gone.
        """
        spare, self._spare = self._spare, None
        self._count_spares()
        interpreter: Interpreter | None = None
        if spare is not None:
            with suppress(ApiError, SandboxLostError):  # whoever starts the next one learns why
                interpreter = await spare
        if interpreter is None or not interpreter.is_usable:
            interpreter = await self._start()
        self._refill_later()
        return interpreter

    async def _start(self) -> Interpreter:
        while True:
            name = self._names[0]
            try:
                return await self._start_program(name)
            except ProgramError as error:
                if error.errno != ENOENT or "directory" in (error.strerror or ""):
                    raise refusal(error) from error
                if len(self._names) == 1:
                    self._names = list(NAMES)  # somebody may install one
                    raise ApiError(400, Code.CANNOT_START, _NO_PYTHON) from error
                del self._names[0]
            except (CannotSpawnError, OSError) as error:
                raise refusal(error) from error

    async def _start_program(self, name: str) -> Interpreter:
        around = self._surroundings
        program = program_of(ProcessSpec(args_of(name)), encoded(around.environment), self.directory)
        job = ProcessJob(program, None, around.ran_out_of_memory)
        interpreter = Interpreter(job, lambda: self._turns.is_shared(self))
        around.begin(job)
        try:
            await interpreter.start(around.sandbox)
        except BaseException:
            job.refuse(SandboxLostError("the interpreter could not be started"))
            raise
        if self._is_closed:
            interpreter.close()
            job.lose(SandboxLostError("the session ended"))
            raise SandboxLostError("the session ended")
        self._live.add(interpreter)
        job.when_finished(lambda: self._after(interpreter))
        return interpreter

    def _after(self, interpreter: Interpreter) -> None:
        """End what an interpreter left behind."""
        self._live.discard(interpreter)
        job = interpreter.job
        job.close()
        if not self._is_closed and job.error is None:
            task = asyncio.create_task(job.stop_rest(0))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _begin_run(self, interpreter: Interpreter) -> None:
        self._surroundings.begin(interpreter.job)

    # --- the spare

    def prepare(self) -> None:
        """Have an interpreter ready before anybody asks, where the limits have room for one."""
        if self._may_have_spare:
            self._refill()

    def discard_spare(self) -> None:
        """End the interpreter that waits for code: what it was started with is no longer right."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.add_done_callback(self._on_unwanted)

    def _on_unwanted(self, spare: asyncio.Task[Interpreter]) -> None:
        self._count_spares()
        if not spare.cancelled() and not spare.exception() and spare.result().job.is_running:
            spare.result().kill(JobEnd.INTERRUPTED)

    @property
    def _may_have_spare(self) -> bool:
        around = self._surroundings
        return (around.processes is None or around.processes >= _SPARE_PROCESSES) and (
            around.memory_bytes is None or around.memory_bytes >= _SPARE_MEMORY_BYTES
        )

    def _refill_later(self) -> None:
        if self._refilling is None and self._spare is None and self._may_have_spare and not self._is_closed:
            self._refilling = asyncio.get_running_loop().call_later(_SPARE_AFTER_SECONDS, self._refill)

    def _refill(self) -> None:
        self._refilling = None
        if self._spare is None and not self._is_closed:
            self._spare = asyncio.create_task(self._start())
            self._spare.add_done_callback(self._on_spare)

    def _on_spare(self, spare: asyncio.Task[Interpreter]) -> None:
        if not spare.cancelled() and not spare.exception():  # else whoever starts the next one learns why
            self._count_spares()

    def _count_spares(self) -> None:
        """Let the sandbox know how many programs do nothing: they write no files, so nobody need look."""
        spare = self._spare
        is_there = spare is not None and spare.done() and not spare.cancelled() and not spare.exception()
        self._surroundings.sandbox.idle_programs = int(is_there)
