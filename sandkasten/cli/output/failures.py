"""Exit codes, and errors as sentences of the command line: what happened, and what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from sandkasten.cli.output.text import one_line

if TYPE_CHECKING:
    import click

    from sandkasten.errors import SandkastenError

# The same as `timeout` and `docker run` use; every other code is the remote command's.
USAGE = 2
TIMED_OUT = 124
FAILED = 125
INTERRUPTED = 130
BROKEN_PIPE = 141

# The library's own hints speak of Python arguments. These replace them: by the error's code, or else by the
# name of its class, of which the closest one wins.
_HINTS_BY_CODE: Mapping[str | None, str] = {
    # `connecting` has advice about daemons that run on their own, so this is about an embedded one.
    "UNREACHABLE": "It ended too early: try again, and see what sandkasten doctor says.",
    "NOT_SANDKASTEN": "Check --url and SANDKASTEN_BASE_URL.",
    "NOT_LINUX": "Use a daemon on another machine: sandkasten --url URL, or set SANDKASTEN_BASE_URL.",
    "NOT_INSTALLED": "Install it: pip install 'sandkasten[local]'. Or use another daemon: --url URL.",
    "NO_PYTHON": "Use another daemon: sandkasten --url URL, or set SANDKASTEN_BASE_URL.",
}
_HINTS: Mapping[str, str] = {
    "AuthenticationError": "Give the daemon's key with --api-key-file or SANDKASTEN_API_KEY.",
    "CannotStartError": "Check the command and its directory.",
    "CapacityExceededError": "End sessions that are not needed: sandkasten rm SESSION.",
    "ExecTimeoutError": "The session goes on; give the command a larger --timeout if it needs longer.",
    "ExtensionMissingError": "Use the embedded daemon, or one that has it.",
    "SandboxFileNotFoundError": "Check the path.",
    "SandboxIsDirectoryError": "Name a file.",
    "SandboxReadOnlyError": "This daemon lets only sessions with a workspace write there: --workspace ID.",
    "SandkastenStreamError": "Look at what the command did before you repeat it.",
    "SandkastenTimeoutError": "Check that the daemon is well: sandkasten status.",
    "SessionExpiredError": "Make a new one, with a longer lifetime if need be: sandkasten new --ttl SECONDS.",
    "SessionNotFoundError": "See which there are: sandkasten ls.",
    "WorkspaceNotFoundError": "See which there are: sandkasten workspace ls.",
    "WorkspacesDisabledError": "The daemon's operator can enable them (workspace.enabled).",
}


class CommandLineError(Exception):
    """A failure found by the command line itself: one text for people, and the exit code."""

    def __init__(self, text: str, exit_code: int = FAILED) -> None:
        """Take the sentences to print."""
        super().__init__(text)
        self.exit_code = exit_code


class NobodyReadsError(Exception):
    """The reader of standard output closed it, which is not a failure."""


def explain(error: BaseException) -> tuple[str, int]:
    """Return the sentences to print for an error, and the exit code."""
    import click  # noqa: PLC0415  (not where it may be missing)

    if isinstance(error, CommandLineError):
        return one_line(str(error)), error.exit_code
    if isinstance(error, click.UsageError):
        return _usage(error), USAGE
    if isinstance(error, KeyboardInterrupt):
        return "", INTERRUPTED
    if type(error).__module__ == "sandkasten.errors":
        return sentence_of(cast("SandkastenError", error)), _code_of(error)
    return one_line(_unexpected(error)), FAILED


def _unexpected(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{os.strerror(error.errno)}. Check the path, its owner, and the space that is left."
    said = f"Something unexpected happened ({type(error).__name__}: {error})."
    return f"{said} SANDKASTEN_DEBUG=1 shows where."


def _usage(error: click.UsageError) -> str:
    import click  # noqa: PLC0415

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()
    path = error.ctx.command_path if error.ctx else "sandkasten"
    message = one_line(error.format_message()).rstrip(".")
    end = "" if message.endswith("?") else "."
    if isinstance(error, click.NoSuchOption) and error.ctx:
        program, name = error.ctx.find_root(), error.option_name
        if _has_option(program.command, name):
            own = path.removeprefix(f"{program.command_path} ")
            typed = f"{program.command_path} {name} ... {own}"
            return f"{own} has no option {name}, the program itself has it. Put it first: {typed}"
    return f"{message}{end} See: {path} --help"


def _has_option(command: click.Command, name: str) -> bool:
    return any(name in parameter.opts for parameter in command.params)


def _code_of(error: BaseException) -> int:
    from sandkasten import errors  # noqa: PLC0415  (loaded, since it was raised)

    if isinstance(error, errors.ExecTimeoutError):
        return TIMED_OUT
    is_usage = isinstance(error, errors.SandkastenInputError) and not isinstance(error, errors.LocalFileError)
    return USAGE if is_usage else FAILED


def sentence_of(error: SandkastenError) -> str:
    """Return an error of the library in the words of the command line, on one line."""
    return one_line(f"{error.what} {_hint_for(error)}")


def _hint_for(error: SandkastenError) -> str:
    from sandkasten import errors  # noqa: PLC0415

    by_class = next((_HINTS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _HINTS), None)
    hint = _HINTS_BY_CODE.get(error.code) or by_class
    if hint is None and isinstance(error, errors.SandkastenAPIError):
        if error.error_code is None and error.request_id is None:  # so no daemon answered
            return _HINTS_BY_CODE["NOT_SANDKASTEN"]
        if error.status_code >= 500:
            return f"The daemon's log may say more about request {error.request_id}."
    return error.hint if hint is None else hint
