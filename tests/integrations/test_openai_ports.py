"""Ports of a sandbox of the OpenAI Agents SDK, reached by a program of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from agents.sandbox.errors import ExposedPortUnavailableError
from agents.sandbox.session import SandboxSession

from sandkasten import SandboxClient, Session
from sandkasten.integrations.openai_agents.sandbox import (
    SandkastenSandboxClient,
    SandkastenSandboxClientOptions,
    SandkastenSandboxSessionState,
)

ECHO = """
import socketserver

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while piece := self.request.recv(65536):
            self.request.sendall(piece)
        self.request.sendall(b"end")

server = socketserver.ThreadingTCPServer(("127.0.0.1", 8000), Echo)
print("ready", flush=True)
server.serve_forever()
"""


@asynccontextmanager
async def sandbox(client: SandboxClient) -> AsyncIterator[tuple[SandboxSession, Session]]:
    """Yield a sandbox without a network, whose ports 8000 and 8001 are exposed, and the session below."""
    options = SandkastenSandboxClientOptions(network="none", exposed_ports=(8000, 8001))
    box = await SandkastenSandboxClient(client).create(options=options)
    assert isinstance(box.state, SandkastenSandboxSessionState)
    yield box, await client.get_session(box.state.sandbox_id)
    await box.shutdown()


async def talk(port: int, sent: bytes) -> bytes:
    """Send something and the end of it, and return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


async def test_a_server_in_a_sandbox_is_reached_without_a_network(client: SandboxClient) -> None:
    content = bytes(range(256)) * 12_000
    async with sandbox(client) as (box, session), await session.start(["python3", "-c", ECHO]) as server:
        await anext(aiter(server))  # it listens
        endpoint = await box.resolve_exposed_port(8000)
        assert endpoint.host == "127.0.0.1"
        assert (await box.resolve_exposed_port(8000)).port == endpoint.port
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        writer.write("ä☃".encode())
        assert await reader.readexactly(5) == "ä☃".encode()  # and stays open beside the others
        answers = await asyncio.gather(talk(endpoint.port, content), talk(endpoint.port, b""))
        assert answers == [content + b"end", b"end"]
        await server.kill()
        assert await reader.read() == b""
        writer.close()
        await box.shutdown()
        with pytest.raises(ConnectionRefusedError):
            await talk(endpoint.port, b"")


async def test_connections_end_if_nothing_listens_or_with_their_sandbox(client: SandboxClient) -> None:
    async with sandbox(client) as (box, session):
        silent = await box.resolve_exposed_port(8001)
        assert await talk(silent.port, b"") == b""
        async with await session.start(["python3", "-c", ECHO]) as server:
            await anext(aiter(server))
            endpoint = await box.resolve_exposed_port(8000)
            reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
            writer.write(b"a")
            assert await reader.readexactly(1) == b"a"
            await session.destroy()
            assert await reader.read() == b""
            writer.close()


async def test_a_port_that_cannot_be_reached_is_an_error(client: SandboxClient) -> None:
    async with sandbox(client) as (box, session):
        with pytest.raises(ExposedPortUnavailableError, match="not configured"):
            await box.resolve_exposed_port(8002)
        await session.destroy()
        with pytest.raises(ExposedPortUnavailableError) as gone:
            await box.resolve_exposed_port(8000)
        assert "session" in str(gone.value.context["detail"])
