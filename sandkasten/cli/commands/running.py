"""`run` and `exec`: one command, with its output, its input and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from sandkasten._protocol import MAX_TIMEOUT_MS
from sandkasten.cli.calls import transfers
from sandkasten.cli.calls.attaching import run_in_terminal
from sandkasten.cli.calls.connecting import Where, open_client, open_own_client
from sandkasten.cli.calls.environments import chosen, say_left_out
from sandkasten.cli.calls.streaming import is_piped, signals_end_us, stream
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import FAILED, TIMED_OUT, USAGE, CommandLineError, sentence_of
from sandkasten.cli.parsing import arguments, ids, measures
from sandkasten.cli.parsing.foreign import RunsCommand, RunsCommandInSession

if TYPE_CHECKING:
    from sandkasten._options.environments import PythonEnvironment
    from sandkasten_sync import Session


@click.command("run", cls=RunsCommand)
@arguments.image_option
@arguments.environment_option
@arguments.network_option
@arguments.workspace_option
@click.option(
    "--upload", "uploads", type=arguments.local_path, metavar="PATH", multiple=True,
    shell_complete=arguments.complete_file, help="Copy this in, to /workspace; repeatable.",
)  # fmt: skip
@click.option(
    "--download", "downloads", type=arguments.remote_path, metavar="PATH", multiple=True,
    help="Copy this out of /workspace afterwards, to the current directory; repeatable.",
)  # fmt: skip
@arguments.timeout_option
@arguments.terminal_option
@measures.command_env_option
@measures.command_cwd_option
@arguments.no_stdin_option
@arguments.raw_option
@measures.limit_options
@measures.packages_option
@arguments.command_argument
@click.pass_obj
def run_command(
    where: Where,
    *,
    image: str,
    environment: PythonEnvironment | None,
    network: Literal["none", "host"] | None,
    workspace: str | None,
    uploads: Sequence[str],
    downloads: Sequence[str],
    timeout_ms: int | None,
    in_terminal: bool,
    env: Mapping[str, str],
    cwd: str | None,
    no_stdin: bool,
    raw: bool,
    memory: int | None,
    cpus: float | None,
    packages: Sequence[str],
    command: str,
) -> int:
    """Run one command in a sandbox of its own, which ends with it.

    The sandbox is an embedded daemon's, which ends, too; with --url or SANDKASTEN_BASE_URL it is that
    daemon's. Input that is piped or redirected is the command's, while it runs; its exit code is ours.

    COMMAND is one command and its words, or a single word, which is shell text:

    \b
      sandkasten run -- python3 -c 'print(6 * 7)'
      sandkasten run --upload data.csv -- 'sort data.csv | head -3'
      sandkasten run --download report -- 'mkdir report && date > report/now'
      sandkasten run --with pandas --upload x.py -- python3 x.py
      sandkasten run -t python3
      sandkasten run --python-env .venv -- python -c 'import numpy'
    """
    sources = [(path, transfers.own_name(path)) for path in map(transfers.existing, uploads)]
    targets = [(path, transfers.free_name(transfers.name_of(path))) for path in downloads]
    with (
        signals_end_us(),
        open_own_client(where) as client,
        client.create_session(
            image=chosen(image, environment),
            network=network,
            workspace_id=workspace,
            limits=measures.limits_of(memory, cpus),
            packages=packages,
        ) as session,
    ):
        if environment is not None:
            say_left_out(session)
        for source, name in sources:
            transfers.push(session, source, arguments.ROOT, name)
        if in_terminal:
            code = run_in_terminal(session, command, cwd=cwd, env=env, timeout_ms=timeout_ms)
        else:
            how = _How(timeout_ms, no_stdin, raw, env, cwd)
            code = _execute(session, command, how, goes_on=False)
        copied = [_download(session, path, name) for path, name in targets]
        return code or (0 if all(copied) else FAILED)


@click.command("exec", cls=RunsCommandInSession)
@arguments.timeout_option
@arguments.terminal_option
@measures.command_env_option
@measures.command_cwd_option
@click.option(
    "-d", "--detach", is_flag=True,
    help="Start it beside the shell, print the id of its process, and leave it alone.",
)  # fmt: skip
@arguments.no_stdin_option
@arguments.raw_option
@arguments.session_argument
@arguments.command_argument
@click.pass_obj
def exec_command(
    where: Where,
    *,
    session_id: str,
    timeout_ms: int | None,
    in_terminal: bool,
    env: Mapping[str, str],
    cwd: str | None,
    detach: bool,
    no_stdin: bool,
    raw: bool,
    command: str,
) -> int:
    """Run a command in a session's shell; its exit code is ours.

    Directory, variables and background jobs stay from one command to the next; commands of one session
    run one after another. Ctrl-C stops the command, and the session goes on. Input that is piped or
    redirected is the command's.

    COMMAND is one command and its words, or a single word, which is shell text:

    \b
      sandkasten exec $id -- ls -l data
      sandkasten exec $id -- 'cd data && export NAME=World'

    On a terminal, output is text without escape sequences, unless --raw asks for them. Into a pipe or a
    file goes the command's standard output byte for byte, and its standard error is ours.

    With -t or -d the command is a process of its own beside the shell. It begins in the shell's directory,
    and changes nothing in the shell.
    """
    if in_terminal and detach:
        raise CommandLineError("-t and -d do not go together. Leave one of them out.", USAGE)
    with signals_end_us(), open_client(where) as client:
        session = ids.session(client, session_id)
        if in_terminal:
            place = cwd or session.info().cwd
            return run_in_terminal(session, command, cwd=place, env=env, timeout_ms=timeout_ms)
        if detach:
            place = cwd or session.info().cwd
            out.emit(session.start(command, cwd=place, env=env, timeout_ms=timeout_ms).id)
            return 0
        how = _How(timeout_ms, no_stdin, raw, env, cwd)
        return _execute(session, command, how, goes_on=True)


@dataclass(frozen=True)
class _How:
    """The options of a command."""

    timeout_ms: int | None
    no_stdin: bool
    raw: bool
    env: Mapping[str, str]
    cwd: str | None


def _execute(session: Session, text: str, how: _How, *, goes_on: bool) -> int:
    """Run a command and return its exit code; print advice about the session only if it goes on."""
    from sandkasten.errors import ExecTimeoutError  # noqa: PLC0415  (loaded with the client)

    has_input = not how.no_stdin and is_piped(sys.stdin.fileno())
    try:
        output = out.Output(raw=how.raw)
        limit_ms = MAX_TIMEOUT_MS if how.timeout_ms is None else how.timeout_ms
        ending = stream(session, text, output, limit_ms, has_input=has_input, env=how.env, cwd=how.cwd)
    except ExecTimeoutError as error:
        out.say(sentence_of(error) if goes_on else f"{error.what} Give it a larger --timeout.")
        return TIMED_OUT
    if ending.shell_restarted and goes_on:
        out.say(out.SHELL_ENDED)
    return ending.exit_code


def _download(session: Session, path: str, name: str) -> bool:
    """Copy one file or directory out; return False, instead of failing, if it is missing."""
    from sandkasten.errors import SandkastenAPIError  # noqa: PLC0415

    try:
        transfers.pull(session, path, name)
    except SandkastenAPIError as error:
        out.say(sentence_of(error))
        return False
    return True
