"""`mcp`: a sandbox for clients of the Model Context Protocol."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from sandkasten._protocol import MAX_TTL_SECONDS
from sandkasten.cli.calls.connecting import Where, find_named, read_key
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import USAGE, CommandLineError
from sandkasten.cli.parsing import arguments, measures
from sandkasten.cli.parsing.foreign import Strict

if TYPE_CHECKING:
    from sandkasten.client import SandboxClient
    from sandkasten.integrations.mcp import SandboxServer

# By standard input the sandbox ends with the client; over HTTP a client may leave without a word.
_STDIO_TTL_SECONDS = MAX_TTL_SECONDS
_HTTP_TTL_SECONDS = 3600
_KEY_BYTES = 32


def _address(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not of the form HOST:PORT, such as 127.0.0.1:8000.")
    return host.removeprefix("[").removesuffix("]"), int(port)


@click.command("mcp", cls=Strict)
@click.option(
    "--http", "address", callback=_address, metavar="HOST:PORT",
    help="Serve clients over HTTP, at /mcp, instead of one by standard input; port 0 is a free one.",
)  # fmt: skip
@click.option(
    "--key-file", type=arguments.local_path, metavar="FILE", shell_complete=arguments.complete_file,
    help="With --http: the file with the bearer token of clients; made if it is not there.",
)  # fmt: skip
@arguments.image_option
@arguments.network_option
@arguments.workspace_option
@arguments.ttl_option("a day, or an hour with --http")
@click.option(
    "--tool", "tools", multiple=True, metavar="NAME",
    help="A tool to offer, such as exec; repeatable. Without it all of them are offered.",
)  # fmt: skip
@click.option(
    "--allow-install", is_flag=True,
    help="Offer the tool install_packages, too; the daemon decides which packages it may install.",
)  # fmt: skip
@arguments.timeout_option
@measures.limit_options
@click.pass_obj
def mcp_command(
    where: Where,
    *,
    address: tuple[str, int] | None,
    key_file: str | None,
    image: str,
    network: Literal["none", "host"] | None,
    workspace: str | None,
    ttl_seconds: int | None,
    tools: tuple[str, ...],
    allow_install: bool,
    timeout_ms: int | None,
    memory: int | None,
    cpus: float | None,
) -> None:
    """Serve a sandbox to a client of the Model Context Protocol.

    Editors and chat programs start it by themselves, once their settings name it as the command of a server;
    it speaks by standard input and output, and its sandbox ends with the client:

    \b
      {"mcpServers": {"sandbox": {"command": "sandkasten", "args": ["mcp"]}}}

    With --http it serves any number of clients, each with a sandbox of its own:

    \b
      sandkasten mcp --http 127.0.0.1:8000 --key-file ~/.sandbox-key
    """
    if (address is None) != (key_file is None):
        raise CommandLineError("--http and --key-file go together: give both or neither.", USAGE)
    idle_seconds = ttl_seconds or (_STDIO_TTL_SECONDS if address is None else _HTTP_TTL_SECONDS)
    session: dict[str, Any] = {
        "image": image, "network": network, "workspace_id": workspace, "ttl_seconds": idle_seconds,
        "limits": measures.limits_of(memory, cpus),
    }  # fmt: skip
    options: dict[str, Any] = {"only": tools or None, "allow_install": allow_install}
    if timeout_ms is not None:
        options["timeout_ms"] = timeout_ms
    # Reading standard input cannot be called off; the embedded daemon ends with this process in any case.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(_serve(where, session, options, address, key_file))


async def _serve(
    where: Where,
    session: dict[str, Any],
    options: dict[str, Any],
    address: tuple[str, int] | None,
    key_file: str | None,
) -> None:
    try:
        from sandkasten.integrations.mcp import SandboxServer  # noqa: PLC0415  (takes half a second)
    except ModuleNotFoundError as error:
        raise CommandLineError(str(error)) from None

    async with (
        _client(where) as client,
        SandboxServer(client, lambda: client.create_session(**session), **options) as server,
    ):
        if address is None or key_file is None:
            await server.serve_stdio()
        else:
            await _serve_http(server, address, _key_in(Path(key_file)))


def _client(where: Where) -> SandboxClient:
    from sandkasten.client import SandboxClient  # noqa: PLC0415

    found = find_named(where)
    return SandboxClient() if found is None else SandboxClient(base_url=found.url, api_key=found.api_key)


async def _serve_http(server: SandboxServer, address: tuple[str, int], api_key: str) -> None:
    import uvicorn  # noqa: PLC0415

    host, port = address
    try:
        listener = socket.create_server(
            address, family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
    except OSError as error:
        raise CommandLineError(
            f"{host}:{port} cannot be listened on: {error.strerror}. Choose another."
        ) from None
    with listener:
        shown = f"[{host}]" if ":" in host else host
        out.emit(f"http://{shown}:{listener.getsockname()[1]}/mcp")
        config = uvicorn.Config(server.http_app(api_key, host), log_level="warning", lifespan="on")
        await uvicorn.Server(config).serve(sockets=[listener])


def _key_in(path: Path) -> str:
    """Return the key in a file, which is made with a new one if it is not there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return read_key(path)
    except OSError as error:
        raise CommandLineError(f"The key file {path} cannot be made: {error.strerror}.") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(_KEY_BYTES) + "\n")
    return read_key(path)
