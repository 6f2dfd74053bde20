"""The rules for what a session or a command is given: variables, labels, a name, a directory; pure.

Client and daemon both ask here. Each function returns what is wrong, as one sentence, or None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from sandkasten._protocol import TAGGED_SESSION_ID

MAX_VARIABLES = 256
MAX_ENVIRONMENT_BYTES = 64 * 1024
MAX_LABELS = 32
MAX_LABEL_CHARS = 256
# Bash reads and parses a command as a whole, in memory.
MAX_LONG_COMMAND_BYTES = 32 * 1024 * 1024
MAX_DIRECTORY_BYTES = 4095  # Linux has no longer paths

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
# The ids that the daemon makes, which no name may be taken for.
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{3}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
# The names of the shell's plumbing begin with this.
_PLUMBING = "__sk_"
# Bash sets these itself: an assignment fails, or comes to nothing.
_KEPT_BY_BASH = frozenset({
    "_", "BASHOPTS", "BASH_ARGC", "BASH_ARGV", "BASH_LINENO", "BASH_SOURCE", "BASH_VERSINFO", "DIRSTACK",
    "EUID", "FUNCNAME", "GROUPS", "PIPESTATUS", "PPID", "SHELLOPTS", "UID",
})  # fmt: skip
_DIRECTORIES = frozenset({"PWD", "OLDPWD"})


def problem_with_environment(value: Any) -> str | None:
    """Environment variables: a mapping of names to texts, with bounds for their number and size."""
    if not isinstance(value, Mapping):
        return f"env is of type {type(value).__name__}: it must be a mapping of names to values."
    variables = cast("Mapping[str, Any]", value)
    if len(variables) > MAX_VARIABLES:
        return f"env has {len(variables)} variables: there may be at most {MAX_VARIABLES}."
    for name, text in variables.items():
        problem = _problem_with_variable(name) or _problem_with_text(f"env[{_shown(name)}]", text)
        if problem is not None:
            return problem
    size_bytes = sum(len(name) + len(text.encode()) + 2 for name, text in variables.items())
    if size_bytes > MAX_ENVIRONMENT_BYTES:
        return f"env has {size_bytes} bytes: it may have at most {MAX_ENVIRONMENT_BYTES}."
    return None


def problem_with_labels(value: Any) -> str | None:
    """Labels: a mapping of short names to short texts of one line."""
    if not isinstance(value, Mapping):
        return f"labels is of type {type(value).__name__}: it must be a mapping of names to values."
    labels = cast("Mapping[str, Any]", value)
    if len(labels) > MAX_LABELS:
        return f"labels has {len(labels)} labels: there may be at most {MAX_LABELS}."
    for name, text in labels.items():
        if not isinstance(name, str) or not _LABEL.fullmatch(name):
            return (
                f"labels has the name {_shown(name)}: names are 1 to 63 of `A-Z a-z 0-9 . _ / -`, "
                "with a letter or digit at either end."
            )
        what = f"labels[{_shown(name)}]"
        if (problem := _problem_with_text(what, text)) is not None:
            return problem
        if len(text) > MAX_LABEL_CHARS or any(ord(char) < 32 or ord(char) == 127 for char in text):
            return f"{what} is {_shown(text)}: it must be one line of at most {MAX_LABEL_CHARS} characters."
    return None


def problem_with_name(value: Any) -> str | None:
    """Return what is wrong with a session's name, which must not look like an id."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        return (
            f"name is {_shown(value)}: it must be 1 to 63 of `A-Z a-z 0-9 _ -`, with a letter first "
            "and no dash or underscore at its end."
        )
    is_id = _ID.fullmatch(value) or TAGGED_SESSION_ID.fullmatch(value)
    return f"name is {value!r}: it could be taken for an id." if is_id else None


def problem_with_directory(value: Any) -> str | None:
    """Return what is wrong with a directory inside the sandbox, absolute or relative."""
    if not isinstance(value, str) or not value:
        return f"cwd is {_shown(value)}: it must be a path such as '/tmp' or 'project'."
    if (problem := _problem_with_text("cwd", value)) is not None:
        return problem
    if "\n" in value or len(value.encode()) > MAX_DIRECTORY_BYTES:
        return f"cwd is {_shown(value)}: it must be one line of at most {MAX_DIRECTORY_BYTES} bytes."
    return None


def problem_with_long_command(value: str) -> str | None:
    """Return what is wrong with a command that travels as a file."""
    if (problem := _problem_with_text("cmd", value)) is not None:
        return problem
    size_bytes = len(value.encode())
    if size_bytes > MAX_LONG_COMMAND_BYTES:
        return f"cmd is {size_bytes} bytes long: it may have at most {MAX_LONG_COMMAND_BYTES}."
    return None


def _problem_with_variable(name: Any) -> str | None:
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        return (
            f"env has the name {_shown(name)}: names are letters, digits and underscores, "
            "and begin with no digit."
        )
    if name.startswith(_PLUMBING):
        return f"env has the name {name!r}: names that begin with {_PLUMBING} are the shell's own."
    if name in _KEPT_BY_BASH:
        return f"env has the name {name!r}: bash sets that one itself."
    return f"env has the name {name!r}: pass cwd instead." if name in _DIRECTORIES else None


def _problem_with_text(what: str, text: Any) -> str | None:
    if not isinstance(text, str):
        return f"{what} is {_shown(text)}: it must be a str."
    if "\0" in text:
        return f"{what} contains a NUL character, which nothing in a sandbox can get."
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{what} contains characters that are not valid Unicode (lone surrogates)."
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
