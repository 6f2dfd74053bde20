"""Sessions that are not used expire: when, what counts as use, and what becomes of their processes."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.held import HeldDaemon
from tests.local.api.test_transfers import begin_put
from tests.local.box import Box, boxes, connect, until
from tests.processes import processes_with

MIB = 1024 * 1024
TTL_SECONDS = 100
MOST_OF_IT = 60  # twice that is more


@pytest.fixture
def make_held(held_daemon: HeldDaemon) -> Iterator[Callable[[], Box]]:
    """Make sessions that live by the held clock."""
    with boxes(held_daemon) as make:
        yield lambda: make(ttl_seconds=TTL_SECONDS)


@pytest.fixture
def held(make_held: Callable[[], Box]) -> Box:
    """A session that lives by the held clock."""
    return make_held()


def is_there(box: Box) -> bool:
    """Return whether the session lives; asking does not renew its lease."""
    answer = box.client.get(box.url)
    assert answer.status_code in {200, 410}
    return answer.status_code == 200


def last_activity(box: Box) -> datetime:
    return datetime.fromisoformat(box.client.get(box.url).json()["last_activity"])


def test_a_session_that_is_not_used_expires(held_daemon: HeldDaemon, held: Box) -> None:
    held_daemon.advance(TTL_SECONDS - 0.001)
    assert is_there(held)
    held_daemon.advance(0.001)
    for answer in (held.ask("true"), held.client.get(held.url), held.read("x"), held.destroy()):
        assert (answer.status_code, answer.json()["error_code"]) == (410, "SESSION_EXPIRED")
    assert held.id not in [session["id"] for session in held.client.get("/v1/sessions").json()]


def test_every_use_renews_the_lease_and_asking_about_a_session_does_not(
    held_daemon: HeldDaemon, make_held: Callable[[], Box]
) -> None:
    uses: list[Callable[[Box], httpx.Response]] = [
        lambda box: box.ask("true"),
        lambda box: box.ask("false"),
        lambda box: box.write("file", "y"),
        lambda box: box.client.post(f"{box.url}/fs/upload", files={"file": ("file", b"z")}),
        lambda box: box.read("file"),
    ]
    used, merely_seen = [make_held() for _ in uses], make_held()
    used[-1].write("file", "x")
    for turn in range(3):
        held_daemon.advance(MOST_OF_IT)
        for box, use in zip(used, uses, strict=True):
            answer = use(box)
            assert answer.status_code == 200, answer.text
        assert is_there(merely_seen) == (turn == 0), turn


def test_a_running_command_is_not_cut_by_expiry_and_its_end_counts_as_use(
    held_daemon: HeldDaemon, held: Box
) -> None:
    running = held.exec_in_background("echo > begun; until [ -e go ]; do sleep 0.01; done; echo whole")
    until((held.workspace / "begun").exists)
    held_daemon.advance(10 * TTL_SECONDS)
    assert held.write("go", "").status_code == 200
    assert running.answer().json()["output"] == "whole\n"
    held_daemon.advance(MOST_OF_IT)
    assert held.run("echo alive") == "alive\n"
    held_daemon.advance(TTL_SECONDS)
    assert not is_there(held)


def test_a_lease_is_renewed_while_something_is_under_way(held_daemon: HeldDaemon, held: Box) -> None:
    client = begin_put(held, "x", 4 * MIB, b"x" * 3 * MIB)
    created = last_activity(held)
    until(lambda: list(held.directory.glob("staging/*")))
    for _ in range(4):
        held_daemon.advance(MOST_OF_IT)
    assert (last_activity(held) - created).total_seconds() > 3 * MOST_OF_IT
    client.sendall(b"x" * MIB)
    assert client.recv(65536).startswith(b"HTTP/1.1 200")
    client.close()
    assert held.content("x") == b"x" * 4 * MIB
    held_daemon.advance(TTL_SECONDS)
    assert not is_there(held)


def test_expires_at_moves_with_use(held_daemon: HeldDaemon, held: Box) -> None:
    before = datetime.fromisoformat(held.info["expires_at"])
    held_daemon.advance(7)
    held.run("true")
    info = held.client.get(held.url).json()
    after = datetime.fromisoformat(info["expires_at"])
    assert (after - before).total_seconds() == 7
    assert (after - datetime.fromisoformat(info["last_activity"])).total_seconds() == TTL_SECONDS


def test_an_expired_sessions_processes_are_gone(held_daemon: HeldDaemon, held: Box) -> None:
    marker = f"18{secrets.randbelow(10**9):09d}"
    held.run(f"sleep {marker} & disown")
    until(lambda: processes_with(f"sleep\0{marker}"))
    held_daemon.advance(TTL_SECONDS)
    until(lambda: not processes_with(marker))


# --- sessions whose client left before it knew of them

GRACE_SECONDS = 15


def leave_while_it_is_made(daemon: HeldDaemon, client: httpx.Client, key: str) -> Iterator[dict[str, Any]]:
    """Ask for a session and hang up at once; yield what the daemon lists once it is made."""
    body = b'{"image": "base", "workspace_id": "%s", "ttl_seconds": 100}' % key.encode()  # never a warm one
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(daemon.target.socket_path or "")
        connection.sendall(
            b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\n"
            + f"Authorization: Bearer {daemon.target.api_key}\r\nIdempotency-Key: {key}\r\n".encode()
            + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )

    def made() -> list[dict[str, Any]]:
        listed = client.get("/v1/sessions").json()
        return [session for session in listed if session.get("workspace_id") == key]

    until(made)
    (session,) = made()
    yield session
    client.delete(f"/v1/sessions/{session['id']}")


@pytest.fixture
def unclaimed(held_daemon: HeldDaemon) -> Iterator[tuple[httpx.Client, dict[str, Any]]]:
    """A session whose client hung up, and a connection to its daemon."""
    with connect(held_daemon) as client:
        key = f"key-{secrets.token_hex(8)}"
        for session in leave_while_it_is_made(held_daemon, client, key):
            yield client, session


def test_a_session_that_no_client_knows_of_ends_after_a_time_of_grace(
    held_daemon: HeldDaemon, unclaimed: tuple[httpx.Client, dict[str, Any]]
) -> None:
    client, session = unclaimed
    held_daemon.advance(GRACE_SECONDS - 0.001)
    assert client.get(f"/v1/sessions/{session['id']}").status_code == 200
    held_daemon.advance(0.001)
    answer = client.get(f"/v1/sessions/{session['id']}")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "SESSION_NOT_FOUND")
    assert "its client left" in answer.json()["message"]
    assert 'sessions_ended_total{reason="unclaimed"} 0' not in client.get("/metrics").text


def test_a_client_that_comes_back_for_its_session_has_it_for_its_whole_lifetime(
    held_daemon: HeldDaemon, unclaimed: tuple[httpx.Client, dict[str, Any]]
) -> None:
    client, session = unclaimed
    held_daemon.advance(GRACE_SECONDS - 1)
    body = {"image": "base", "workspace_id": session["workspace_id"], "ttl_seconds": TTL_SECONDS}
    again = client.post("/v1/sessions", json=body, headers={"Idempotency-Key": session["workspace_id"]})
    assert (again.status_code, again.json()["id"]) == (201, session["id"])
    held_daemon.advance(TTL_SECONDS - 0.001)
    assert client.get(f"/v1/sessions/{session['id']}").status_code == 200
    held_daemon.advance(0.001)
    assert client.get(f"/v1/sessions/{session['id']}").status_code == 410
