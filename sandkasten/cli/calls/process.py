"""The daemon in the background as a process: how it is started, found and ended.

No file holds its process id. The kernel knows the process that listens on the socket, so no stale number can
name another process, and a daemon that was killed is simply not found.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from sandkasten.cli.output.failures import CommandLineError
from sandkasten.cli.parsing.place import Place

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.02
_CREDENTIALS = struct.Struct("3i")


def listener(place: Place) -> int | None:
    """Return the process id of the daemon, or None if no daemon runs.

    Raises:
        CommandLineError: another user's process listens on the socket.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.settimeout(_START_SECONDS)
            client.connect(str(place.socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        pid, uid, _gid = _CREDENTIALS.unpack(
            client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
    if uid != os.geteuid():
        raise CommandLineError(f"The daemon at {place.socket} is another user's. Remove {place.directory}.")
    return int(pid)


def start(place: Place) -> int:
    """Start a daemon, wait until it listens, and return its process id.

    Raises:
        CommandLineError: the daemon does not start; the text says why.
    """
    _write_key(place.key)
    place.log.unlink(missing_ok=True)
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(
            _command(place),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it stays when the terminal goes
            cwd="/",
        )
    finally:
        os.close(log)
    try:
        _wait_until_ready(process, place)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process.pid


def stop(place: Place) -> bool:
    """End the daemon with its sandboxes, wait until they are gone, and return whether there was a daemon.

    Raises:
        CommandLineError: the daemon runs where this process cannot reach it.
    """
    pid = listener(place)
    if pid is None:
        _remove_left_overs(place)
        return False
    if pid <= 0:
        raise CommandLineError("The daemon runs in another container. End it there.")
    descriptor = os.pidfd_open(pid)
    try:
        if listener(place) == pid:  # so the descriptor is the daemon's, and no later process of this number
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not _ends(descriptor, _STOP_SECONDS):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            _ends(descriptor, _STOP_SECONDS)
    finally:
        os.close(descriptor)
    _remove_left_overs(place)
    return True


def _command(place: Place) -> list[str]:
    data_dir = os.environ.get("SANDKASTEN_DATA_DIR")
    return [
        sys.executable,
        "-P",  # no modules from the current directory
        "-m",
        "sandkasten.local",
        "serve",
        "--listen",
        f"unix:{place.socket}",
        "--api-key-file",
        str(place.key),
        "--allow-host-network",  # who has the key is who owns the machine's account, as with the embedded one
        "--any-environment",
        "--allowed-packages",
        "all",
        "--log-format",
        "text",
        *(["--data-dir", os.path.abspath(data_dir)] if data_dir else []),
    ]


def _write_key(path: Path) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secrets.token_urlsafe(32)}\n")


def _wait_until_ready(process: subprocess.Popen[bytes], place: Place) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while listener(place) != process.pid:
        if process.poll() is not None:
            raise CommandLineError(_last_line(place.log))
        if time.monotonic() > deadline:
            raise CommandLineError(
                f"The daemon did not start in {_START_SECONDS:.0f} s. Look at {place.log}."
            )
        time.sleep(_LOOK_SECONDS)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return (
        lines[-1]
        if lines
        else f"The daemon ended while it started. Look at {log}, or try: sandkasten doctor."
    )


def _ends(descriptor: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _remove_left_overs(place: Place) -> None:
    for path in (place.socket, place.key):
        path.unlink(missing_ok=True)
