"""Arguments that several commands share: how they are read and completed."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sandkasten._protocol import (
    MAX_COMMAND_BYTES,
    MAX_TIMEOUT_MS,
    MAX_TTL_SECONDS,
    PYTHON_CONTEXT,
    SESSION_ID,
    WORKSPACE,
    WORKSPACE_ID,
    WORKSPACE_ID_FORM,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sandkasten._options.environments import PythonEnvironment

ROOT = WORKSPACE
DEFAULT_IMAGE = "python"
# Python keeps bytes that are not UTF-8 as surrogates. Only names of files can have such.
UNICODE = re.compile(r"[^\ud800-\udfff]+")
NAME = re.compile(r"[^\ud800-\udc7f\udd00-\udfff]+")

_LONGEST_SECONDS = MAX_TIMEOUT_MS // 1000

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Number = TypeVar("Number", int, float)


# --- types of arguments. The library would refuse what they refuse, but later, and in the words of Python.


def form(expression: re.Pattern[str], what: str) -> Callable[[str], str]:
    """Return a type of arguments: texts of a form. Like the other types, it raises `click.BadParameter`."""

    def read(value: str) -> str:
        if not expression.fullmatch(value):
            raise click.BadParameter(f"{value!r} is not {what}.")
        return value

    return read


def seconds(number: Callable[[str], Number], lowest: float, highest: float) -> Callable[[str], Number]:
    """Return a type of arguments: seconds, whole ones if the number is an `int`."""

    def read(value: str) -> Number:
        with suppress(ValueError):
            found = number(value)
            if lowest <= found <= highest:  # which NaN is not
                return found
        kind = "a whole number" if number is int else "a number"
        raise click.BadParameter(f"{value!r} is not {kind} of seconds from {lowest} to {highest}.")

    return read


session_id = form(SESSION_ID, "the id of a session (sandkasten ls lists them)")
workspace_id = form(WORKSPACE_ID, WORKSPACE_ID_FORM)
context_name = form(PYTHON_CONTEXT, "1 to 64 letters, digits, dots, dashes or underscores")
image_name = form(UNICODE, "the name of an image, such as python")
remote_path = form(NAME, "a path in the sandbox")
local_path = form(re.compile(r"(?s:.+)"), "a path")
_timeout_seconds = seconds(float, 0.001, _LONGEST_SECONDS)


def milliseconds(value: str) -> int:
    """Return a command's time limit in milliseconds from an argument in seconds."""
    return math.ceil(_timeout_seconds(value) * 1000)


@dataclass(frozen=True)
class Remote:
    """A path in a session or in a workspace."""

    owner: str
    path: str


def parse_remote(text: str) -> Remote | None:
    """Read `SESSION:/path`; return None for a path of this machine.

    A path with a slash before the colon is local, and so is the letter of a Windows drive.
    """
    owner, colon, path = text.partition(":")
    if not colon or len(owner) < 2 or "/" in owner or "\\" in owner:
        return None
    return Remote(owner, path or ROOT)


def session_place(value: str) -> Remote:
    """Return the place that an argument names: a session, or a path in it."""
    remote = parse_remote(value) or Remote(value, ROOT)
    return Remote(session_id(remote.owner), remote_path(remote.path))


def workspace_place(value: str) -> Remote:
    """Return the place that an argument names: a workspace, or a path in it.

    A workspace holds only its files, so its root may be called / as well as /workspace, its name in sessions.
    """
    remote = parse_remote(value) or Remote(value, ROOT)
    path = remote_path(remote.path)
    is_from_root = path.startswith("/") and not PurePosixPath(path).is_relative_to(ROOT)
    return Remote(workspace_id(remote.owner), f"{ROOT}{path}" if is_from_root else path)


def side_of(place: Callable[[str], Remote]) -> Callable[[str], Remote | str]:
    """Return a type of arguments: one side of a copy, which is such a place or a path of this machine."""
    return lambda value: local_path(value) if parse_remote(value) is None else place(value)


