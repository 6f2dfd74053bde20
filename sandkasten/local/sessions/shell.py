"""One session's shell: a queue of commands, run one after another in one bash.

Everything happens in callbacks of the event loop, and no task is involved: a client that goes away
cancels its own waiting, never the shell's bookkeeping. A command moves through

    queued  ->  running  ->  finished
                   |            ^
                   +- stopping -+     past its deadline, interrupted, or nobody waits for it

Stopping climbs a ladder: SIGINT to the shell, and SIGINT, SIGTERM and SIGKILL to all that the command
started, in whatever group or session it is; at last SIGKILL to the shell itself, which the supervisor in the
sandbox replaces. Processes from before the command, and their children, are left. The result waits until the
command's own processes are gone.

An interrupt may tear what the shell is reading. A torn command never runs, which is known when the shell
answers a question behind it and has not reported a result. And after each stopping a question is asked, again
and again, until it is answered: then the next command cannot be torn.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from sandkasten._cut import CappedBytes
from sandkasten.local.clock import Alarm
from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import CalledOffError, SandboxLostError
from sandkasten.local.isolation.backend import Sandbox
from sandkasten.local.linux.processes import Process, identified
from sandkasten.local.sessions import control
from sandkasten.local.sessions.command import Loan, ShellCommand, ShellOutcome, does_nothing
from sandkasten.local.sessions.job import Channel
from sandkasten.local.sessions.terminal import TerminalReader, Turns

_READ_BYTES = 64 * 1024
# What background jobs print between commands and the next command gets.
_BETWEEN_MAX_BYTES = 64 * 1024

_RUNG_SECONDS = 0.2
_PROBE_SECONDS = 0.1
_PROBES_MAX = 50
_START_SECONDS = 30.0

_INTERRUPTED = 128 + signal.SIGINT


class Shell:
    """The shell of one sandbox."""

    def __init__(self, sandbox: Sandbox, on_lost: Callable[[], None], turns: Turns | None = None) -> None:
        """Listen to a sandbox that was started; `on_lost` is called once if it ends by itself."""
        self.cwd = "/workspace"
        self._sandbox = sandbox
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._messages = control.ControlChannel()
        self._queue: deque[ShellCommand] = deque()
        self._current: ShellCommand | None = None
        self._outgoing = bytearray()
        self._waits_to_send = False
        self._between = CappedBytes(_BETWEEN_MAX_BYTES)
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._is_ready = False
        self._shell: Process | None = None
        self._shell_name = control.shell_name("")
        self._traps = ""
        self._probe_id: str | None = None
        self._alarm = Alarm(self._loop)
        self._closed = False
        self._loop.add_reader(sandbox.control.fileno(), self._read_control)
        self._terminal = TerminalReader(sandbox.terminal, self._take_output, turns)

    # --- what others call

    async def wait_until_ready(self) -> None:
        """Wait for the first shell.

        Raises:
            SandboxLostError: it did not come up; the text is what was printed instead.
        """
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._started
        except TimeoutError:
            raise SandboxLostError("the shell did not start in time") from None

    def submit(self, cmd: str, timeout_ms: int, loan: Loan | None = None) -> ShellCommand:
        """Put a command in line; its time begins when its turn comes.

        Raises:
            SandboxLostError: the sandbox is gone.
        """
        if self._closed:
            raise SandboxLostError("the sandbox ended")
        self._terminal.note_use()
        command = ShellCommand(":" if does_nothing(cmd) else cmd, timeout_ms, self, loan)
        self._queue.append(command)
        self._start_next()
        return command

    def interrupt(self) -> bool:
        """Stop the command that runs; whether one did."""
        is_running = self._current is not None
        self._stop_current(JobEnd.INTERRUPTED)
        return is_running

    @property
    def members(self) -> list[int]:
        """All processes of the sandbox."""
        return self._sandbox.members

    async def stop_all(self, with_shell: bool) -> None:
        """Stop the command that runs, and kill all that runs in the background: the disk's share is used up.

        Args:
            with_shell: that was not enough, so something writes in the shell itself.
        """
        killed = None
        if self._is_ready:
            killed = self._sandbox.signal_others(self._shell, frozenset[Process](), signal.SIGKILL)
        if self._current is not None:
            self._current.stopped_for = JobEnd.OVER_QUOTA
        self._stop_current(JobEnd.OVER_QUOTA)
        if with_shell and self._is_ready:
            self._kill_shell()
        if killed is not None:
            await killed

    @property
    def has_programs(self) -> bool:
        """True if anything runs besides the shell itself."""
        return not self._closed and self._sandbox.has_jobs

    def close(self) -> Callable[[], None]:
        """End the sandbox and fail what still waits; returns what reaps it, for any thread."""
        self._closed = True
        self._alarm.close()
        self._loop.remove_reader(self._sandbox.control.fileno())
        self._loop.remove_writer(self._sandbox.control.fileno())
        self._terminal.pause()
        lost = SandboxLostError("the session ended while the command ran or waited")
        for command in (self._current, *self._queue):
            if command is not None:
                command.finish(None, lost)
        self._current = None
        self._queue.clear()
        self._fail_start(lost)
        return self._sandbox.kill()

    def output_taken(self) -> None:
        """Called by a command whose consumer caught up."""
        if not self._closed:
            self._terminal.resume()

    def on_abandoned(self, job: ShellCommand) -> None:
        """Called by a command that nobody waits for."""
        if job is not self._current:
            self._queue.remove(job)
            job.finish(None, CalledOffError("nobody waited for the command"))
            return
        self.output_taken()
        self._stop_current(JobEnd.INTERRUPTED)

    # --- commands

    def _start_next(self) -> None:
        if self._current is not None or not self._is_ready or not self._queue or self._closed:
            return
        if self._probe_id is not None:
            return  # _on_result comes back here once the probe did
        command = self._current = self._queue.popleft()
        command.started_at = time.monotonic()
        command.earlier = self._sandbox.others(self._shell)
        if between := self._taken_between():
            command.add_output(between, Channel.TERMINAL)
        self._send(control.frame(self._shell_name, command.id, command.loan.before(self._traps), command.cmd))
        self._set_timer(command.timeout_ms / 1000, self._on_deadline)

    def _send(self, data: bytes) -> None:
        self._outgoing += data
        self._send_token()
        self._flush()

    def _send_token(self) -> None:
        with suppress(OSError):
            self._sandbox.tokens.send(control.TOKEN)

    def _flush(self) -> None:
        channel = self._sandbox.control
        try:
            sent = channel.send(self._outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(self._outgoing)  # the other end is gone, which reading the channel tells
        del self._outgoing[:sent]
        if self._outgoing:
            self._loop.add_writer(channel.fileno(), self._flush)
        elif self._waits_to_send:
            self._loop.remove_writer(channel.fileno())
        self._waits_to_send = bool(self._outgoing)

    def _finish_current(self) -> None:
        command, self._current = self._current, None
        assert command is not None
        assert command.ended_status is not None
        exit_code, shell_restarted = command.ended_status, command.ended_shell
        self._set_timer(None)
        duration_ms = round((time.monotonic() - command.started_at) * 1000)
        if command.stopping and exit_code == _INTERRUPTED:
            command.drop_echo_of_interrupt()
        end = command.stopped_for or (JobEnd.FAILED if exit_code else JobEnd.OK)
        command.finish(ShellOutcome(exit_code, duration_ms, end, self.cwd, shell_restarted))
        if command.stopping and not shell_restarted:
            self._sandbox.end_input()
            self._probe(_PROBES_MAX)
        self._start_next()

    # --- stopping

    def _on_deadline(self) -> None:
        self._stop_current(JobEnd.TIMEOUT)

    def _stop_current(self, reason: JobEnd) -> None:
        if self._current is None or self._current.stopping or not self._is_ready:
            return
        self._current.stopping = True
        self._current.stopped_for = self._current.stopped_for or reason
        self._interrupt_shell(self._current)
        self._stop_what_it_started(self._current, signal.SIGINT)
        self._set_timer(_RUNG_SECONDS, self._stop_harder, signal.SIGTERM)

    def _interrupt_shell(self, command: ShellCommand) -> None:
        self._sandbox.signal_shell(self._shell, signal.SIGINT)
        command.questions.append(secrets.token_hex(8))
        self._send(control.question(self._shell_name, command.questions[-1]))

    def _stop_harder(self, signal_number: signal.Signals) -> None:
        assert self._current is not None
        if self._current.ended_status is None:
            # The first interrupt is lost on a program that is just being started; and after any other signal
            # than this one bash would go on with the rest of the line.
            self._interrupt_shell(self._current)
        if signal_number is signal.SIGTERM:  # which bash ignores, but not what it became by `exec`
            self._sandbox.signal_shell(self._shell, signal.SIGTERM)
            self._set_timer(_RUNG_SECONDS, self._stop_harder, signal.SIGKILL)
        else:
            self._set_timer(_RUNG_SECONDS, self._kill_shell)
        self._stop_what_it_started(self._current, signal_number)

    def _kill_shell(self) -> None:
        self._sandbox.signal_shell(self._shell, signal.SIGKILL)
        self._set_timer(_START_SECONDS, self._lose, "the shell could not be stopped")

    def _stop_what_it_started(self, command: ShellCommand, signal_number: int) -> None:
        """Signal all that the command started; once it has ended and they are gone, finish it."""
        if self._is_ready:
            found = self._sandbox.signal_others(self._shell, command.earlier, signal_number)
            found.add_done_callback(partial(self._on_signalled, command, signal_number))

    def _on_signalled(self, command: ShellCommand, signal_number: int, found: asyncio.Future[int]) -> None:
        is_over = command is self._current and command.ended_status is not None
        if is_over and not self._closed and (not found.result() or signal_number == signal.SIGKILL):
            self._finish_current()

    def _probe(self, probes_left: int) -> None:
        if not probes_left:
            self._lose("the shell does not answer")
            return
        if self._probe_id is None:
            self._probe_id = secrets.token_hex(8)
        self._send(control.question(self._shell_name, self._probe_id))
        self._set_timer(_PROBE_SECONDS, self._probe, probes_left - 1)

    def _set_timer(
        self, seconds: float | None, callback: Callable[..., None] | None = None, *args: object
    ) -> None:
        """There is one timer, since a shell waits for one thing at a time."""
        if seconds is not None and callback is not None:
            self._alarm.set(seconds, partial(callback, *args))
        else:
            self._alarm.clear()

    # --- what the shell says

    def _read_control(self) -> None:
        try:
            data, sender_pid = self._sandbox.read_control(_READ_BYTES)
            messages = self._messages.feed(data, sender_pid, self._sandbox.init_pid)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            data, messages = b"", []
        if not data:
            self._lose("the sandbox ended")
        for message in messages:
            if not self._closed:
                self._on_message(message)

    def _on_message(self, message: control.Result | control.Ended | control.Ready) -> None:
        match message:
            case control.Result():
                self._on_result(message)
            case control.Ended():
                self._on_shell_ended(message)
            case control.Ready(cwd=cwd):
                self._on_shell_ready(cwd)

    def _on_result(self, result: control.Result) -> None:
        current = self._current
        if current is not None and result.command_id == current.id:
            self._traps = control.rearm(result.traps) if result.traps else ""
            self._terminal.drain()
            self.cwd = result.cwd
            self._end_current(result.status)
        elif current is not None and current.ended_status is None and result.command_id in current.questions:
            self._end_current(_INTERRUPTED)
        elif self._probe_id is not None and result.command_id == self._probe_id:
            self._probe_id = None
            self._set_timer(None)
            self._terminal.drain()
            if self._between.content() == b"\n":  # bash's answer to an interrupt that came late
                self._taken_between()
            self._start_next()

    def _end_current(self, status: int) -> None:
        """The command has ended; if it was stopped, what it started must have, too."""
        assert self._current is not None
        self._current.ended_status = status
        if not self._current.stopping:
            self._finish_current()
        elif self._current.ended_shell:
            self._stop_what_it_started(self._current, signal.SIGKILL)
        else:
            self._stop_what_it_started(self._current, 0)

    def _on_shell_ended(self, ended: control.Ended) -> None:
        self._is_ready = False
        self._shell_name, self._traps = control.shell_name(ended.next_shell_id), ""
        self._outgoing[:] = control.RESUMPTION  # a frame may have been sent in part, or read in part
        self._sandbox.admit_shell()
        self._probe_id = None
        self._set_timer(_START_SECONDS, self._lose, "no other shell came up")
        if self._current is not None and self._current.shell_status is None:
            self._current.shell_status = ended.status

    def _on_shell_ready(self, cwd: str) -> None:
        self._terminal.drain()
        self.cwd = cwd
        self._is_ready = True
        shell_pid = self._messages.shell_pid
        self._shell = next(iter(identified([] if shell_pid is None else [shell_pid])), None)
        self._sandbox.spare_init()
        self._send_token()
        self._set_timer(None)
        if not self._started.done():
            self._started.set_result(None)
        if self._current is not None:  # a shell that waits runs nothing, whatever became of the last one
            status = self._current.ended_status
            if status is None:
                status = self._current.shell_status
            assert status is not None  # only a shell that ended is followed by another
            self._end_current(status)
        self._start_next()

    # --- what programs print

    def _take_output(self, data: bytes) -> bool:
        if self._current is None:
            self._between.add(data)
            return False
        self._current.add_output(data, Channel.TERMINAL)
        return self._current.is_slow_to_read

    def _taken_between(self) -> bytes:
        between, self._between = self._between.content(), CappedBytes(_BETWEEN_MAX_BYTES)
        return between

    # --- the end

    def _lose(self, reason: str) -> None:
        if self._closed:
            return
        if not self._started.done():
            self._terminal.drain()
            said = self._between.content().decode(errors="replace").strip()
            self._fail_start(SandboxLostError(said or reason))
        self._on_lost()

    def _fail_start(self, error: SandboxLostError) -> None:
        if not self._started.done():
            self._started.set_exception(error)
            self._started.exception()  # marks it as seen, in case nobody waits
