"""The server: a daemon for other processes and machines, which ends on a signal."""

from __future__ import annotations

import os
import sys

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
        with daemon.prepared(options.daemon) as settings, listen.bound(options.address) as (listener, url):
            serving = daemon.serve(
                settings,
                options.daemon.data_dir,
                _guard(options),
                listener,
                on_ready=lambda _: logs.tell("ready", address=url, version=__version__, pid=os.getpid()),
            )
            loop.run(serving)
        logs.tell("stopped")
    except (IsolationError, OptionsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _guard(options: ServerOptions) -> Guard:
    if options.api_key is not None:
        return key_guard(options.api_key)
    return browser_guard if options.address.path is None else open_guard
