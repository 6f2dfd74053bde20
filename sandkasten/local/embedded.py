"""The embedded daemon's process, as the client starts it: see `launch.py`.

Its owner holds the other end of standard input and output, a socket. One line of JSON comes in, with the key
and the options; one goes out, with the socket's path or with what prevents the start. When the owner has
ended, however it did, or standard input ends, the daemon ends with all sandboxes.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import sys
from collections.abc import Callable

from sandkasten._codes import NO_ISOLATION
from sandkasten.local import daemon, listen
from sandkasten.local.api.asgi import key_guard
from sandkasten.local.errors import IsolationError
from sandkasten.local.linux import loop
from sandkasten.local.observe import logs
from sandkasten.local.options import Options, OptionsError
from sandkasten.local.sessions.settings import Settings


def main() -> None:
    """Serve until the owner goes."""
    logs.warnings_only()
    line = json.loads(sys.stdin.buffer.readline() or "null")
    if line is None:
        return  # the owner is gone already
    api_key, owner = line.pop("api_key"), line.pop("owner")
    if owner is not None:
        os.set_inheritable(owner, False)
    try:
        options = Options.from_mapping(line)
        with daemon.prepared(options, keep_ignored=False) as settings:
            loop.run(_serve(settings, options, api_key, owner))
    except IsolationError as error:
        _answer({"error": error.what, "hint": error.hint, "code": NO_ISOLATION})
        sys.exit(1)
    except OptionsError as error:
        _answer({"error": str(error)})
        sys.exit(1)
    _end()


def _end() -> None:
    """End this process at once, as all is cleaned up: Python would take apart each of its modules first."""
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]  (it writes out what is logged)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _serve(settings: Settings, options: Options, api_key: str, owner: int | None) -> None:
    directory = settings.run_dir / "api"
    directory.mkdir(mode=0o700)
    path = directory / "daemon.sock"

    def on_ready(server: daemon.Server) -> None:
        _watch_owner(owner, server.stop)
        _answer({"socket_path": str(path)})

    with listen.bound(listen.Address(path=path)) as (listener, _url):
        await daemon.serve(settings, options.data_dir, key_guard(api_key), listener, on_ready)


def _watch_owner(owner: int | None, stop: Callable[[], None]) -> None:
    """Call `stop` when the owner has ended, or says that the daemon shall.

    Args:
        owner: its pidfd, which is readable when it has ended; None: it could not have one.
        stop: called once or more often.
    """
    running, connection = asyncio.get_running_loop(), sys.stdin.fileno()

    def on_end() -> None:
        running.remove_reader(connection)
        if owner is not None:
            running.remove_reader(owner)
        stop()

    def on_word() -> None:
        if not _read(connection):
            on_end()

    running.add_reader(connection, on_word)
    if owner is not None:
        running.add_reader(owner, on_end)


def _read(connection: int) -> bytes:
    try:
        return os.read(connection, 4096)
    except ConnectionError:
        return b""


def _answer(message: dict[str, str]) -> None:
    try:
        sys.stdout.write(f"{json.dumps(message)}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return  # the owner is gone, which its pidfd or standard input says as well


if __name__ == "__main__":
    main()
