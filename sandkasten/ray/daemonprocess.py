"""A node's daemon: started with its key in memory, and ended with the process that owns it.

The daemon reads its standard input, whose other end only this process holds. However this process ends, the
daemon does, too, with all its sandboxes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from typing import IO

_STOP_SECONDS = 10.0
_LAST_LINES = 5
_NOT_PASSED = ("RAY_", "LD_PRELOAD", "LD_AUDIT", "MALLOC_", "GLIBC_TUNABLES")
_SERVE = (sys.executable, "-P", "-m", "sandkasten.local", "serve", "--until-input-ends")


class DaemonFailedError(Exception):
    """The daemon did not start; the text is what it said."""


class DaemonProcess:
    """A daemon that listens on an address of this node."""

    def __init__(self, host: str, key: str, words: Sequence[str]) -> None:
        """Start it, and wait until it serves.

        Args:
            host: the address of this node at which it listens, on any port that is free.
            key: what its clients must send.
            words: further options of its command line.

        Raises:
            DaemonFailedError: it cannot run here.
        """
        listen = f"[{host}]:0" if ":" in host else f"{host}:0"
        with _in_memory(key) as path, contextlib.ExitStack() as stack:
            number = int(path.rpartition("/")[2])
            self._process = subprocess.Popen(
                [*_SERVE, "--listen", listen, "--api-key-file", path, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(number,),
                start_new_session=True,
                env=_environment(os.environ),
            )
            stack.callback(self.kill)
            assert self._process.stderr is not None
            self.url = _wait_until_ready(self._process.stderr)
            stack.pop_all()
        self.pid = self._process.pid
        threading.Thread(target=self._pass_on, args=(self._process.stderr,), daemon=True).start()

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """End it in good order, and kill it if it does not end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it, with all its sandboxes."""
        self._process.kill()
        self._process.wait()

    def _pass_on(self, lines: IO[bytes]) -> None:
        """Write its log to this process's, which Ray keeps for each actor."""
        for line in lines:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()


@contextlib.contextmanager
def _in_memory(key: str) -> Generator[str, None, None]:
    """Hold a key in a file that has no name, and is this user's only."""
    descriptor = os.memfd_create("sandkasten-key")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, f"{key}\n".encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a daemon, which has no part of Ray's, such as its token."""
    return {name: value for name, value in environ.items() if not name.startswith(_NOT_PASSED)}


def _wait_until_ready(lines: IO[bytes]) -> str:
    last: list[str] = []
    for line in lines:
        try:
            event = json.loads(line)
            if event["event"] == "ready":
                return str(event["address"])
        except (ValueError, KeyError, TypeError):
            pass
        last = [*last[-_LAST_LINES:], line.decode(errors="replace").strip()]
    raise DaemonFailedError(" ".join(last) or "The daemon ended while it started, and said nothing.")
