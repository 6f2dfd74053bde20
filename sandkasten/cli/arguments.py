"""What the arguments of several commands have in common: how they are read and completed."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_LONGEST_SECONDS = 600.0
_COMPLETION_SECONDS = 2.0

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def milliseconds(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    """Read a command's time limit, which people give in seconds.

    Raises:
        click.BadParameter: it is none that a daemon takes.
    """
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise click.BadParameter(f"{value!r} is not a number of seconds, above 0 and at most 600.")
    return math.ceil(seconds * 1000)


@dataclass(frozen=True)
class Remote:
    """A path in a session or in a workspace."""

    owner: str
    path: str


def parse_remote(text: str) -> Remote | None:
    """Read `SESSION:/path`; None: it is a path of this machine.

    What has a slash before the colon is local, and so is a letter of a Windows drive.
    """
    owner, colon, path = text.partition(":")
    if not colon or len(owner) < 2 or "/" in owner or "\\" in owner:
        return None
    return Remote(owner, path or "/workspace")


def command_text(words: Sequence[str]) -> str:
    """The shell text that runs a command: a single word is shell text, several are one command's words."""
    return words[0] if len(words) == 1 else shlex.join(words)


def complete_session(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids of sessions that begin like that; nothing, if they cannot be had quickly."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    from sandkasten.cli.connecting import Where, find  # noqa: PLC0415

    options = ctx.find_root().params
    try:
        found = find(Where(options.get("url"), options.get("api_key_file")))
        if found is None:
            return []
        from sandkasten_sync import SandboxClient  # noqa: PLC0415

        client = SandboxClient(base_url=found.url, api_key=found.api_key, timeout=_COMPLETION_SECONDS)
        with client:
            sessions = client.list_sessions()
    except Exception:  # whatever it is, the user is only typing
        return []
    return [CompletionItem(info.id, help=info.image) for info in sessions if info.id.startswith(incomplete)]


session_argument = click.argument("session_id", metavar="SESSION", shell_complete=complete_session)
timeout_option = click.option(
    "--timeout",
    "timeout_ms",
    callback=milliseconds,
    default=str(_LONGEST_SECONDS),
    metavar="SECONDS",
    help="When to stop the command; 600, which is the most, if not given.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
raw_option = click.option(
    "--raw", is_flag=True, help="Give a terminal escape sequences, too; without it they are removed."
)
no_stdin_option = click.option("-n", "--no-stdin", is_flag=True, help="Do not forward standard input.")
network_option = click.option(
    "--network", type=click.Choice(["none", "host"]), help="The network it sees; none, if not given."
)
image_option = click.option("--image", default="python", show_default=True, help="What is installed in it.")


def command_argument(function: Decorated) -> Decorated:
    """The remote command, after `--`."""
    return click.argument(
        "command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED
    )(function)
