"""Checks of what a process is started with; all of them raise `SandkastenInputError`, and nothing is sent."""

from __future__ import annotations

import os
import re
import signal as signals
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from attrs import frozen

from sandkasten import _checks as check
from sandkasten._protocol import MAX_PROGRAM_BYTES
from sandkasten.errors import SandkastenInputError

Args = str | Sequence[str | os.PathLike[str]]
"""A program and its arguments, started without a shell; or a text that bash runs."""

Env = Mapping[str, str | None]
"""Variables for one process; None takes one away."""

MAX_TERMINAL_CELLS = 10_000
# A process may run for as long as its session; this is only what a number may be: more than 3 years.
MAX_PROCESS_MS = 100_000_000_000

_PROCESS_ID = re.compile(r"[0-9a-f]{32}")
_VARIABLE = re.compile(r"[^=\0]+")
_MAX_SIGNAL = 64
_REALTIME = re.compile(r"RTM(IN(\+\d{1,2})?|AX(-\d{1,2})?)")

# Linux's names of the signals from 1 on, whatever system this is.
SIGNALS = tuple(
    re.findall(
        r"\w+",
        "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP "
        "TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS",
    )
)
_OTHER_NAMES = {"IOT": "ABRT", "CLD": "CHLD", "POLL": "IO"}


@frozen(eq=False, repr=False)
class Program:
    """A program to run.

    Attributes:
        args: the program and its arguments; empty if it is a text for bash.
        cmd: a text for bash; empty if it is a program.
        cwd: the directory, or None for the session's.
        env: what differs from the session's variables.
    """

    args: tuple[str, ...]
    cmd: str
    cwd: str | None
    env: Mapping[str, str | None]

    @property
    def fields(self) -> dict[str, Any]:
        """As the wire has it."""
        body: dict[str, Any] = {"args": list(self.args)} if self.args else {"cmd": self.cmd}
        if self.cwd is not None:
            body["cwd"] = self.cwd
        if self.env:
            body["env"] = dict(self.env)
        return body


def program(args: Args, cwd: str | PurePosixPath | None, env: Env | None) -> Program:
    """Return what is to run, in which directory, and with which variables."""
    words: tuple[str, ...] = ()
    cmd = ""
    if isinstance(args, str):
        cmd = check.command(args)
    else:
        words = _words(args)
    variables = _variables(env or {})
    pairs = (f"{name}={value}" for name, value in variables.items())
    size_bytes = sum(len(text.encode()) + 1 for text in (*words, cmd, *pairs))
    if size_bytes > MAX_PROGRAM_BYTES:
        raise SandkastenInputError(
            f"args and env are {size_bytes} bytes long, more than {MAX_PROGRAM_BYTES}.",
            "Pass what is large as input=, or write() it to a file.",
        )
    return Program(words, cmd, None if cwd is None else check.sandbox_path(cwd, name="cwd"), variables)


def _words(args: object) -> tuple[str, ...]:
    if not isinstance(args, list | tuple) or not args:
        raise SandkastenInputError(
            f"args is {check.shown(args)}: it must be a list of words, or a str for bash."  # pyright: ignore[reportUnknownArgumentType]
        )
    words = tuple(_word(each, index) for index, each in enumerate(args))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if not words[0]:
        raise SandkastenInputError("args[0] is empty: it must be a program.")
    return words


def _word(value: object, index: int) -> str:
    word: object = os.fspath(value) if isinstance(value, os.PathLike) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(word, str):
        raise SandkastenInputError(f"args[{index}] is {check.shown(value)}: it must be a str or a path.")  # pyright: ignore[reportUnknownArgumentType]
    return check.unicode_text(word, f"args[{index}]")


def _variables(env: object) -> dict[str, str | None]:
    if not isinstance(env, Mapping):
        raise SandkastenInputError(f"env is {check.shown(env)}: it must be a dict of names and values.")
    found: dict[str, str | None] = {}
    pairs: list[tuple[Any, Any]] = list(env.items())  # pyright: ignore[reportUnknownArgumentType]
    for name, value in pairs:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise SandkastenInputError(f"env has a name {check.shown(name)}: it must be a str without '='.")
        if value is not None and not isinstance(value, str):
            raise SandkastenInputError(f"env[{name!r}] is {check.shown(value)}: it must be a str, or None.")
        found[check.unicode_text(name, "env")] = (
            None if value is None else check.unicode_text(value, f"env[{name!r}]")
        )
    return found


def flag(value: bool, name: str, hint: str = "") -> bool:
    """Return a choice of yes or no."""
    if not isinstance(value, bool):
        raise SandkastenInputError(f"{name} is {check.shown(value)}: it must be True or False.", hint)
    return value


def given_input(value: str | bytes | None, name: str = "input") -> bytes:
    """Return what a process is to read, as bytes."""
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise SandkastenInputError(f"{name} is of type {type(value).__name__}: it must be str or bytes.")
    return check.unicode_text(value, name, nul=True).encode()


def run_timeout_ms(value: int | None) -> int | None:
    """Return the limit of a process that runs beside others, in milliseconds, or None for none."""
    return (
        None if value is None else check.whole_number(value, "timeout_ms", "milliseconds", 1, MAX_PROCESS_MS)
    )


def wait_timeout_ms(value: int | None) -> int | None:
    """Return how long to wait, in milliseconds; 0 only looks, None waits for the end."""
    return (
        None if value is None else check.whole_number(value, "timeout_ms", "milliseconds", 0, MAX_PROCESS_MS)
    )


def read_bytes(value: int) -> int:
    """Return how much of an output to read at once, in bytes."""
    return check.whole_number(value, "max_bytes", "bytes", 1, 2**31 - 1)


def position(value: int) -> int:
    """Return where in a process's output to begin, in bytes."""
    return check.whole_number(value, "position", "bytes", 0, 2**62)


def process_id(value: str) -> str:
    """Return a process's id."""
    if not isinstance(value, str) or not _PROCESS_ID.fullmatch(value):
        raise SandkastenInputError(
            f"process_id is {check.shown(value)}: it must be the 32 digits of a process.id."
        )
    return value


def terminal(value: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the columns and rows of a terminal, or None for none."""
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise SandkastenInputError(f"terminal is {check.shown(value)}: it must be (columns, rows).")
    return size(*value)


def size(columns: int, rows: int) -> tuple[int, int]:
    """Return the size of a terminal."""
    check.whole_number(columns, "columns", "columns", 1, MAX_TERMINAL_CELLS)
    return columns, check.whole_number(rows, "rows", "rows", 1, MAX_TERMINAL_CELLS)


def signal(value: str | int) -> str | int:
    """Return a signal: a number, or a name without its SIG."""
    if isinstance(value, signals.Signals):
        value = value.name
    if isinstance(value, str):
        name = value.upper().removeprefix("SIG")
        name = _OTHER_NAMES.get(name, name)
        if name in SIGNALS or _REALTIME.fullmatch(name):
            return name
    elif isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_SIGNAL:
        return value
    raise SandkastenInputError(
        f"signal is {check.shown(value)}: it must be a name such as 'TERM' or 'SIGINT', or a number up to 64."
    )
