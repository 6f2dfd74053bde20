"""The entry of the command `sandkasten`: its exit code and its messages, whatever happens."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

from sandkasten.cli.output.failures import BROKEN_PIPE, FAILED, INTERRUPTED, NobodyReadsError, explain

_NO_CLICK = "The command line is not installed ({} missing). Install it: pip install 'sandkasten[cli]'"


def main() -> NoReturn:
    """Run the command line, and exit with its code."""
    _open_missing_streams()
    try:
        code = _flushed(_run())
    except BaseException as error:
        code = _exit_code(error)
        _give_up_output()
    sys.exit(code)


def _run() -> int:
    try:
        import click  # noqa: PLC0415  (it may be missing)
    except ModuleNotFoundError as error:
        print(_NO_CLICK.format(error.name), file=sys.stderr)
        return FAILED
    from sandkasten.cli.app import sandkasten  # noqa: PLC0415

    if "_SANDKASTEN_COMPLETE" in os.environ:
        from sandkasten.cli.commands.completion import prepare  # noqa: PLC0415

        prepare()
    try:
        code = sandkasten.main(prog_name="sandkasten", standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _exit_code(error: BaseException) -> int:
    """Print what went wrong, once, and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, BrokenPipeError | NobodyReadsError):
        return BROKEN_PIPE
    if os.environ.get("SANDKASTEN_DEBUG") == "1":
        traceback.print_exception(error)
    sentence, code = explain(error)
    if sentence:
        print(sentence, file=sys.stderr)
    return code


def _flushed(code: int) -> int:
    sys.stdout.flush()
    return code


def _open_missing_streams() -> None:
    """Open the standard streams that are None, since a program may be started without them."""
    # They stay open until the process ends.
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        # Names from a sandbox may be no text that the terminal's encoding has; for a pipe they are bytes.
        is_data = name == "stdout" and not getattr(sys, name).isatty()
        getattr(sys, name).reconfigure(errors="surrogateescape" if is_data else "backslashreplace")


def _give_up_output() -> None:
    """Drop output that cannot be written, or the interpreter would complain once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
