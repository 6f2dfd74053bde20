"""`python`: code in an interpreter of a session that remembers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import attrs
import click

from sandkasten._protocol import MAX_COMMAND_BYTES, MAX_TIMEOUT_MS
from sandkasten.cli.calls.connecting import Where, open_client
from sandkasten.cli.calls.streaming import is_piped, signals_end_us
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import TIMED_OUT, USAGE, CommandLineError, sentence_of
from sandkasten.cli.parsing import arguments, ids
from sandkasten.cli.parsing.foreign import Strict

if TYPE_CHECKING:
    from sandkasten._python.values import PythonChunk, PythonResult
    from sandkasten_sync import PythonStream

_RAISED = 1


@click.command("python", cls=Strict)
@click.option(
    "--context", type=arguments.context_name, metavar="NAME",
    help="The interpreter to use; it is started if there is none.",
)  # fmt: skip
@arguments.timeout_option
@arguments.json_option
@arguments.session_argument
@click.argument("code", metavar="[CODE]", default="-")
@click.pass_obj
def python_command(
    where: Where, *, context: str | None, timeout_ms: int | None, as_json: bool, session_id: str, code: str
) -> int:
    """Run Python code in an interpreter that remembers.

    Variables, imports and functions stay from one call to the next. The last expression's value is printed
    as text. Without CODE, or with -, the code is read from standard input.

    \b
      sandkasten python $id 'x = 42'
      sandkasten python $id 'x + 1'
      sandkasten python $id <analysis.py

    The exit code is 1 if an exception was raised, or the interpreter ended.
    """
    from sandkasten.errors import ExecTimeoutError  # noqa: PLC0415  (loaded with the client)

    text = _standard_input() if code == "-" else code
    with signals_end_us(), open_client(where) as client:
        limit_ms = MAX_TIMEOUT_MS if timeout_ms is None else timeout_ms
        session = ids.session(client, session_id)
        try:
            if as_json:
                result = session.python(text, context=context, timeout_ms=limit_ms)
                out.emit_json(attrs.asdict(result))
            else:
                result = _shown(session.python_stream(text, context=context, timeout_ms=limit_ms))
        except ExecTimeoutError as error:
            out.say(sentence_of(error))
            return TIMED_OUT
    if result.error is not None and not as_json:
        out.say(str(result.error))
    return 0 if result.ok else _RAISED


def _standard_input() -> str:
    if not is_piped(sys.stdin.fileno()):
        raise CommandLineError("There is no code. Give it as an argument, or by standard input.", USAGE)
    data = sys.stdin.buffer.read(MAX_COMMAND_BYTES + 1)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CommandLineError("The code on standard input is not UTF-8.", USAGE) from None


def _shown(stream: PythonStream) -> PythonResult:
    """Print what code prints and shows."""
    channels = out.Channels()
    with stream as chunks:
        for chunk in chunks:
            _show(channels, chunk)
    return stream.result


def _show(channels: out.Channels, chunk: PythonChunk) -> None:
    if chunk.result is None:
        channels.write(chunk.stream, chunk.text.encode(), chunk.text)
        return
    text = chunk.result.text or f"<{', '.join(chunk.result.data)}>"
    if chunk.result.data:
        channels.write("stdout", f"{text}\n".encode(), f"{text}\n")
