"""`shell`: the choice of a shell for a session.

There are two kinds: lines, which run in the session's own shell and work with every daemon; and a terminal
with a bash of its own, on daemons with the extension `processes`.
"""

from __future__ import annotations

import sys

import click

from sandkasten.cli.calls.attaching import run_in_terminal
from sandkasten.cli.calls.connecting import Where, open_client
from sandkasten.cli.calls.lineshell import LineShell
from sandkasten.cli.calls.streaming import signals_end_us
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import CommandLineError
from sandkasten.cli.output.lines import LineSource, StandardInput
from sandkasten.cli.parsing import arguments, ids
from sandkasten.cli.parsing.foreign import Strict

_WELCOME = "Ctrl-C stops a command, Ctrl-D leaves; the session goes on. Full-screen programs need `shell -t`."


@click.command("shell", cls=Strict)
@arguments.raw_option
@arguments.terminal_option
@arguments.session_argument
@click.pass_obj
def shell_command(where: Where, session_id: str, raw: bool, in_terminal: bool) -> int:
    """Use a session's shell, line by line.

    On a terminal: each line runs in the session, with its output as it comes; lines are edited and
    remembered; an open quote, loop or here-document goes on in the next line. Ctrl-C stops the command and
    keeps the session. Ctrl-D or `exit` leaves, and the session goes on. The exit code is the last
    command's.

    Commands have no input, and full-screen programs (editors, pagers, top) do not work there. They do with
    -t, which runs another bash, in a terminal: it begins in the shell's directory, has a state of its own,
    and ends when you leave it.

    Without a terminal, the commands are read from standard input: sandkasten shell $id < script.sh
    """
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with signals_end_us(), open_client(where) as client:
        session = ids.session(client, session_id)
        if in_terminal:
            return run_in_terminal(session, "exec bash", cwd=session.info().cwd)
        cwd = session.info().cwd
        source: LineSource = _terminal(session.id) if is_interactive else StandardInput()
        if is_interactive:
            out.say(_WELCOME)
        with source:
            return LineShell(session, source, out.Output(raw=raw), cwd).run()


def _terminal(session_id: str) -> LineSource:
    try:
        from sandkasten.cli.output.terminal import Terminal  # noqa: PLC0415  (for people alone)
    except ModuleNotFoundError as error:
        raise CommandLineError(
            f"This Python has no {error.name}, which the prompt needs. "
            "Give the commands as a file: sandkasten shell SESSION < FILE."
        ) from None
    return Terminal(session_id)
