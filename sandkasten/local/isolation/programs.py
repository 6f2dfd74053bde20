"""Programs that a sandbox runs beside its shell: the request, the running process, and refusals."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Protocol

from sandkasten.local.records import dataclass


@dataclass(frozen=True)
class Program:
    """A program that is to be started; nothing in it holds a NUL.

    Attributes:
        args: its arguments, at least one; the first is a path, or a name that is looked for in `env`'s PATH.
        env: its whole environment.
        cwd: the directory that it starts in: absolute, as the sandbox names it.
        terminal: whether its standard input is a terminal, which becomes its controlling terminal.
    """

    args: tuple[bytes, ...]
    env: Mapping[bytes, bytes]
    cwd: bytes
    terminal: bool = False


class ProgramError(OSError):
    """The program cannot be started, for reasons of its own; `strerror` is a whole sentence."""


class NoDirectoryError(ProgramError):
    """The directory that the program is to start in cannot be entered."""


class CannotSpawnError(Exception):
    """Sandboxes on this machine cannot start processes beside their shell; the text says why."""


class Spawned(Protocol):
    """A process that was started beside the shell. The kernel reports its end, to nobody but the daemon.

    All of it is called in the event loop's thread.

    Attributes:
        pid: its number on the host.
        inside_pid: its number in the sandbox, if that is known.
    """

    @property
    def pid(self) -> int:
        """See above."""
        ...

    @property
    def inside_pid(self) -> int | None:
        """See above."""
        ...

    def on_ended(self, callback: Callable[[int], None]) -> None:
        """Have a function called once it has ended, with its exit code, or with minus the signal's number."""
        ...

    def signal(self, number: int, *, group: bool = True) -> bool:
        """Signal it, and all of its process group; return False if it has ended."""
        ...

    def signal_all(self, number: int) -> asyncio.Future[int]:
        """Signal it and everything that it started; return how many there were.

        It finds what has a session of its own or another parent by now, also after its own end. The signal 0
        only counts. After SIGKILL, all of them have ended unless the machine was too busy for that.
        """
        ...


def refusal(program: Program, error: int) -> ProgramError:
    """Return the error for a program whose start failed with an error number."""
    name = os.fsdecode(program.args[0])
    return ProgramError(error, f"{name}: {os.strerror(error)}")
