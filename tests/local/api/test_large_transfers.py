"""The client's side of transfers that are large, many, or ended by force."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandkasten
import sandkasten_sync
from sandkasten.local.launch import LocalDaemon
from tests.local.box import until

ROOT = Path(__file__).resolve().parents[3]
MIB = 1024 * 1024


@pytest.fixture
def session(daemon: LocalDaemon) -> Iterator[sandkasten_sync.Session]:
    target = daemon.target
    url = f"unix://{target.socket_path}"
    with (
        sandkasten_sync.SandboxClient(base_url=url, api_key=target.api_key) as client,
        client.create_session() as session,
    ):
        yield session


class Generated(io.RawIOBase):
    """A large file that is nowhere: each MiB of it begins with its number."""

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._position = 0
        self._rest = os.urandom(MIB - 8)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        )
        return self._position

    def read(self, size: int = -1) -> bytes:
        number, begin = divmod(self._position, MIB)
        piece = (number.to_bytes(8, "big") + self._rest)[begin : begin + size]
        piece = piece[: self._size - self._position]
        self._position += len(piece)
        return piece


def checksum_of(file: io.RawIOBase) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while part := file.read(MIB):
        digest.update(part)
    return digest.hexdigest()


def test_a_quarter_of_a_gibibyte_comes_back_as_it_went(
    session: sandkasten_sync.Session, tmp_path: Path
) -> None:
    source = Generated(256 * MIB)
    session.upload(source, filename="large")  # type: ignore[arg-type]
    place = session.download("large", tmp_path)
    assert place.stat().st_size == 256 * MIB
    with place.open("rb", buffering=0) as file:
        assert checksum_of(file) == checksum_of(source)
    place.unlink()


def test_four_thousand_files_come_in_one_go(session: sandkasten_sync.Session, tmp_path: Path) -> None:
    session.exec("mkdir m; cd m; for d in $(seq 40); do mkdir $d; touch $(seq -f $d/%g 100); done; cd ..")
    place = session.download("m", tmp_path)
    assert sum(len(files) for _, _, files in os.walk(place)) == 4_000


TRANSFERS = {
    "sandkasten_sync": """
import resource, sys
from sandkasten_sync import SandboxClient
url, key, session_id, up, down = sys.argv[1:]
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with SandboxClient(base_url=url, api_key=key) as client:
    session = client.get_session(session_id)
    session.upload(__file__, filename="small")
    session.download("small", down)
    before = peak()
    session.upload(up, filename="large")
    session.download("large", down)
    print(peak() - before)
""",
    "sandkasten": """
import asyncio, resource, sys
from sandkasten import SandboxClient
url, key, session_id, up, down = sys.argv[1:]
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
async def main():
    async with SandboxClient(base_url=url, api_key=key) as client:
        session = await client.get_session(session_id)
        await session.upload(__file__, filename="small")
        await session.download("small", down)
        before = peak()
        await session.upload(up, filename="large")
        await session.download("large", down)
        print(peak() - before)
asyncio.run(main())
""",
}


def arguments(code: Path, daemon: LocalDaemon, session: sandkasten_sync.Session, *more: Path) -> list[str]:
    target = daemon.target
    words = [f"unix://{target.socket_path}", str(target.api_key), session.id, *map(str, more)]
    return [sys.executable, str(code), *words]


@pytest.mark.parametrize("package", TRANSFERS)
def test_a_large_file_takes_no_memory_of_the_client(
    daemon: LocalDaemon, session: sandkasten_sync.Session, tmp_path: Path, package: str
) -> None:
    code, up, down = (tmp_path / name for name in ("code.py", "up", "down"))
    code.write_text(TRANSFERS[package])
    source = Generated(96 * MIB)
    with up.open("wb") as file:
        while part := source.read(MIB):
            file.write(part)
    done = subprocess.run(
        arguments(code, daemon, session, up, down),
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert subprocess.run(["cmp", up, down], check=False).returncode == 0
    assert int(done.stdout) < 24 * MIB
    up.unlink()
    down.unlink()


# --- ended by force

FOR_EVER = {
    "sandkasten_sync": """