# --- commands


def command_text(words: Sequence[str]) -> str:
    """Return the shell text of a command: a single word is shell text, several are one command's words."""
    return words[0] if len(words) == 1 else shlex.join(words)


def fault_of(command: str) -> str | None:
    """Return why no daemon accepts a command, and what to do, or None if the command is fine; pure."""
    if not command.strip():
        return "The command is empty. Give one."
    if not UNICODE.fullmatch(command):
        return "The command is not UTF-8. Copy it as a file, and run that."
    if len(command.encode()) > MAX_COMMAND_BYTES:
        return "The command is longer than 1 MiB. Copy it as a file, and run that."
    return None


def _read_command(_ctx: click.Context, _param: click.Parameter, words: Sequence[str]) -> str:
    text = command_text(words)
    if fault := fault_of(text):
        raise click.BadParameter(fault)
    return text


# --- what several commands have


def offering(*names: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]:
    """Return a completion that joins functions of `completing`, given by name, each of which may fail."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from sandkasten.cli.calls import completing  # noqa: PLC0415  (only while somebody types)

        found: list[CompletionItem[str]] = []
        for name in names:
            with suppress(Exception):  # the user is only typing
                found += getattr(completing, name)(ctx, incomplete)
        return found

    return complete


complete_session = offering("session_ids")
complete_file = offering("local_files")
complete_copy = offering("local_files", "session_paths")
session_argument = click.argument(
    "session_id", type=session_id, metavar="SESSION", shell_complete=complete_session
)
timeout_option = click.option(
    "--timeout",
    "timeout_ms",
    type=milliseconds,
    metavar="SECONDS",
    help="Time limit of the command, up to 600. If not given, it is 600, and none with -t or -d.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
raw_option = click.option(
    "--raw", is_flag=True, help="Print escape sequences on a terminal, instead of removing them."
)
terminal_option = click.option(
    "-t", "--tty", "in_terminal", is_flag=True,
    help="Run it in a terminal of its own, connected with ours: for editors, pagers and prompts.",
)  # fmt: skip
no_stdin_option = click.option("-n", "--no-stdin", is_flag=True, help="Do not forward standard input.")
network_option = click.option(
    "--network", type=click.Choice(["none", "host"]), help="The sandbox's network; none, if not given."
)
image_option = click.option(
    "--image", type=image_name, default=DEFAULT_IMAGE, show_default=True, metavar="TEXT",
    shell_complete=offering("images"), help="The image, which decides what is installed.",
)  # fmt: skip

workspace_option = click.option(
    "--workspace", type=workspace_id, metavar="ID", shell_complete=offering("workspace_ids"),
    help="The workspace that keeps its files; without it, they end with the sandbox.",
)  # fmt: skip


def ttl_option(by_default: str) -> Callable[[Decorated], Decorated]:
    """Return the option for a session's lifetime, with words for what it is without."""
    return click.option(
        "--ttl", "ttl_seconds", type=seconds(int, 1, MAX_TTL_SECONDS), metavar="SECONDS",
        help=f"Lifetime after the last use, up to {MAX_TTL_SECONDS}; {by_default}, if not given.",
    )  # fmt: skip


def _environment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> PythonEnvironment | None:
    from sandkasten._options.environments import PythonEnvironment  # noqa: PLC0415  (it loads httpx)

    return None if value is None else PythonEnvironment(value)


environment_option = click.option(
    "--python-env", "environment", metavar="DIR", callback=_environment, shell_complete=complete_file,
    help="A venv or another environment of Python, in place of the image; python is the environment's.",
)  # fmt: skip


def command_argument(function: Decorated) -> Decorated:
    """Add the remote command, after `--` or from the first word on."""
    return click.argument(
        "command",
        metavar="[--] COMMAND...",
        nargs=-1,
        required=True,
        type=click.UNPROCESSED,
        callback=_read_command,
    )(function)
