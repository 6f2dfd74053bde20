"""The command line, in processes forked from one that has loaded it: loading costs more than a short command.

`python -m tests.cli.warm DESCRIPTOR` is the process that forks; `Warm` starts it and sends it commands.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import NoReturn

_REQUEST_BYTES = 128 * 1024
# What commands import when they need it, beside the modules of `sandkasten.cli`.
_LOADED = (
    "cattrs",
    "encodings.ascii",
    "httpcore",
    "opentelemetry.trace",
    "rich.console",
    "rich.table",
    "stamina",
)


class Warm:
    """The process that forks."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Its streams are pipes as those of a command are, so that Python makes the same objects of them.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.warm", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=dict(environ),
            )

    def run(
        self, words: Sequence[str], environ: Mapping[str, str], cwd: Path, feed: bytes | None, seconds: float
    ) -> tuple[int, bytes, bytes]:
        """Run a command to its end, and return its exit code and what it wrote."""
        pid, (stdin, stdout, stderr) = self._fork(words, environ, cwd, has_input=feed is not None)
        with ThreadPoolExecutor(3) as threads:
            fed = threads.submit(_write_all, stdin, feed or b"")
            written = [threads.submit(_read_all, descriptor) for descriptor in (stdout, stderr)]
            self._ours.settimeout(seconds)
            try:
                code = int(self._ours.recv(64))
                fed.result(seconds)
                outputs = [each.result(seconds) for each in written]
            except BaseException:
                os.kill(pid, 9)
                raise
        return code, outputs[0], outputs[1]

    def _fork(
        self, words: Sequence[str], environ: Mapping[str, str], cwd: Path, *, has_input: bool
    ) -> tuple[int, tuple[int, int, int]]:
        """Start a command, and return its id and our ends of its three streams."""
        (stdin, feeder), (reader, stdout), (error_reader, stderr) = os.pipe(), os.pipe(), os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        request = json.dumps([list(words), dict(environ), str(cwd)]).encode()
        streams = [stdin if has_input else nothing, stdout, stderr]
        socket.send_fds(self._ours, [request], streams)
        for descriptor in (stdin, stdout, stderr, nothing):
            os.close(descriptor)
        return int(self._ours.recv(64)), (feeder, reader, error_reader)

    def close(self) -> None:
        """End it."""
        self._ours.close()
        self._process.communicate(timeout=20)


def _write_all(descriptor: int, content: bytes) -> None:
    try:
        with open(descriptor, "wb") as pipe:
            pipe.write(content)
    except BrokenPipeError:
        pass  # commands need not read all


def _read_all(descriptor: int) -> bytes:
    with open(descriptor, "rb") as pipe:
        return pipe.read()


def _serve(channel: socket.socket) -> None:
    """Fork a command for each request, one after another; return in the child only."""
    while True:
        request, descriptors, _flags, _address = socket.recv_fds(channel, _REQUEST_BYTES, 3)
        if not request:
            os._exit(0)
        words, environ, cwd = json.loads(request)
        pid = os.fork()
        if pid == 0:
            channel.close()
            _become(words, environ, cwd, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(str(pid).encode())
        channel.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _become(words: list[str], environ: dict[str, str], cwd: str, descriptors: list[int]) -> None:
    """Take over what a process of its own would have been started with."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(cwd)
    measuring = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    os.environ.clear()
    os.environ.update(measuring | environ)
    sys.argv = ["sandkasten", *words]


def _load() -> None:
    for name in ("sandkasten.cli", "sandkasten_sync"):
        for module in pkgutil.walk_packages(import_module(name).__path__, f"{name}."):
            import_module(module.name)
    for name in _LOADED:
        import_module(name)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the first of a process takes ten times as long as others
    gc.freeze()


def _end(code: object) -> NoReturn:
    """End as the interpreter does, except that objects stay: to touch each takes longer than a command."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


def main() -> NoReturn:
    _load()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from sandkasten.cli.main import main as command  # noqa: PLC0415  (not in the process of the tests)

    try:
        command()
    except SystemExit as end:
        _end(end.code)


if __name__ == "__main__":
    main()
