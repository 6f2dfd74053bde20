"""The server: a daemon for other processes and machines, which ends on a signal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial

from sandkasten._version import __version__
from sandkasten.local import daemon, listen
from sandkasten.local.api.asgi import Guard, browser_guard, key_guard, open_guard
from sandkasten.local.errors import IsolationError
from sandkasten.local.linux import loop
from sandkasten.local.observe import logs
from sandkasten.local.options import OptionsError
from sandkasten.local.serveroptions import ServerOptions


def run(options: ServerOptions) -> int:
    """Serve until a signal comes; the exit code."""
    logs.set_up(options.log_format)
    try:
        with (
            daemon.prepared(options.daemon) as settings,
            listen.bound(options.address, options.scheme) as (listener, url),
        ):
            serving = daemon.serve(
                settings,
                options.daemon.data_dir,
                _guard(options),
                listener,
                on_ready=partial(_on_ready, options, url),
                certificate=options.certificate,
            )
            loop.run(serving)
        logs.tell("stopped")
    except (IsolationError, OptionsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _on_ready(options: ServerOptions, url: str, server: daemon.Server) -> None:
    if options.until_input_ends:
        _watch_input(server.stop)
    node = {} if (tag := options.daemon.node_tag) is None else {"node": tag}
    logs.tell("ready", address=url, version=__version__, pid=os.getpid(), **node)


def _watch_input(stop: Callable[[], None]) -> None:
    """Call `stop` when standard input ends, however its other end was closed."""
    running, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def on_readable() -> None:
        try:
            more = os.read(descriptor, 4096)
        except OSError:
            more = b""
        if not more:
            running.remove_reader(descriptor)
            stop()

    try:
        running.add_reader(descriptor, on_readable)
    except PermissionError:  # a file, or /dev/null: it has ended before it began
        stop()


def _guard(options: ServerOptions) -> Guard:
    if options.api_key is not None:
        return key_guard(options.api_key)
    return browser_guard if options.address.path is None else open_guard
