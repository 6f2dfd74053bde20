"""The daemon's loop, where epoll has no watches left."""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import socket
from typing import Any

import pytest

from sandkasten.local.linux.loop import FrugalSelector, run


@pytest.fixture(params=[0, 3, 10**6])
def watches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of descriptors that epoll takes before it refuses, as at fs.epoll.max_user_watches."""
    left: int = request.param
    epoll_register = selectors.EpollSelector.register
    taken: list[Any] = []

    def register(self: selectors.EpollSelector, fileobj: Any, events: int, data: Any = None) -> Any:
        if len(taken) == left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken.append(fileobj)
        return epoll_register(self, fileobj, events, data)

    monkeypatch.setattr(selectors.EpollSelector, "register", register)
    return left


def test_servers_clients_and_threads_work(watches: int) -> None:
    async def main() -> list[bytes]:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(1 << 20))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1")
        address = server.sockets[0].getsockname()

        async def ask(letter: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(letter * (1 << 20))
            said = await reader.read()
            writer.close()
            return await asyncio.to_thread(lambda: said[:1] * (len(said) >> 20))

        async with server:
            return await asyncio.gather(*(ask(letter) for letter in (b"a", b"b", b"c", b"d")))

    assert run(main()) == [b"a", b"b", b"c", b"d"]


def test_each_descriptor_is_watched_once_and_for_what_was_asked(watches: int) -> None:
    pairs = [socket.socketpair() for _ in range(6)]
    with FrugalSelector() as selector:
        for number, (here, _) in enumerate(pairs):
            selector.register(here, selectors.EVENT_READ, number)
        assert selector.select(0) == []
        for _, there in pairs:
            there.send(b"x")
        assert sorted(key.data for key, _ in selector.select(1)) == list(range(6))
        for number, (here, _) in enumerate(pairs):
            with pytest.raises(KeyError):
                selector.register(here, selectors.EVENT_READ)
            selector.modify(here, selectors.EVENT_WRITE, -number)
            assert selector.get_key(here).data == -number
        assert {events for _, events in selector.select(1)} == {selectors.EVENT_WRITE}
        for here, _ in pairs:
            selector.unregister(here)
        assert selector.select(0) == []
        assert pairs[0][0] not in selector.get_map()
    for pair in pairs:
        for end in pair:
            end.close()
