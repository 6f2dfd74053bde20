"""`sandkasten mcp`, started as clients start it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

import httpx2
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.cli.program import EXECUTABLE, Home


@pytest.fixture
def url(cli: Home) -> str:
    """The URL of the daemon in the background, which need not be started once more."""
    return str(json.loads(cli("status", "--json"))["url"])


def key_file(cli: Home) -> str:
    return str(json.loads(cli("status", "--json"))["key_file"])


def test_a_client_starts_it_and_its_sandbox_ends_with_the_client(cli: Home, url: str) -> None:
    words = ["--url", url, "--api-key-file", key_file(cli), "mcp", "--memory", "200m"]
    server = StdioServerParameters(command=str(EXECUTABLE), args=words, env=cli.environ)

    async def use() -> str:
        async with Client(stdio_client(server)) as mcp:
            assert "exec" in [tool.name for tool in (await mcp.list_tools()).tools]
            result = await mcp.call_tool("exec", {"command": "echo $((6 * 7)); stat -c %d /workspace"})
            assert len(cli("ls", "-q").split()) == before + 1
            return str(getattr(result.content[0], "text", ""))

    before = len(cli("ls", "-q").split())
    assert asyncio.run(use()).startswith("exit code 0, directory /workspace\n42\n")
    assert len(cli("ls", "-q").split()) == before


def test_over_http_it_says_its_url_and_makes_a_key(cli: Home, url: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    words = ["--url", url, "--api-key-file", key_file(cli)]
    process = cli.start(*words, "mcp", "--http", "127.0.0.1:0", "--key-file", key)
    try:
        assert process.stdout is not None
        served = os.fsdecode(process.stdout.readline()).strip()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert httpx2.post(served, json=body).status_code == 401
        headers = {"Authorization": f"Bearer {key.read_text().strip()}"}

        async def use() -> bool:
            async with (
                httpx2.AsyncClient(headers=headers, timeout=30) as http,
                Client(streamable_http_client(served, http_client=http)) as mcp,
            ):
                return (await mcp.call_tool("exec", {"command": "true"})).is_error

        assert asyncio.run(use()) is False
    finally:
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert key.read_text().strip() not in said.decode()
