"""`up`, `down` and `status`: the daemon in the background that later commands find."""

from __future__ import annotations

import sys

import click

from sandkasten.cli.calls.connecting import Found, Where, client_of, find
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import CommandLineError

_NOT_HERE = "The daemon runs on Linux only (WSL 2 included). Use one on another machine: --url URL."


@click.command("up")
def up_command() -> None:
    """Start a daemon in the background, and print its URL.

    Only this user can reach it, and it runs until `sandkasten down` or until the machine stops; its sessions
    live as long as they are used (see `sandkasten new --ttl`). If a daemon runs already, its URL is printed.

    Its socket, key and log are in $XDG_RUNTIME_DIR/sandkasten, or below ~/.local/state where there is no such
    directory. Its workspaces are those of the embedded daemon (SANDKASTEN_DATA_DIR).
    """
    _need_linux()
    from sandkasten.cli.calls import process  # noqa: PLC0415
    from sandkasten.cli.parsing import place as places  # noqa: PLC0415

    place = places.make()
    with places.locked(place):
        pid = process.listener(place)
        if pid is None:
            pid = process.start(place)
            out.say(f"The daemon runs in the background (process {pid}). End it with: sandkasten down")
        else:
            out.say(f"The daemon runs already (process {pid}).")
    out.emit(place.url)


@click.command("down")
def down_command() -> None:
    """End the daemon in the background, and all its sessions; workspaces stay."""
    _need_linux()
    from sandkasten.cli.calls import process  # noqa: PLC0415
    from sandkasten.cli.parsing import place as places  # noqa: PLC0415

    place = places.find()
    if place is not None:
        with places.locked(place):
            if process.stop(place):
                out.say("The daemon ended.")
                return
    out.say("No daemon runs in the background.")


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status_command(where: Where, as_json: bool) -> int:
    """Show which daemon the commands use.

    The exit code is 1 if there is no daemon.

    Other programs use it with SANDKASTEN_BASE_URL=<url> and SANDKASTEN_API_KEY=<content of the key file>.
    """
    found = find(where)
    if found is None:
        out.emit_json({"running": False}) if as_json else out.say(
            "No daemon runs in the background. Start one: sandkasten up"
        )
        return 1
    fields = _ask(found)
    if as_json:
        out.emit_json({"running": True, **fields})
    else:
        out.emit_fields(fields)
    return 0


def _ask(found: Found) -> dict[str, str | int | tuple[str, ...] | None]:
    with client_of(found) as client:
        health = client.health()
        sessions = client.list_sessions()
    return {
        "url": found.url,
        "server": health.server,
        "version": health.version,
        "extensions": health.extensions,
        "sessions": len(sessions),
        "pid": found.pid,
        "key_file": None if found.key_file is None else str(found.key_file),
        "log": None if found.log is None else str(found.log),
    }


def _need_linux() -> None:
    if sys.platform != "linux":
        raise CommandLineError(_NOT_HERE)
