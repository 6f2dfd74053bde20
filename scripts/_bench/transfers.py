"""The cost of streams and files."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx

from _bench import bare
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
        yield from small_writes(client, target)
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


def speed(name: str, size_bytes: int, floor_ms: float, value_ms: float, goal: float = 0.6) -> Figure:
    """Say how fast something went, beside something else of that size."""
    mb = size_bytes / 1e6
    return Figure(name, mb / floor_ms * 1000, mb / value_ms * 1000, goal=goal, unit="MB/s", at_least=True)


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


def small_writes(client: SandboxClient, target: Target) -> Iterator[Figure]:
    """2,000 files of 1 KiB, beside requests that do nothing, and beside a bare server that writes them."""
    content = b"x" * 1024
    with (
        client.create_session(image="base") as session,
        bare.server("write") as path,
        bare.connected(path) as connection,
    ):

        def one(url: str) -> None:
            with SandboxClient(base_url=url, api_key=target.api_key) as other:
                other.get_session(session.id).write("file", content)

        requests = bare.recorded(target.socket_path, one)

        def write() -> None:
            for number in range(_WRITES):
                session.write(f"file-{number}", content)

        def ask() -> None:
            for _ in range(_WRITES):
                client.health()

        def write_bare() -> None:
            for _ in range(_WRITES):
                bare.ask(connection, requests.next())

        actions = ask, write_bare, write
        health, floor, value = in_turns(3, *(partial(duration, action) for action in actions))
    yield Figure("2,000 writes of 1 KiB / 2,000 client.health()", health, value, goal=2)
    yield Figure("2,000 writes of 1 KiB / the same bytes to open, write and rename", floor, value, goal=1.5)


def large_files(client: SandboxClient) -> Iterator[Figure]:
    """256 MiB up and down, beside a Unix socket from a file into a file."""
    with tempfile.TemporaryDirectory() as directory, client.create_session(image="base") as session:
        path, back = Path(directory) / "large", Path(directory) / "back"
        with path.open("wb") as file:
            for _ in range(_FILE_BYTES // len(_PART)):
                file.write(_PART)
        with bare.server("take") as taking:
            up = partial(bare.send_file, taking, path), partial(session.upload, path)
            floor, value = in_turns(3, *(partial(duration, action) for action in up))
        yield speed("upload of 256 MiB / a Unix socket into a file", _FILE_BYTES, floor, value, goal=0.55)
        with bare.server("give", path) as giving:
            down = partial(bare.fetch_file, giving, back), partial(session.download, "large", back)
            floor, value = in_turns(3, *(partial(duration, action) for action in down))
        yield speed("download of 256 MiB / a Unix socket into a file", _FILE_BYTES, floor, value)


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
