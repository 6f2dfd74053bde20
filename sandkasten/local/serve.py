"""The embedded daemon's process, as the client starts it: see `launch.py`.

Its owner holds the other ends of standard input and output. One line of JSON comes in, with the key
and the options; one goes out, with the socket's path or with what prevents the start. When standard
input ends, the owner is gone, however it went, and so the daemon ends, with all sandboxes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from sandkasten.local import daemon, listen, logs, loop
from sandkasten.local.asgi import key_guard
from sandkasten.local.errors import IsolationError
from sandkasten.local.options import Options, OptionsError
from sandkasten.local.settings import Settings


def main() -> None:
    """Serve until the owner goes."""
    logs.warnings_only()
    line = json.loads(sys.stdin.buffer.readline())
    api_key = line.pop("api_key")
    try:
        options = Options.from_mapping(line)
        with daemon.prepared(options) as settings:
            loop.run(_serve(settings, options, api_key))
    except (IsolationError, OptionsError) as error:
        _tell_owner({"error": str(error)})
        sys.exit(1)


async def _serve(settings: Settings, options: Options, api_key: str) -> None:
    directory = settings.run_dir / "api"
    directory.mkdir(mode=0o700)
    path = directory / "daemon.sock"

    def on_ready(server: daemon.Server) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _on_owner, server)
        _tell_owner({"socket_path": str(path)})

    with listen.bound(listen.Address(path=path)) as (listener, _url):
        await daemon.serve(settings, options.data_dir, key_guard(api_key), listener, on_ready)


def _on_owner(server: daemon.Server) -> None:
    """Standard input has something to read: its end, or nothing of interest."""
    if not os.read(sys.stdin.fileno(), 4096):
        server.stop()
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


def _tell_owner(message: dict[str, str]) -> None:
    sys.stdout.write(f"{json.dumps(message)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
