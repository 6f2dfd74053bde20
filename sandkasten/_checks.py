"""Checks of arguments before anything is sent: each check returns its value or raises.

All of them raise `SandkastenInputError`. The limits are the protocol's, unless a comment says otherwise.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from sandkasten._names import is_name
from sandkasten._protocol import (
    MAX_COMMAND_BYTES,
    MAX_TIMEOUT_MS,
    MAX_TTL_SECONDS,
    NETWORKS,
    SESSION_ID,
    WORKSPACE_ID,
    WORKSPACE_ID_FORM,
)
from sandkasten.errors import SandkastenInputError

MAX_PATH_CHARS = 4096  # Linux has no longer ones, in bytes
# What is read into memory as a whole. Sandboxed code can make a file of any size out of nothing.
MAX_MEMORY_BYTES = 4 * 1024**3


def session_id(value: str) -> str:
    """Return an id that can stand in a URL."""
    if not isinstance(value, str) or not SESSION_ID.fullmatch(value):
        raise SandkastenInputError(f"session_id is {shown(value)}: it must be an id that a daemon gave.")
    return value


def workspace_id(value: str) -> str:
    """2 to 64 of `a-z 0-9 -`, without a dash at either end."""
    if not isinstance(value, str) or not WORKSPACE_ID.fullmatch(value):
        raise SandkastenInputError(f"workspace_id is {shown(value)}: it must be {WORKSPACE_ID_FORM}.")
    return value


def image(value: str) -> str:
    """Return an image's name; only the daemon knows which images exist."""
    if not isinstance(value, str) or not value:
        raise SandkastenInputError(f"image is {shown(value)}: it must be a name such as 'python'.")
    return unicode_text(value, "image")


def network(value: str) -> str:
    """`none` or `host`."""
    if value not in NETWORKS:
        raise SandkastenInputError(f"network is {shown(value)}: it must be 'none' or 'host'.")
    return value


def ttl_seconds(value: int) -> int:
    """Return a lifetime in seconds, 0 for the daemon's default."""
    return whole_number(value, "ttl_seconds", "seconds", 0, MAX_TTL_SECONDS)


def timeout_ms(value: int) -> int:
    """Return a command's time limit in milliseconds, 0 for the daemon's maximum."""
    return whole_number(value, "timeout_ms", "milliseconds", 0, MAX_TIMEOUT_MS)


def max_bytes(value: int) -> int:
    """Return how much of a file to read, in bytes."""
    return whole_number(value, "max_bytes", "bytes", 1, MAX_MEMORY_BYTES)


def pattern(value: str, name: str) -> str:
    """Return a pattern for names or lines."""
    if not isinstance(value, str) or not value or len(value) > MAX_PATH_CHARS:
        raise SandkastenInputError(
            f"{name} is {shown(value)}: it must be a str of 1 to {MAX_PATH_CHARS} characters."
        )
    return _name(value, name)


def name_pattern(value: str, name: str) -> str:
    """Return a pattern for paths below a directory."""
    if pattern(value, name).startswith("/"):
        raise SandkastenInputError(
            f"{name} is {shown(value)}: it must be relative to the directory.", "Pass the directory as path=."
        )
    return value


def offset(value: int) -> int:
    """Return where in a file to begin, in bytes."""
    return whole_number(value, "offset", "bytes", 0, 2**62)


def keep_bytes(value: int) -> int:
    """The part of a stream's output to keep, in bytes."""
    return whole_number(value, "keep_bytes", "bytes", 0, MAX_MEMORY_BYTES)


def mode(value: int, *, most: int = 0o1777) -> int:
    """Return permission bits; a directory may have the sticky bit."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise SandkastenInputError(f"mode is {shown(value)}: it must be from 0 to {most:#o}, such as 0o644.")
    return value


def command(value: str) -> str:
    """Return a command for the shell: not empty, no NUL, at most 1 MiB of UTF-8."""
    if not isinstance(value, str) or not value.strip():
        hint = "run() takes a list of words." if isinstance(value, list | tuple) else ""
        raise SandkastenInputError(f"cmd is {shown(value)}: it must be a str, a shell command.", hint)
    size_bytes = len(unicode_text(value, "cmd").encode())
    if size_bytes > MAX_COMMAND_BYTES:
        raise SandkastenInputError(
            f"cmd is {size_bytes} bytes long, more than {MAX_COMMAND_BYTES}.",
            "write() it to a file and run that.",
        )
    return value


def sandbox_path(value: str | PurePosixPath, *, name: str = "path") -> str:
    """Return a path in the sandbox: not empty, no NUL. The daemon checks that it can be reached."""
    if not isinstance(value, str | PurePosixPath) or not str(value):
        raise SandkastenInputError(f"{name} is {shown(value)}: it must be a path such as 'data/table.csv'.")
    if len(str(value)) > MAX_PATH_CHARS:
        raise SandkastenInputError(f"{name} is {len(str(value))} characters long: no path can be that long.")
    return _name(str(value), name)


def content(value: str | bytes, name: str = "content") -> str | bytes:
    """Return the content for a file: text (stored as UTF-8) or bytes."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise SandkastenInputError(f"{name} is of type {type(value).__name__}: it must be str or bytes.")
    return unicode_text(value, name, nul=True)


def filename(value: str) -> str:
    """Return the name of an uploaded file: one name, not a path."""
    if not isinstance(value, str) or value in {"", ".", ".."} or "/" in value:
        raise SandkastenInputError(f"filename is {shown(value)}: it must be one name, without slashes.")
    return _name(value, "filename")


def whole_number(value: int, name: str, unit: str, minimum: int, maximum: int) -> int:
    """Return a number within its limits."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise SandkastenInputError(
            f"{name} is {shown(value)}: it must be a whole number of {unit} from {minimum} to {maximum}."
        )
    return value


def unicode_text(value: str, name: str, *, nul: bool = False) -> str:
    """Return a text that can be sent."""
    if not nul and "\0" in value:
        raise SandkastenInputError(f"{name} contains a NUL character, which cannot be sent.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SandkastenInputError(
            f"{name} contains characters that are not valid Unicode (lone surrogates).", "Pass bytes instead."
        ) from None
    return value


def _name(value: str, name: str) -> str:
    """Let a name pass that is UTF-8, or stands for bytes that are not, as `os.fsdecode` has them."""
    if "\0" in value or not is_name(value):
        return unicode_text(value, name)  # says so
    return value


def shown(value: object) -> str:
    """Return a value as an error shows it: not too much of it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
