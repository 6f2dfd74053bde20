"""`new`, `ls`, `info`, `stats` and `rm`: the sessions of a daemon."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

from sandkasten.cli.calls.connecting import Where, open_client
from sandkasten.cli.calls.environments import chosen, say_left_out
from sandkasten.cli.calls.owners import SESSIONS
from sandkasten.cli.commands.files import remove_path
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import FAILED, CommandLineError, sentence_of
from sandkasten.cli.parsing import arguments, ids, measures, usage
from sandkasten.cli.parsing.arguments import Remote
from sandkasten.cli.parsing.foreign import Strict

if TYPE_CHECKING:
    from sandkasten._options.environments import PythonEnvironment
    from sandkasten_sync import SandboxClient, Session


@click.command("new", cls=Strict)
@arguments.image_option
@arguments.environment_option
@arguments.network_option
@arguments.workspace_option
@arguments.ttl_option("the daemon's default")
@measures.session_options
@measures.packages_option
@click.pass_obj
def new_command(
    where: Where,
    *,
    image: str,
    environment: PythonEnvironment | None,
    network: Literal["none", "host"] | None,
    workspace: str | None,
    ttl_seconds: int | None,
    memory: int | None,
    cpus: float | None,
    env: dict[str, str],
    cwd: str | None,
    name: str | None,
    labels: dict[str, str],
    packages: Sequence[str],
) -> None:
    """Make a session, and print its id.

    \b
      id=$(sandkasten new --workspace notes)
    """
    with open_client(where) as client:
        session = client.create_session(
            image=chosen(image, environment), network=network, workspace_id=workspace,
            ttl_seconds=ttl_seconds, env=env, cwd=cwd, limits=measures.limits_of(memory, cpus),
            name=name, labels=labels, packages=packages,
        )  # fmt: skip
        if environment is not None:
            say_left_out(session)
        out.emit(session.id)


@click.command("install", cls=Strict)
@arguments.session_argument
@measures.packages_argument
@click.pass_obj
def install_command(where: Where, *, session_id: str, packages: Sequence[str]) -> None:
    """Install packages of Python in a session, without a network in it.

    A package is a name, with versions if need be. All packages of the session are printed that it was given.

    \b
      sandkasten install $id pandas 'matplotlib>=3.9'
    """
    with open_client(where) as client:
        for package in ids.session(client, session_id).install(*packages):
            out.emit(f"{package.name} {package.version}")


@click.command("ls")
@click.argument(
    "place", type=arguments.session_place, metavar="[SESSION[:/PATH]]", required=False,
    shell_complete=arguments.offering("session_paths"),
)  # fmt: skip
@arguments.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print only ids or names.")
@measures.label_option
@click.pass_obj
def ls_command(
    where: Where, *, place: arguments.Remote | None, as_json: bool, quiet: bool, labels: dict[str, str]
) -> None:
    """List the sessions, or a directory in one of them.

    Without a terminal, the fields of a line are between tabs, and there is no head.
    """
    with open_client(where) as client:
        if place is None:
            _list_sessions(client, labels, as_json=as_json, quiet=quiet)
            return
        from sandkasten.cli.output import listing  # noqa: PLC0415

        entries = listing.entries_at(ids.session(client, place.owner), place.path)
        listing.emit_entries(entries, as_json=as_json, quiet=quiet)


@click.command("info")
@arguments.session_argument
@arguments.json_option
@click.pass_obj
def info_command(where: Where, session_id: str, as_json: bool) -> None:
    """Show what the daemon knows about a session.

    This does not renew the session's lifetime.
    """
    with open_client(where) as client:
        info = ids.session(client, session_id).info()
    if as_json:
        out.emit_json(info)
        return
    out.emit_fields(
        {
            "id": info.id,
            "image": info.image,
            "status": info.status,
            "name": info.name,
            "labels": " ".join(f"{name}={value}" for name, value in (info.labels or {}).items()) or None,
            "cwd": info.cwd,
            "workspace": info.workspace_id,
            "created": out.when(info.created_at),
            "last used": out.when(info.last_activity),
            "expires": out.when(info.expires_at),
        }
    )


@click.command("stats")
@arguments.session_argument
@click.option("--watch", is_flag=True, help="Print new readings until Ctrl-C or the session's end.")
@click.option(
    "--interval", type=arguments.seconds(float, 0.1, 3600), default="1", show_default=True,
    metavar="SECONDS", help="Time between readings, 0.1 to 3600.",
)  # fmt: skip
@arguments.json_option
@click.pass_obj
def stats_command(where: Where, session_id: str, watch: bool, interval: float, as_json: bool) -> None:
    """Show what a session uses: memory and CPU time.

    With --watch, a terminal's line is updated in place and shows the share of one CPU that was used since the
    last reading; on 4 CPUs that can be 400%.
    """
    with open_client(where) as client:
        session = ids.session(client, session_id)
        if watch:
            _watch(session, interval, as_json=as_json)
        elif as_json:
            out.emit_json(session.stats())
        else:
            out.emit_fields(usage.fields(session.stats()))


def _watch(session: Session, interval: float, *, as_json: bool) -> None:
    line, before = out.Line(), None
    try:
        while True:
            now = usage.Reading(session.stats(), time.monotonic())
            if as_json:
                out.emit_json(now.stats, one_line=True)
            else:
                fields = usage.fields(now.stats, usage.cpu_percent(before, now))
                line.show("   ".join(f"{name} {value}" for name, value in fields.items()))
            before = now
            time.sleep(interval)
    finally:
        if not as_json:
            line.end()


@click.command("rm")
@click.argument(
    "places", type=SESSIONS.place_or_path, metavar="SESSION[:PATH]...", nargs=-1,
    shell_complete=arguments.offering("session_ids", "session_paths"),
)  # fmt: skip
@click.option("--all", "every", is_flag=True, help="End all sessions of the daemon.")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Remove directories with all that is in them.")
@click.pass_obj
def rm_command(where: Where, places: Sequence[str | Remote], *, every: bool, recursive: bool) -> int:
    """End sessions with their files, or remove files in them.

    The ids of the sessions that ended are printed; their processes end, and workspaces stay.
    SESSION:/path is only that file, and with -r that directory.
    """
    if bool(places) == every:
        raise click.UsageError("Name sessions, or say --all.", click.get_current_context())
    with open_client(where) as client:
        chosen = [info.id for info in client.list_sessions()] if every else places
        done = [
            remove_path(SESSIONS, client, place, recursive=recursive)
            if isinstance(place, Remote)
            else _end(client, place, may_be_gone=every)
            for place in chosen
        ]
    return 0 if all(done) else FAILED


def _end(client: SandboxClient, session_id: str, *, may_be_gone: bool) -> bool:
    """End one session; return False, instead of failing, if the daemon refuses, so that the others end."""
    from sandkasten.errors import NotFoundError, SandkastenAPIError, SessionExpiredError  # noqa: PLC0415

    try:
        session = ids.session(client, session_id)
        session.destroy()
    except CommandLineError as error:
        out.say(str(error))
        return False
    except SandkastenAPIError as error:
        if may_be_gone and isinstance(error, NotFoundError | SessionExpiredError):
            return True
        out.say(sentence_of(error))
        return False
    out.emit(session.id)
    return True


def _list_sessions(client: SandboxClient, labels: dict[str, str], *, as_json: bool, quiet: bool) -> None:
    sessions = sorted(client.list_sessions(labels=labels), key=lambda info: info.created_at)
    if as_json:
        out.emit_json(sessions)
    elif quiet:
        for info in sessions:
            out.emit(info.id)
    else:
        out.emit_table(
            ("ID", "IMAGE", "STATUS", "CREATED", "EXPIRES", "WORKSPACE", "DIRECTORY", "NAME"),
            [
                (
                    info.id,
                    info.image,
                    info.status,
                    out.when(info.created_at),
                    out.when(info.expires_at),
                    info.workspace_id or "-",
                    info.cwd,
                    info.name or "-",
                )
                for info in sessions
            ],
        )
