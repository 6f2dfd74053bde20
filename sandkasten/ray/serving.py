"""A gateway's process: it connects to Ray, listens, and ends on a signal; sessions go on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import sys

from sandkasten._version import __version__
from sandkasten.local import daemon, listen
from sandkasten.local.api.app import make_app
from sandkasten.local.api.asgi import Guard, browser_guard, key_guard
from sandkasten.local.linux import inherited, loop
from sandkasten.local.observe import logs
from sandkasten.local.observe.observer import Observer
from sandkasten.local.options import OptionsError
from sandkasten.local.serveroptions import ServerOptions
from sandkasten.ray import cluster
from sandkasten.ray.directory import Directory
from sandkasten.ray.gateway import Gateway
from sandkasten.ray.keeper import ClusterOptions
from sandkasten.ray.pipes import Daemons

# As many requests may wait for room at a time.
_THREADS = 256
_KEEPER_SECONDS = 60.0


def run(options: ServerOptions, address: str, *, without_tokens: bool) -> int:
    """Serve until a signal comes; the exit code."""
    inherited.set_right(keep_ignored=True)
    logs.set_up(options.log_format)
    try:
        cluster.connect(address, without_tokens=without_tokens)
        key, settings = _from_keeper()
        with listen.bound(options.address, options.scheme) as (listener, url):
            loop.run(_serve(key, settings, options, listener, url))
        logs.tell("stopped")
    except (cluster.ClusterError, OptionsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _from_keeper() -> tuple[str, ClusterOptions]:
    keeper = cluster.find(cluster.KEEPER)
    key, options = (cluster.ask(keeper, name, seconds=_KEEPER_SECONDS) for name in ("key", "options"))
    if not isinstance(key, str) or not isinstance(options, ClusterOptions):
        raise cluster.ClusterError("This cluster serves no sandboxes yet. Run: python -m sandkasten.ray up")
    return key, options


async def _serve(
    key: str, settings: ClusterOptions, options: ServerOptions, listener: socket.socket, url: str
) -> None:
    running = asyncio.get_running_loop()
    running.set_default_executor(concurrent.futures.ThreadPoolExecutor(_THREADS))
    directory = Directory(shares_workspaces=settings.shares_workspaces)
    gateway = Gateway(Daemons(key), directory, settings.queue_seconds)
    observer = Observer()
    app = make_app(gateway.rows(), _guard(options), observer)

    def on_ready(_server: daemon.Server) -> None:
        logs.tell("ready", address=url, version=__version__, pid=os.getpid())

    server = daemon.Server(app, gateway, observer, on_ready, options.certificate)
    for number in inherited.ENDING_SIGNALS:
        with contextlib.suppress(ValueError):
            running.add_signal_handler(number, server.stop)
    await server.serve(sockets=[listener])


def _guard(options: ServerOptions) -> Guard:
    return browser_guard if options.api_key is None else key_guard(options.api_key)
