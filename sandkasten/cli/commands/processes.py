"""`ps`, `kill` and `logs`: the processes of a session that run beside its shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import click

from sandkasten.cli.calls.connecting import Where, open_client
from sandkasten.cli.calls.following import follow
from sandkasten.cli.calls.streaming import signals_end_us
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import FAILED, USAGE, CommandLineError
from sandkasten.cli.parsing import arguments, ids
from sandkasten.cli.parsing.foreign import Strict

if TYPE_CHECKING:
    from sandkasten.models import ProcessInfo
    from sandkasten_sync import Session

_SHOWN_ID_CHARS = 8


@click.command("ps", cls=Strict)
@arguments.session_argument
@arguments.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print only ids.")
@click.pass_obj
def ps_command(where: Where, session_id: str, as_json: bool, quiet: bool) -> None:
    """List the processes that were started beside a session's shell.

    These are those that run, and the last that ended.

    `sandkasten exec -d` and `session.start` start them.
    """
    with open_client(where) as client:
        found = ids.session(client, session_id).processes()
    if as_json:
        out.emit_json([_fields(info) for info in found])
    elif quiet:
        for info in found:
            out.emit(info.id)
    else:
        columns = ("PROCESS", "STATE", "STARTED", "COMMAND")
        rows = [
            (info.id[:_SHOWN_ID_CHARS], _state(info), out.when(info.started_at), shlex.join(info.args))
            for info in found
        ]
        out.emit_table(columns, rows)


def _state(info: ProcessInfo) -> str:
    if info.result is None:
        return "running"
    if info.result.end == "signal" and info.result.signal:
        return info.result.signal
    code = f" {info.result.exit_code}" if info.result.end == "exited" else ""
    return info.result.end.replace("_", " ") + code


def _fields(info: ProcessInfo) -> dict[str, Any]:
    fields = attrs.asdict(info, recurse=False)
    if info.result is not None:
        names = ("exit_code", "signal", "end", "duration_ms")
        fields["result"] = {name: getattr(info.result, name) for name in names}
    return fields


@click.command("kill", cls=Strict)
@click.option("-s", "--signal", default="TERM", show_default=True, help="The signal, by name or number.")
@arguments.session_argument
@click.argument("process_ids", metavar="PROCESS...", nargs=-1, required=True)
@click.pass_obj
def kill_command(where: Where, signal: str, session_id: str, process_ids: Sequence[str]) -> int:
    """Send a signal to processes of a session.

    The whole process group of each gets the signal. The first characters of an id are enough. The exit code
    is 125 if one of them had ended before.
    """
    number: str | int = int(signal) if signal.isascii() and signal.isdigit() else signal
    with open_client(where) as client:
        session = ids.session(client, session_id)
        known = [info.id for info in session.processes()]
        ended = [each for each in process_ids if not session.process(whole(each, known)).send_signal(number)]
    for each in ended:
        out.say(f"The process {each} has ended before.")
    return FAILED if ended else 0


@click.command("logs", cls=Strict)
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on until the process ends.")
@arguments.session_argument
@click.argument("process_id", metavar="PROCESS")
@click.pass_obj
def logs_command(where: Where, is_followed: bool, session_id: str, process_id: str) -> int:
    """Print what a process printed, and follow it with -f.

    The daemon keeps the last of it. Standard output goes to ours and standard error to ours, byte for byte,
    except on a terminal, where escape sequences are left out. With -f the exit code is that of the process.
    """
    with signals_end_us(), open_client(where) as client:
        session = ids.session(client, session_id)
        process = session.process(_found(session, process_id))
        result = follow(process, out.Channels(), is_followed=is_followed)
    return result.exit_code if is_followed and result is not None else 0


def _found(session: Session, typed: str) -> str:
    return whole(typed, [info.id for info in session.processes()])


def whole(typed: str, known: Sequence[str]) -> str:
    """Return the one id that begins with the typed text.

    Raises:
        CommandLineError: none or several do.
    """
    found = [each for each in known if each.startswith(typed)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CommandLineError(
            f"The session has no process {typed!r}. See which there are: sandkasten ps SESSION.", USAGE
        )
    raise CommandLineError(f"{len(found)} processes begin with {typed!r}. Type more of the id.", USAGE)
