"""Objects of one package that are given to the other are refused, and nothing runs half."""

from __future__ import annotations

import asyncio

import pytest

import sandkasten
import sandkasten_sync
from sandkasten.local.launch import LocalDaemon


def test_the_async_map_refuses_a_plain_function(daemon: LocalDaemon) -> None:
    async def main() -> None:
        url = f"unix://{daemon.target.socket_path}"
        async with sandkasten.SandboxClient(base_url=url, api_key=daemon.target.api_key) as client:
            with pytest.raises(sandkasten.SandkastenInputError, match=r"`async def`.*sandkasten_sync"):
                await client.map(lambda _session, _item: 1, [1, 2])  # type: ignore[arg-type, return-value]

    asyncio.run(main())


def test_the_blocking_map_refuses_an_async_function(daemon: LocalDaemon) -> None:
    async def wrong(_session: sandkasten_sync.Session, _item: int) -> None:
        raise AssertionError("ran")

    url = f"unix://{daemon.target.socket_path}"
    with (
        sandkasten_sync.SandboxClient(base_url=url, api_key=daemon.target.api_key) as client,
        pytest.raises(sandkasten_sync.SandkastenInputError, match=r"`async def`.*plain function"),
    ):
        client.map(wrong, [1, 2])