import sys
from sandkasten_sync import SandboxClient
url, key, session_id, down = sys.argv[1:]
with SandboxClient(base_url=url, api_key=key) as client:
    session = client.get_session(session_id)
    while True:
        session.download("large", down, on_progress=lambda *_: print("on", flush=True))
""",
    "sandkasten": """
import asyncio, sys
from sandkasten import SandboxClient
url, key, session_id, down = sys.argv[1:]
async def main():
    async with SandboxClient(base_url=url, api_key=key) as client:
        session = await client.get_session(session_id)
        while True:
            await session.download("large", down, on_progress=lambda *_: print("on", flush=True))
asyncio.run(main())
""",
}


@pytest.mark.parametrize("name", ["large/file", "large"])
@pytest.mark.parametrize("package", FOR_EVER)
def test_an_interrupt_from_the_keyboard_leaves_no_part_of_a_download(
    daemon: LocalDaemon, session: sandkasten_sync.Session, tmp_path: Path, package: str, name: str
) -> None:
    session.exec("mkdir large; truncate -s 2G large/file")
    code, place = tmp_path / "code.py", tmp_path / "place"
    place.mkdir()
    code.write_text(FOR_EVER[package].replace('"large"', f'"{name}"'))
    process = subprocess.Popen(
        arguments(code, daemon, session, place / "x"),
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    assert os.listdir(place) != []
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in said
    assert os.listdir(place) == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_cancelled_task_leaves_nothing_on_either_side(
    daemon: LocalDaemon, session: sandkasten_sync.Session, tmp_path: Path, kind: str
) -> None:
    session.exec("mkdir large; truncate -s 2G large/file")
    (tmp_path / "up").mkdir()
    with (tmp_path / "up" / "f").open("wb") as file:
        file.truncate(2 * 1024 * MIB)
    name, up = {"file": ("large/file", "up/f"), "directory": ("large", "up")}[kind]

    async def cancelled(transfer: str) -> None:
        moving = asyncio.Event()
        target = daemon.target
        url = f"unix://{target.socket_path}"
        async with sandkasten.SandboxClient(base_url=url, api_key=target.api_key) as client:
            same = await client.get_session(session.id)

            async def run() -> None:
                if transfer == "download":
                    await same.download(name, tmp_path / "down", on_progress=lambda *_: moving.set())
                else:
                    await same.upload(tmp_path / up, filename="u", on_progress=lambda *_: moving.set())

            task = asyncio.create_task(run())
            await moving.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    for transfer in ("download", "upload"):
        started = time.monotonic()
        asyncio.run(cancelled(transfer))
        assert time.monotonic() - started < 10
    assert os.listdir(tmp_path) == ["up"]
    run_dir = Path(daemon.target.socket_path or "").parent.parent
    until(lambda: not list(run_dir.glob("sessions/*/staging/*")))
    assert session.exec("find . -type f").output == "./large/file\n"


# --- the page about it

EXAMPLES = {
    "project": [
        "['/workspace/project']\n['run', 'src']\n45\nproject-after\n",
        "'project-after/result.txt', 'project-after/run', 'project-after/src', 'project-after/src/main.py'",
    ],
    "model.bin": ["exceeds max_bytes=1000000"],
    "show": [" of 3000000\n", "3000000 of 3000000\n"],
}


@pytest.mark.parametrize("word", EXAMPLES)
def test_the_examples_of_the_page_about_files_run(word: str, data_dir: Path, tmp_path: Path) -> None:
    blocks = re.findall(
        r"(?<!-- run -->\n\n)^```python\n(.*?)^```$",
        (ROOT / "docs/files.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    # pandas is too large a dependency for one example: test_fsspec does the same without it.
    blocks = [block for block in blocks if "import pandas" not in block]
    assert len(blocks) == len(EXAMPLES)
    (code,) = [block for block in blocks if word in block]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "SANDKASTEN_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for expected in EXAMPLES[word]:
        assert expected in done.stdout
