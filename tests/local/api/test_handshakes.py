"""Peers that have not shown yet that they speak TLS: bounded in number and time, and in nobody's way."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from sandkasten.local.listen import Certificate

from .test_connections import BOUNDS, GET, SOON, Peers, peers


class Keys:
    """A certificate, and how a client checks it."""

    def __init__(self, place: Path) -> None:
        authority = trustme.CA()
        made = authority.issue_cert("localhost")
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        (place / "key").touch(0o600)
        made.private_key_pem.write_to_path(place / "key")
        made.cert_chain_pems[0].write_to_path(place / "certificate")
        self.certificate = Certificate(place / "certificate", place / "key")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


async def answer(made: Peers, keys: Keys) -> bytes:
    """The answer that a client gets which does speak TLS."""
    reader, writer = await asyncio.open_unix_connection(
        str(made.path), ssl=keys.trust, server_hostname="localhost"
    )
    writer.write(GET)
    try:
        return await reader.readuntil(b"yes:")
    finally:
        writer.transport.abort()


async def test_silent_peers_are_in_nobodys_way(tmp_path: Path, keys: Keys) -> None:
    async with peers(tmp_path, BOUNDS, keys.certificate) as made:
        for _ in range(5):
            await made.connect()
        for _ in range(3):
            assert b" 200 " in await answer(made, keys)


async def test_the_oldest_silent_peer_makes_room(tmp_path: Path, keys: Keys) -> None:
    async with peers(tmp_path, replace(BOUNDS, handshakes=3), keys.certificate) as made:
        silent = [await made.connect() for _ in range(20)]
        for reader, _writer in silent[:17]:
            assert await reader.read() == b""  # it was closed, and got nothing
        assert b" 200 " in await answer(made, keys)
        assert sum(not reader.at_eof() for reader, _writer in silent) <= 3


async def test_a_full_daemon_lets_newcomers_in_for_those_that_wait(tmp_path: Path, keys: Keys) -> None:
    bounds = replace(BOUNDS, connections=3, handshakes=100)
    async with peers(tmp_path, bounds, keys.certificate) as made:
        idle = [
            await asyncio.open_unix_connection(str(made.path), ssl=keys.trust, server_hostname="localhost")
            for _ in range(3)
        ]
        while len(made.state.connections) < 3:
            await asyncio.sleep(0)
        answers = await asyncio.gather(*(answer(made, keys) for _ in range(8)))
        assert all(b" 200 " in one for one in answers)
        for _reader, writer in idle:
            writer.transport.abort()


async def test_a_handshake_has_a_deadline(tmp_path: Path, keys: Keys) -> None:
    async with peers(tmp_path, replace(BOUNDS, head_seconds=SOON), keys.certificate) as made:
        reader, _writer = await made.connect()
        assert await reader.read() == b""


@pytest.mark.parametrize("data", [GET, b"\x16\x03\x01\xff\xff" + bytes(100), b"\x00" * 1000])
async def test_bytes_that_are_no_tls_close_the_connection(tmp_path: Path, keys: Keys, data: bytes) -> None:
    async with peers(tmp_path, BOUNDS, keys.certificate) as made:
        reader, writer = await made.connect(data)
        writer.write_eof()
        assert b"yes" not in await reader.read()
        assert b" 200 " in await answer(made, keys)


async def test_all_ends_with_the_daemon(tmp_path: Path, keys: Keys) -> None:
    async with peers(tmp_path, BOUNDS, keys.certificate) as made:
        reader, _writer = await made.connect()
        await answer(made, keys)  # so that the silent one has been accepted
    assert await reader.read() == b""
