"""For all suites: asyncio, one embedded daemon, sessions of both packages on it, and examples."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sandkasten_sync
from sandkasten import SandboxClient, Session
from sandkasten.local.launch import LocalDaemon, start_daemon

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def daemon() -> Iterator[LocalDaemon]:
    daemon = start_daemon()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def address(daemon: LocalDaemon) -> dict[str, str]:
    """The daemon's address, for clients of both packages."""
    return {"base_url": f"unix://{daemon.target.socket_path}", "api_key": daemon.target.api_key or ""}


@pytest.fixture
async def session(address: dict[str, str]) -> AsyncIterator[Session]:
    async with SandboxClient(**address) as client, await client.create_session() as session:
        yield session


@pytest.fixture
def blocking(address: dict[str, str]) -> Iterator[sandkasten_sync.Session]:
    with sandkasten_sync.SandboxClient(**address) as client, client.create_session() as session:
        yield session


@pytest.fixture
def check_example(
    address: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[[str], None]:
    """Return a function that runs an example as it stands; it prints what its page says.

    In a thread, which has no event loop yet, and here, since another Python would import the framework anew.
    """
    monkeypatch.setenv("SANDKASTEN_BASE_URL", address["base_url"])
    monkeypatch.setenv("SANDKASTEN_API_KEY", address["api_key"])
    monkeypatch.setattr(sys, "argv", ["example"])
    monkeypatch.chdir(tmp_path)

    def check(name: str) -> None:
        path = EXAMPLES / name
        with ThreadPoolExecutor(1) as thread:
            thread.submit(runpy.run_path, str(path), run_name="__main__").result()
        (page,) = re.findall(r"(?ms)^```text\n(.*?)^```$", path.with_suffix(".md").read_text("utf-8"))
        assert capsys.readouterr().out == page

    return check
