"""From what a client asks for to the program that a sandbox is to start; pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from sandkasten._protocol import MAX_PROGRAM_BYTES, WORKSPACE
from sandkasten.local.errors import invalid_request
from sandkasten.local.isolation.programs import Program
from sandkasten.local.records import dataclass

# Where somebody sits at a terminal, who can answer and leave a pager.
_FOR_NOBODY = frozenset(
    {
        b"PAGER",
        b"GIT_PAGER",
        b"MANPAGER",
        b"SYSTEMD_PAGER",
        b"GIT_TERMINAL_PROMPT",
        b"DEBIAN_FRONTEND",
        b"QUOTING_STYLE",
    }
)
_TERMINAL = b"xterm-256color"


@dataclass(frozen=True)
class Size:
    """The size of a terminal, in characters."""

    columns: int
    rows: int


@dataclass(frozen=True)
class ProcessSpec:
    """The process that a client asks for.

    Attributes:
        args: its arguments, at least one.
        cwd: its directory, seen from the session's.
        env: what its environment has besides that of the session; None takes a variable away.
        timeout_ms: when it is stopped; None: never.
        terminal: the size of its terminal; None: it has pipes.
    """

    args: tuple[str, ...]
    cwd: str = ""
    env: tuple[tuple[str, str | None], ...] = ()
    timeout_ms: int | None = None
    terminal: Size | None = None


class Variables:
    """The variables of a session, as programs have them: encoded again only after they have changed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Follow an environment, which may change."""
        self._environment = environment
        self._seen: Mapping[str, str] | None = None
        self._encoded: Mapping[bytes, bytes] = {}

    def encoded(self) -> Mapping[bytes, bytes]:
        """Return the variables as they are now."""
        if self._seen != self._environment:
            self._seen = dict(self._environment)
            self._encoded = encoded(self._seen)
        return self._encoded


def encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return variables as programs have them.

    Raises:
        ApiError: INVALID_REQUEST, they cannot have one of them.
    """
    return {_encoded("env", name): _encoded("env", value) for name, value in environment.items()}


def program_of(spec: ProcessSpec, environment: Mapping[bytes, bytes], directory: str = WORKSPACE) -> Program:
    """Return the program of a spec; `environment` and `directory` are those of the session's first shell.

    Raises:
        ApiError: INVALID_REQUEST, it cannot be a program.
    """
    env = dict(environment)
    if spec.terminal is not None:
        env = {name: value for name, value in env.items() if name not in _FOR_NOBODY}
        env[b"TERM"] = _TERMINAL
    for name, value in spec.env:
        if not name or "=" in name:
            raise invalid_request(
                f"{name[:80]!r} cannot be the name of a variable. It is empty or has a '='."
            )
        if value is None:
            env.pop(_encoded("env", name), None)
        else:
            env[_encoded("env", name)] = _encoded("env", value)
    args = tuple(_encoded("args", arg) for arg in spec.args)
    if not args or not args[0]:
        raise invalid_request("'args' names no program. Give its name or path as the first of them.")
    size_bytes = sum(map(len, args)) + sum(map(len, env)) + sum(map(len, env.values()))
    if size_bytes > MAX_PROGRAM_BYTES:
        raise invalid_request(
            f"'args' and 'env' have more than {MAX_PROGRAM_BYTES} bytes. Use 'input' for more."
        )
    cwd = posixpath.join(directory, spec.cwd) if spec.cwd else directory
    return Program(args, env, _encoded("cwd", cwd), terminal=spec.terminal is not None)


def _encoded(field: str, text: str) -> bytes:
    """Return the bytes that a text stands for, as `os.fsencode` does where names are UTF-8."""
    if "\0" in text:
        raise invalid_request(f"'{field}' contains a NUL, which no argument of a program can.")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise invalid_request(f"'{field}' is not valid Unicode.") from None
