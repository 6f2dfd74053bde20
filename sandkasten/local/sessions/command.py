"""A job of the shell: a command, run after those before it in the same bash."""

from __future__ import annotations

import shlex
from collections.abc import Container, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, ClassVar

from sandkasten._options.text import lent
from sandkasten.local.errors import ApiError, SandboxLostError
from sandkasten.local.linux.processes import Process
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.control import REFUSED
from sandkasten.local.sessions.job import Channel, Job, Outcome, Runner


@dataclass(frozen=True)
class ShellOutcome(Outcome):
    """The end of a command.

    Attributes:
        cwd: the shell's directory afterwards.
        shell_restarted: whether another shell goes on, with the old one's directory and environment.
    """

    cwd: str
    shell_restarted: bool

    @property
    def details(self) -> dict[str, Any]:
        """The fields that the wire has besides the exit code."""
        return super().details | {"cwd": self.cwd, "shell_restarted": self.shell_restarted}


@dataclass(frozen=True)
class Loan:
    """The variables and the directory that a command has for itself; afterwards the shell is as before."""

    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None

    def before(self, traps: str) -> str:
        """Return the line of shell code that comes before the command."""
        place = "" if self.cwd is None else self.cwd if self.cwd.startswith("/") else f"./{self.cwd}"
        visit = rf"\__sk_visit {shlex.quote(place)}" if place else ""
        return "; ".join(filter(None, (traps, visit)))


class ShellCommand(Job[ShellOutcome]):
    """A command in line, or the one that runs. The shell keeps here what it knows of it."""

    channels: ClassVar[Sequence[Channel]] = (Channel.TERMINAL,)

    def __init__(self, cmd: str, timeout_ms: int, runner: Runner, loan: Loan | None = None) -> None:
        """Made by `Shell.submit`."""
        super().__init__(timeout_ms, runner)
        self.cmd = lent(cmd, loan.env) if loan is not None and loan.env else cmd
        self.loan = loan or Loan()
        self.stopping = False
        self.ended_status: int | None = None
        self.shell_status: int | None = None
        self.earlier: Container[Process] = frozenset()
        self.questions: list[str] = []  # sent after it, each with an interrupt

    @property
    def is_refused(self) -> bool:
        """True if it did not run, since it cannot be in its directory."""
        return self.outcome is not None and self.outcome.exit_code == REFUSED

    @property
    def ended_shell(self) -> bool:
        """True if the shell itself ended under the command, with `shell_status`."""
        return self.shell_status is not None

    @property
    def holds_back(self) -> bool:
        """True if output waits for `drop_echo_of_interrupt`, for a second at most."""
        return self.stopping

    def drop_echo_of_interrupt(self) -> None:
        """Drop the line end by which the shell answers an interrupt, and which the command did not print.

        Only where that makes an empty line: a last line of the command's without an end gets one so.
        """
        if not self._output:
            return
        _channel, last = self._output[-1]
        if last == b"\n" or last.endswith(b"\n\n"):
            del last[-1:]
            self._output_bytes -= 1
            if not last:
                self._output.pop()

    def finish(self, outcome: ShellOutcome | None, error: SandboxLostError | ApiError | None = None) -> None:
        """Set the outcome, or what prevents one, and forget the text, which may be large."""
        if outcome is not None and outcome.exit_code == REFUSED and self.loan.cwd is None:
            outcome = replace(outcome, exit_code=1)  # whoever says so made it up
        super().finish(outcome, error)
        self.cmd = ""


def beginning(cwd: str, environment: Mapping[str, str]) -> str:
    """Return the command by which a session's shell gets a directory, which it makes, and variables.

    They are exported in the shell, and nothing before it has them: neither bubblewrap nor process 1. A shell
    that takes over gets them from the one before.
    """
    place = shlex.quote(cwd)
    enter = f"{{ [[ -d {place} ]] || command mkdir -p -- {place}; }} && builtin cd -- {place}"
    exports = (f"builtin export {name}={shlex.quote(value)}" for name, value in environment.items())
    # `cd` came from nowhere, as when a shell has just started.
    return " && ".join([enter, "builtin unset -v OLDPWD", "builtin declare -x OLDPWD", *exports])


def does_nothing(cmd: str) -> bool:
    """Return whether a command is only comments: bash would leave the status of another command."""
    return all(not line or line.startswith("#") for line in map(str.strip, cmd.splitlines()))
