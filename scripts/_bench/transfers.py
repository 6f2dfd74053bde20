"""The cost of streams and files."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from _bench.tools import Figure, client_of, daemon, duration, in_turns

from sandkasten._config import Target
from sandkasten_sync import SandboxClient, Session

_STREAM_BYTES = 64 * 1024 * 1024
_FILE_BYTES = 256 * 1024 * 1024
_PART = b"x" * (1024 * 1024)
_WRITES = 2000


def figures() -> Iterator[Figure]:
    """All of this kind."""
    with daemon() as target, client_of(target) as client:
        yield stream(client, target)
        if "processes" in client.health().extensions:
            yield output(client)
        yield small_writes(client)
        yield from large_files(client)
        yield transfer_memory(target)


def stream(client: SandboxClient, target: Target) -> Figure:
    """64 MB of output in lines of 16 KiB, beside the same stream read by httpx alone."""
    command = f"head -c {_STREAM_BYTES} /dev/zero | tr '\\0' x | fold -w 16383"
    with client.create_session(image="base") as session, http_of(target) as http:
        raw, ours = partial(read_raw, http, session.id, command), partial(read_chunks, session, command)
        floor_ms, value_ms = in_turns(3, partial(duration, raw), partial(duration, ours))
    name = "stream of 64 MiB in 16 KiB lines / the same read by httpx"
    return speed(name, _STREAM_BYTES, floor_ms, value_ms)


def output(client: SandboxClient) -> Figure:
    """Much output of a process, beside as much in a stream of the shell's."""
    command = f"head -c {_FILE_BYTES} /dev/zero | tr '\\0' x | fold -w 16383"
    with client.create_session(image="base") as session:
        stream, process = partial(read_chunks, session, command), partial(read_process, session, command)
        floor_ms, value_ms = in_turns(1, partial(duration, stream), partial(duration, process))
    return speed("stdout of 256 MiB through start / through a stream", _FILE_BYTES, floor_ms, value_ms)


def speed(name: str, size_bytes: int, floor_ms: float, value_ms: float) -> Figure:
    """Say how fast something went, beside something else of that size."""
    mb = size_bytes / 1e6
    return Figure(name, mb / floor_ms * 1000, mb / value_ms * 1000, goal=0.6, unit="MB/s", at_least=True)


def read_chunks(session: Session, command: str) -> None:
    """Read a stream as one does."""
    with session.exec_stream(command, timeout_ms=60_000) as chunks:
        for _ in chunks:
            pass


def read_process(session: Session, command: str) -> None:
    """Read the output of a process."""
    with session.start(command) as process:
        for _ in process:
            pass


def read_raw(http: httpx.Client, session_id: str, command: str) -> None:
    """Read a stream and understand nothing of it."""
    body = {"cmd": command, "timeout_ms": 60_000}
    with http.stream("POST", f"/v1/sessions/{session_id}/exec/stream", json=body) as response:
        for _ in response.iter_raw():
            pass


@contextlib.contextmanager
def http_of(target: Target) -> Iterator[httpx.Client]:
    """Connect to a daemon with httpx alone."""
    transport = httpx.HTTPTransport(uds=target.socket_path)
    headers = {"Authorization": f"Bearer {target.api_key}"}
    with httpx.Client(base_url=target.base_url, transport=transport, headers=headers, timeout=60) as http:
        yield http


def small_writes(client: SandboxClient) -> Figure:
    """2,000 files of 1 KiB, beside as many requests that do nothing."""
    content = b"x" * 1024
    with client.create_session(image="base") as session:

        def write() -> None:
            for number in range(_WRITES):
                session.write(f"file-{number}", content)

        def ask() -> None:
            for _ in range(_WRITES):
                client.health()

        floor, value = in_turns(3, partial(duration, ask), partial(duration, write))
    return Figure("2,000 writes of 1 KiB / 2,000 client.health()", floor, value, goal=2)


def large_files(client: SandboxClient) -> Iterator[Figure]:
    """256 MiB up and down, beside httpx and a server that does nothing with them."""
    with tempfile.TemporaryDirectory() as directory, null_server() as url, httpx.Client(timeout=60) as http:
        path = Path(directory) / "large"
        with path.open("wb") as file:
            for _ in range(_FILE_BYTES // len(_PART)):
                file.write(_PART)
        with client.create_session(image="base") as session:
            pairs: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
                ("upload", partial(send_raw, http, url), partial(session.upload, path)),
                (
                    "download",
                    partial(fetch_raw, http, url),
                    partial(session.download, "large", f"{path}.back"),
                ),
            ]
            for name, raw, ours in pairs:
                floor, value = in_turns(3, partial(duration, raw), partial(duration, ours))
                yield speed(f"{name} of 256 MiB / httpx and a null handler", _FILE_BYTES, floor, value)


def send_raw(http: httpx.Client, url: str) -> None:
    """Send the bytes to nowhere."""
    headers = {"Content-Length": str(_FILE_BYTES)}
    http.put(url, content=(_PART for _ in range(_FILE_BYTES // len(_PART))), headers=headers)


def fetch_raw(http: httpx.Client, url: str) -> None:
    """Get the bytes from nowhere."""
    with http.stream("GET", url) as response:
        for _ in response.iter_raw():
            pass


@contextlib.contextmanager
def null_server() -> Iterator[str]:
    """Take what comes, and give zeros."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _NullHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


class _NullHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, len(_PART))))
        self._answer(0)

    def do_GET(self) -> None:
        self._answer(_FILE_BYTES)
        for _ in range(_FILE_BYTES // len(_PART)):
            self.wfile.write(_PART)

    def _answer(self, size_bytes: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size_bytes))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def transfer_memory(target: Target) -> Figure:
    """The memory that a process takes more at its peak for having moved 256 MiB up and down."""
    told = subprocess.check_output(
        [sys.executable, "-P", __file__, f"unix://{target.socket_path}", str(target.api_key)]
    )
    return Figure("memory for 256 MiB up and down", None, json.loads(told), goal=32, unit="MB")


def _grown_mb(base_url: str, api_key: str) -> float:
    with (
        tempfile.TemporaryDirectory() as directory,
        SandboxClient(base_url=base_url, api_key=api_key) as client,
    ):
        path = Path(directory) / "large"
        with client.create_session(image="base") as session:
            for size_bytes in (1024, _FILE_BYTES):  # the first loads what there is to load
                with path.open("wb") as file:
                    file.truncate(size_bytes)
                # Not `ru_maxrss`: that begins with the peak of the process that started this one.
                Path("/proc/self/clear_refs").write_text("5", "ascii")
                before = _peak_kib()
                session.upload(path)
                session.download("large", f"{path}.back")
            return (_peak_kib() - before) * 1024 / 1e6


def _peak_kib() -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    print(json.dumps(_grown_mb(*sys.argv[1:])))
