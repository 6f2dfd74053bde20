"""An HTTP client of the caller's own, and clients after a fork."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import sandkasten
import sandkasten_sync
from sandkasten.errors import SandkastenInputError
from sandkasten.testing import FakeDaemon
from tests.scripted import OK, Line, Script, answering, scripted

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_a_blocking_client_of_ones_own_is_used_and_left_open() -> None:
    seen: list[str] = []
    with (
        FakeDaemon() as daemon,
        httpx.Client(event_hooks={"request": [lambda r: seen.append(r.url.path)]}) as own,
    ):
        with sandkasten_sync.SandboxClient(base_url=daemon.url, http_client=own) as client:
            client.list_sessions()
        assert seen == ["/v1/sessions"]
        assert not own.is_closed


async def test_an_async_client_of_ones_own_is_used_and_left_open() -> None:
    async with httpx.AsyncClient(headers={"X-Mine": "1"}) as own:
        with FakeDaemon() as daemon:
            async with sandkasten.SandboxClient(base_url=daemon.url, http_client=own) as client:
                await client.list_sessions()
        assert not own.is_closed


@pytest.mark.parametrize("base_url", [None, "unix:///run/daemon.sock"])
def test_a_client_of_ones_own_needs_a_url_it_can_reach(base_url: str | None) -> None:
    with httpx.Client() as own, pytest.raises(SandkastenInputError, match="needs a base_url"):
        sandkasten_sync.SandboxClient(base_url=base_url, http_client=own)


@pytest.mark.parametrize("max_retries", [-1, 101, 1.5, True])
def test_a_number_of_retries_that_cannot_be_is_refused(max_retries: int) -> None:
    with pytest.raises(SandkastenInputError, match="max_retries"):
        sandkasten_sync.SandboxClient(max_retries=max_retries)


FORKING = """
import os, sys
from sandkasten_sync import SandboxClient, SandkastenError

client = SandboxClient(base_url=sys.argv[1])
session = client.create_session()
session.exec("true")
if os.fork() == 0:
    try:
        session.exec("true")
    except SandkastenError as error:
        os.write(1, str(error).encode() + b"\\n")
    os._exit(0)
os.wait()
print(session.exec("true").exit_code)
"""


def test_a_client_that_was_used_before_a_fork_is_refused_after_it() -> None:
    with FakeDaemon() as daemon:
        argv = [sys.executable, "-c", FORKING, daemon.url]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "This client was used before the fork. Make a new SandboxClient after it.\n0\n"


# --- what stands in front of a daemon, or takes its place

SPOILT: dict[str, Script] = {
    "a page": answering(b"<html>"),
    "two lengths": answering(OK.replace(b"\r\n\r\n", b"\r\ncontent-length: 9\r\n\r\n")),
    "another protocol": answering(b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_an_answer_that_is_none_is_a_lost_connection_to_the_caller(name: str) -> None:
    with (
        scripted(SPOILT[name]) as peer,
        sandkasten_sync.SandboxClient(base_url=peer.url, max_retries=0) as client,
        pytest.raises(httpx.HTTPError, match="was lost before the answer") as caught,
    ):
        client.list_sessions()
    assert "look before you repeat it" in str(caught.value)


def test_a_cookie_of_what_stands_in_front_of_daemons_is_sent_back() -> None:
    body = b'{"sessions": []}'
    answer = b"HTTP/1.1 200 OK\r\nset-cookie: at=3\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    def answer_both(line: Line) -> None:
        while line.request() is not None:
            line.send(answer)

    with scripted(answer_both) as peer, sandkasten_sync.SandboxClient(base_url=peer.url) as client:
        for _ in range(2):
            client.list_sessions()
    assert [request.headers.get("cookie") for request in peer.requests] == [None, "at=3"]
