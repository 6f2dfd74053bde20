"""Ports of a sandbox that programs of this machine reach, though it has no network.

A connection to this side is joined, by a program in the sandbox, with one to the port there. Nothing in the
sandbox can begin one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import anyio

from sandkasten.errors import SandkastenError
from sandkasten.integrations._adapters.making import made
from sandkasten.process import Process
from sandkasten.session import Session

_MOST_CONNECTIONS = 64
_PIECE_BYTES = 64 * 1024
_LAST_SECONDS = 5.0
_PYTHON = ("python3", "-I", "-S", "-c")
# Joins its standard input and output with a port; each direction ends by itself.
_RELAY = """
import os, socket, sys, threading

port = socket.create_connection(("localhost", int(sys.argv[1])))

def send():
    while data := os.read(0, 65536):
        port.sendall(data)
    port.shutdown(socket.SHUT_WR)

threading.Thread(target=send, daemon=True).start()
while data := port.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
"""


class Ports:
    """The ports of one session."""

    def __init__(self) -> None:
        """Begin with no port."""
        self._servers: dict[int, asyncio.Server] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def listen(self, session: Session, port: int) -> int:
        """Return the port of 127.0.0.1 on this side that stands for one of a session.

        Raises:
            SandkastenError: the session is gone; it starts no processes, or has no Python.
            OSError: this machine does not let the process listen.
        """
        if port not in self._servers:
            async with await session.start([*_PYTHON, "import threading"]) as trial:
                await trial.wait()
            begin = partial(self._begin, session, port)
            server = await asyncio.start_server(begin, "127.0.0.1", 0)
            if port in self._servers:  # somebody else was faster
                server.close()
            else:
                self._servers[port] = server
        number: int = self._servers[port].sockets[0].getsockname()[1]
        return number

    async def close(self) -> None:
        """End all connections, and listen no longer."""
        servers, self._servers = self._servers, {}
        for server in servers.values():
            server.close()
        tasks = tuple(self._serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(
        self, session: Session, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if port not in self._servers or len(self._serving) >= _MOST_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(_serve(session, port, reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)


async def _serve(
    session: Session, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection to its end; if nothing listens in the sandbox, that is at once."""
    try:
        starting = session.start([*_PYTHON, _RELAY, str(port)], stdin=True)
        relay = await made(starting, partial(Process.close, force=True))
        sending = asyncio.create_task(_send(reader, relay))
        try:
            await _receive(relay, writer)
        finally:
            sending.cancel()
            with anyio.move_on_after(_LAST_SECONDS, shield=True), suppress(SandkastenError):
                await relay.close(force=True)
    except (SandkastenError, OSError):
        writer.transport.abort()
    finally:
        writer.close()


async def _send(reader: asyncio.StreamReader, relay: Process) -> None:
    with suppress(SandkastenError):  # the relay has ended
        with suppress(OSError):
            while data := await reader.read(_PIECE_BYTES):
                await relay.write(data)
        await relay.close_stdin()


async def _receive(relay: Process, writer: asyncio.StreamWriter) -> None:
    async for chunk in relay:
        if chunk.missed_bytes:
            raise ConnectionAbortedError("bytes of the sandbox were lost")
        if chunk.stream == "stdout":
            writer.write(chunk.data)
            await writer.drain()
