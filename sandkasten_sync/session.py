# Made from sandkasten/session.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""A session: one sandbox with a shell that remembers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from types import TracebackType
from typing import TypeVar

from sandkasten import _checks as check
from sandkasten import _wire
from sandkasten._events import KEEP_BYTES
from sandkasten._options.calls import Extra, extra, renew_session, with_extra
from sandkasten._protocol import Extension
from sandkasten._transfer.calls import FilesOf
from sandkasten._wire import Call
from sandkasten.errors import (
    SandkastenInputError,
    SessionExpiredError,
    SessionNotFoundError,
)
from sandkasten.models import ExecResult, SessionInfo, SessionStats

from ._beside import BesideVerbs
from ._http import Connection, ending
from ._packageverbs import PackageVerbs
from .stream import ExecStream

T = TypeVar("T")

# How long a caller who was interrupted waits for the session's end.
_LAST_SECONDS = 10.0


class Session(PackageVerbs, BesideVerbs):
    """A sandbox with one bash for its whole life; as a context manager it destroys the sandbox on exit.

    Directory, variables, functions and background jobs stay from one command to the next. Commands of
    one session run one after another; each use renews the session's lifetime.
    """

    __slots__ = ("_first_info", "_id")

    def __init__(
        self, connection: Connection, session_id: str, first_info: SessionInfo | None = None
    ) -> None:
        """Bind to an existing session; nothing is sent. Use the client to get one.

        Raises:
            SandkastenInputError: the id cannot be one.
        """
        super().__init__(connection, FilesOf(_wire.session_path(session_id), session_id))
        self._id = session_id
        self._first_info = first_info

    def __repr__(self) -> str:
        return f"<Session {self._id}>"

    @property
    def id(self) -> str:
        """The session's id."""
        return self._id

    @property
    def first_info(self) -> SessionInfo | None:
        """The facts about the session from when the client got it, or None if the daemon was not asked.

        Its image, network and programs cannot change; `info` asks anew.
        """
        return self._first_info

    def exec(
        self,
        cmd: str,
        *,
        timeout_ms: int = 30_000,
        raw_output: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | PurePosixPath | None = None,
        input: str | bytes | None = None,  # noqa: A002  (its name in `subprocess`)
    ) -> ExecResult:
        r"""Run a command in the session's shell and wait for its end.

        A non-zero exit code is a result, not an error; `ExecResult.check()` makes it one. The output is
        plain text unless `raw_output` asks for the terminal's bytes, colours and all; beyond a limit (1 MiB
        on the local daemon) its middle is left out, a line in it says so, and `truncated` is true. While
        another command of this session runs, this one waits in line; its own time begins after that.

        Example::

            result = session.exec("cd /tmp && export NAME=World && pwd")
            assert result.output == "/tmp\n"
            result = session.exec("echo Hello, $NAME")
            assert (result.output, result.cwd) == ("Hello, World\n", "/tmp")

        Args:
            cmd: any bash, at most 32 MiB.
            timeout_ms: when to stop it, in milliseconds; 0 is the daemon's maximum (10 minutes).
            raw_output: keep ANSI sequences, and CR LF as line ends.
            env: variables for this command. Afterwards these names are in the shell what they were; what the
                command does to other names stays. One that is read-only in the shell cannot be lent.
            cwd: the directory for this command, relative to the shell's. Afterwards the shell is where it
                was, wherever the command went. Needs the extension `exec-options`.
            input: what the command reads as its standard input, text (as UTF-8) or bytes of any size; without
                it, there is nothing to read. It lies in the workspace as a file until the command begins.

        Raises:
            ExtensionMissingError: a daemon that cannot do it.
            InvalidRequestError: there is no such `cwd`; the command did not run.
            ExecTimeoutError: it ran for longer than `timeout_ms`; it was stopped, and the error holds
                what it printed. The session goes on.
            SandkastenInputError: an empty command, or a timeout out of range.
            SandkastenError: any other failure.
        """
        given = extra(cmd, env, cwd, input)
        call = _wire.exec_command(self._id, given.cmd, timeout_ms, raw_output=raw_output)
        return self._connection.call(self._prepared(call, given))

    def _prepared(self, call: Call[T], given: Extra) -> Call[T]:
        """Return a command's call as this daemon takes its options; its file, if it has one, is written."""
        if given.cwd is not None:
            self._connection.require(Extension.EXEC_OPTIONS)
        if given.fields:
            is_known = self._connection.has(Extension.EXEC_OPTIONS)
            call = with_extra(call, given, is_known=is_known)
        if given.content is not None and given.path is not None:
            self.write(given.path, given.content)
        return call

    def exec_stream(
        self,
        cmd: str,
        *,
        timeout_ms: int = 30_000,
        raw_output: bool = False,
        pipe_input: bool = False,
        pipe_output: bool = False,
        keep_bytes: int = KEEP_BYTES,
        env: Mapping[str, str] | None = None,
        cwd: str | PurePosixPath | None = None,
        input: str | bytes | None = None,  # noqa: A002  (its name in `subprocess`)
    ) -> ExecStream:
        """Run a command and get its output while it runs.

        Example::

            with session.exec_stream("for i in 1 2 3; do echo $i; sleep 0.1; done") as stream:
                for chunk in stream:
                    print(chunk.output, end="")
            print("ended with", stream.result.exit_code)

        Args:
            cmd: any bash, at most 32 MiB.
            timeout_ms: when to stop it, in milliseconds; 0 is the daemon's maximum (10 minutes).
            raw_output: keep ANSI sequences, and CR LF as line ends.
            pipe_input: let the command read what `ExecStream.send_input` gives it, while it runs; without,
                its standard input is empty. Needs the extension `pipes`.
            pipe_output: let the command write to a pipe rather than to a terminal, and give its standard
                output byte for byte as `ExecChunk.data`; `ExecChunk.output` is then its standard error.
                Needs the extension `pipes`.
            keep_bytes: how much of the output the stream keeps for its `result`: of more than that, head and
                tail. 0 keeps none.
            env: as in `exec`, and so the others.
            cwd: the directory for this command.
            input: its whole standard input, where `pipe_input` gives it bit by bit.

        Returns:
            An iterator of `ExecChunk` that is a context manager too. The command stops where its block
            ends, or its `close()` is called; without either, when the stream is garbage, which for one
            that has no name is where the loop ends. The same errors as in `exec` are raised while
            iterating.

        Raises:
            SandkastenInputError: an empty command, a timeout out of range, or input of both kinds.
        """
        given = extra(cmd, env, cwd, input)
        if pipe_input and input is not None:
            raise SandkastenInputError("A command has input= or pipe_input=.", "Leave out one of them.")
        call = _wire.exec_stream(
            self._id, given.cmd, timeout_ms,
            raw_output=raw_output, pipe_input=pipe_input, pipe_output=pipe_output,
        )  # fmt: skip
        needs = Extension.PIPES if pipe_input or pipe_output else None
        prepare = partial(self._prepared, call, given) if given.fields or given.path else None
        return ExecStream(self._connection, call, needs, check.keep_bytes(keep_bytes), prepare)

    def interrupt(self) -> bool:
        """Stop the command that runs in this session, as a timeout would; the shell goes on.

        Whoever waits for the command gets its result: the exit code of an interrupted command is
        mostly 130. Needs the extension `interrupt`.

        Returns:
            Whether a command ran.

        Raises:
            ExtensionMissingError: a daemon that cannot do it.
            SandkastenError: any other failure.
        """
        call = _wire.interrupt(self._id)
        self._connection.require(Extension.INTERRUPT)
        return self._connection.call(call)

    def stats(self) -> SessionStats:
        """Ask what the session uses.

        Raises:
            SandkastenError: any failure.
        """
        return self._connection.call(_wire.session_stats(self._id))

    def info(self) -> SessionInfo:
        """Ask what the daemon knows about the session; this does not renew its lifetime.

        Raises:
            SandkastenError: any failure.
        """
        return self._connection.call(_wire.get_session(self._id))

    def renew(self, ttl_seconds: int | None = None) -> SessionInfo:
        """Count the session's lifetime from now on, as each use of it does.

        Needs the extension `session-options`.

        Args:
            ttl_seconds: how long it lives from now on after its last use, up to 86400; None or 0 is as long
                as before.

        Returns:
            What the daemon knows about the session, with the new `expires_at`.

        Raises:
            ExtensionMissingError: a daemon that cannot do it.
            SandkastenInputError: a lifetime out of range.
            SandkastenError: any other failure.
        """
        call = renew_session(self._id, ttl_seconds)
        self._connection.require(Extension.SESSION_OPTIONS)
        return self._connection.call(call)

    def destroy(self) -> None:
        """End the session, with every process and file of it that is not in a workspace.

        Raises:
            SessionNotFoundError: the session was destroyed before (the Go daemon does not say so).
            SandkastenError: any other failure.
        """
        self._connection.call(_wire.destroy_session(self._id))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        gone = suppress(SessionNotFoundError, SessionExpiredError)  # which is what was wanted
        with ending(exc, _LAST_SECONDS), gone:
            self.destroy()
