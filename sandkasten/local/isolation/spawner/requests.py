"""Requests to a spawner, and what its reports mean; pure."""

from __future__ import annotations

import errno
import os
import struct

from sandkasten.local.isolation.programs import NoDirectoryError, Program, ProgramError

# The struct of `spawner.c`.
_REQUEST = struct.Struct("=4I")
_MOST_BYTES = 4 << 20
_SHOWN_BYTES = 1024
_DIRECTORY, _EXECUTION = 8, 9  # the stages at which a program fails for reasons of its own
UNKNOWN = -1
_ITS_OWN = {
    errno.ENOENT: "not found",
    errno.EACCES: "not executable, or out of reach",
    errno.ENOEXEC: "neither a program nor a script that begins with #!",
    errno.E2BIG: "its arguments and environment are too long",
    **{
        number: os.strerror(number)
        for number in (
            *(errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EPERM, errno.EINVAL),
            *(errno.ETXTBSY, errno.ELIBBAD, errno.EIO),
        )
    },
}


def head_of(program: Program, body: bytes) -> bytes:
    """Return what comes before the body of a request."""
    return _REQUEST.pack(len(body), len(program.args), len(program.env), program.terminal)


def body_of(program: Program) -> bytes:
    """Return the strings of a program as a request has them.

    Raises:
        ProgramError: they are too long, or cannot be a program.
    """
    variables = [name + b"=" + value for name, value in program.env.items()]
    body = b"\0".join([program.cwd, *program.args, *variables, b""])
    if len(body) > _MOST_BYTES:
        raise ProgramError(errno.E2BIG, f"{_name(program)}: {_ITS_OWN[errno.E2BIG]}")
    if body.count(b"\0") != 1 + len(program.args) + len(program.env) or not program.args:
        raise ProgramError(errno.EINVAL, "A program has at least one argument, and no NUL in any of them.")
    return body


def failure(program: Program, stage: int, error: int) -> OSError:
    """Return the error for a program that failed to start at a stage."""
    if stage == _DIRECTORY:
        return NoDirectoryError(error, f"{_shown(program.cwd)}: {os.strerror(error)}")
    if stage == _EXECUTION and error in _ITS_OWN:
        where = " in PATH" if error == errno.ENOENT and b"/" not in program.args[0] else ""
        return ProgramError(error, f"{_name(program)}: {_ITS_OWN[error]}{where}")
    return OSError(error, os.strerror(error))


def _name(program: Program) -> str:
    return _shown(program.args[0]) if program.args else ""


def _shown(name: bytes) -> str:
    """Return a name for a sentence that is sent, whatever its bytes are; of a long one, the beginning."""
    return name[:_SHOWN_BYTES].decode("utf-8", "replace")


def spawner_ended() -> OSError:
    """Return the error for programs whose spawner is gone."""
    return OSError(errno.ENOMEM, "the process that starts others was ended")
