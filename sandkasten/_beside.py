"""The verbs of sessions for what runs beside the shell: programs, and Python that remembers."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sandkasten import _checks as check
from sandkasten._events import KEEP_BYTES
from sandkasten._protocol import DEFAULT_CONTEXT, Extension
from sandkasten.models import ProcessInfo, ProcessResult

from .files import FileVerbs

if TYPE_CHECKING:
    from sandkasten._processes.arguments import Args, Env
    from sandkasten._python.values import PythonContextInfo, PythonResult

    from .process import Process
    from .python import PythonContext, PythonStream


class BesideVerbs(FileVerbs):
    """The verbs of a session for processes of their own, and its files."""

    __slots__ = ()

    _id: str

    async def run(
        self,
        args: Args,
        *,
        input: str | bytes | None = None,  # noqa: A002  (its name in `subprocess`)
        cwd: str | PurePosixPath | None = None,
        env: Env | None = None,
        timeout_ms: int = 30_000,
        keep_bytes: int = KEEP_BYTES,
    ) -> ProcessResult:
        r"""Run a program in a process of its own, beside the shell, and wait for its end.

        It knows nothing of the shell's directory, variables and functions, nor changes them, and waits for no
        other command: any number may run at once. A non-zero exit code is a result, not an error;
        `ProcessResult.check()` makes it one.

        Example::

            result = await session.run(["python3", "-c", "print(input()[::-1])"], input="stressed")
            assert (result.stdout, result.stderr, result.exit_code) == ("desserts\n", "", 0)

        Args:
            args: a list of the program and its arguments, which no shell reads; or a str, which bash runs.
            input: its standard input, of any size; without, that is empty.
            cwd: its directory, /workspace if it is left out, and relative to that.
            env: variables beside those of a fresh shell; None takes one away.
            timeout_ms: when to stop it and all that it started, in milliseconds; 0 is the daemon's maximum
                (10 minutes).
            keep_bytes: how much of its standard output and of its standard error is kept (1 MiB, which is the
                most on the local daemon): of more than that, head and tail.

        Raises:
            ExecTimeoutError: it ran for longer than `timeout_ms`, and nothing of it is left; the error holds
                what it printed, as `stdout` and `stderr`.
            CannotStartError: there is no such program, or no such directory.
            SandkastenInputError: an argument that no daemon accepts.
            SandkastenError: any other failure.
        """
        from sandkasten._processes import arguments, calls, imitation  # noqa: PLC0415  (few run programs so)

        program, stdin = arguments.program(args, cwd, env), arguments.given_input(input)
        timeout_ms, keep_bytes = check.timeout_ms(timeout_ms), check.keep_bytes(keep_bytes)
        if await self._connection.has(Extension.PROCESSES):
            return await self._connection.call(calls.run(self._id, program, timeout_ms, stdin, keep_bytes))
        how = imitation.plan(program, timeout_ms, stdin, keep_bytes)
        call = imitation.run(self._id, how)
        if how.stdin_path:
            await self.write(how.stdin_path, stdin)
        return await self._connection.call(call)

    async def start(
        self,
        args: Args,
        *,
        stdin: bool = False,
        terminal: tuple[int, int] | None = None,
        cwd: str | PurePosixPath | None = None,
        env: Env | None = None,
        timeout_ms: int | None = None,
    ) -> Process:
        """Start a program in a process of its own, beside the shell, and return a handle of it.

        It runs for as long as it likes, at most to the session's end. Needs the extension `processes`.

        Args:
            args: a list of the program and its arguments, which no shell reads; or a str, which bash runs.
            stdin: let it read what `Process.write` gives it; without, its standard input is empty.
            terminal: the columns and rows of a terminal that it runs in: for programs that fill the screen,
                colours, prompts and Ctrl-C. Its output is then all `stdout`, and its input what is typed.
            cwd: its directory, /workspace if it is left out, and relative to that.
            env: variables beside those of a fresh shell; None takes one away.
            timeout_ms: when to stop it and all that it started, in milliseconds; None is never.

        Returns:
            An iterator over its output that is a context manager too, at whose end the process ends. Without
            a `with`, the process goes on; `Session.process` finds it again.

        Raises:
            CannotStartError: there is no such program, or no such directory.
            CapacityExceededError: as many processes run as may.
            ExtensionMissingError: a daemon that cannot do it.
            SandkastenInputError: an argument that no daemon accepts.
            SandkastenError: any other failure.
        """
        from sandkasten._processes import arguments, calls  # noqa: PLC0415

        call = calls.start(
            self._id,
            arguments.program(args, cwd, env),
            stdin=arguments.flag(stdin, "stdin", "Pass the input to Process.write()."),
            terminal=arguments.terminal(terminal),
            timeout_ms=arguments.run_timeout_ms(timeout_ms),
        )
        await self._connection.require(Extension.PROCESSES)
        info = await self._connection.call(call)
        return self.process(info.id)

    async def processes(self) -> list[ProcessInfo]:
        """List the processes that `start` began: those that run, and the last 64 that ended.

        Raises:
            ExtensionMissingError: a daemon that cannot do it.
            SandkastenError: any other failure.
        """
        from sandkasten._processes import calls  # noqa: PLC0415

        await self._connection.require(Extension.PROCESSES)
        return await self._connection.call(calls.listed(self._id))

    def process(self, process_id: str, position: int = 0) -> Process:
        """Reach a process that was started before, by this client or another; nothing is sent yet.

        Args:
            process_id: its `Process.id`.
            position: where in its output to begin: the `Process.position` of who read before, or 0 for all
                that the daemon still has.

        Raises:
            SandkastenInputError: an id or a position that cannot be one.
        """
        from .process import Process  # noqa: PLC0415

        return Process(self._connection, self._id, process_id, position)

    async def python(
        self,
        code: str,
        *,
        context: str | None = None,
        timeout_ms: int = 30_000,
        keep_bytes: int = KEEP_BYTES,
    ) -> PythonResult:
        r"""Run Python code in an interpreter that remembers, and wait for its end.

        Variables, imports and functions stay from one call to the next. An exception is a result, not an
        error; `PythonResult.check()` makes it one. The last expression's value comes back as the notebook
        would show it, as do displays, tables and figures. Needs a Python in the image, and the extension
        `python`.

        Example::

            await session.python("x = 42")
            result = await session.python("print(x); x + 1")
            assert (result.stdout, result.value) == ("42\n", "43")

        Args:
            code: any Python, at most 1 MiB.
            context: the name of the interpreter that runs it, which is started if there is none; None is that
                of all calls without a name. Code of one context waits in line, that of others runs at the
                same time.
            timeout_ms: when to interrupt it, in milliseconds; 0 is the daemon's maximum (10 minutes). The
                variables stay, unless it does not heed the interrupt: then its interpreter ends a second
                later.
            keep_bytes: how much of its standard output and of its standard error is kept (1 MiB, which is the
                most on the local daemon): of more than that, head and tail.

        Raises:
            ExecTimeoutError: it ran for longer than `timeout_ms`; the error holds what it printed, as
                `stdout` and `stderr`.
            CannotStartError: the image has no Python.
            CapacityExceededError: the session has as many contexts as it may (16).
            ExtensionMissingError: a daemon that cannot do it.
            SandkastenInputError: an argument that no daemon accepts.
            SandkastenError: any other failure.
        """
        return await self.python_context(context).run(code, timeout_ms=timeout_ms, keep_bytes=keep_bytes)

    def python_stream(
        self,
        code: str,
        *,
        context: str | None = None,
        timeout_ms: int = 30_000,
        keep_bytes: int = KEEP_BYTES,
    ) -> PythonStream:
        """Run Python code in an interpreter that remembers, and get what it prints and shows while it runs.

        Example::

            async with session.python_stream("for i in range(3): print(i)") as stream:
                async for chunk in stream:
                    print(chunk.text, end="")
            print("ended:", stream.result.end)

        Args:
            code: as in `python`, and so the others.
            context: the name of the interpreter that runs it.
            timeout_ms: when to interrupt it, in milliseconds.
            keep_bytes: how much of each output the stream keeps for its `result`.

        Returns:
            An iterator of `PythonChunk` that is a context manager too. The code is interrupted where its
            block ends, or its `close()` is called. The same errors as in `python` are raised while iterating.

        Raises:
            SandkastenInputError: an argument that no daemon accepts.
        """
        return self.python_context(context).stream(code, timeout_ms=timeout_ms, keep_bytes=keep_bytes)

    def python_context(self, name: str | None = None) -> PythonContext:
        """Return a handle of an interpreter that remembers; nothing is sent yet.

        Args:
            name: any name; None is the interpreter of all calls that name none.

        Raises:
            SandkastenInputError: a name that cannot be one.
        """
        from .python import PythonContext  # noqa: PLC0415

        return PythonContext(self._connection, self._id, DEFAULT_CONTEXT if name is None else name)

    async def python_contexts(self) -> list[PythonContextInfo]:
        """List the interpreters that remember.

        Raises:
            ExtensionMissingError: a daemon that cannot do it.
            SandkastenError: any other failure.
        """
        from sandkasten._python import calls  # noqa: PLC0415

        await self._connection.require(Extension.PYTHON)
        return await self._connection.call(calls.contexts(self._id))
