"""The way to a kernel's sockets: connections to sockets of this side become frames on a process's input.

The kernel has no network, and no directory is shared with it. Memory is bounded, since the tunnel waits for
whoever does not take bytes. It ends at the first frame that makes no sense.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

from sandkasten.errors import SandkastenError
from sandkasten.notebook.kernels.frames import (
    MAX_BYTES,
    MAX_CONNECTIONS,
    BrokenFramesError,
    Frame,
    Kind,
    Reader,
)
from sandkasten.process import Process

_MOST_BYTES = 8 * 1024 * 1024
_NUMBERS = 2**16
# Of the event loop: from a connection that a server has accepted to its `_begin`. Python 3.11 to 3.13 take 3.
_TURNS_TO_BEGIN = 5


class Tunnel:
    """Listens on this side, and joins connections with those that a relay makes."""

    def __init__(self, relay: Process, on_broken: Callable[[str], None]) -> None:
        """Use a relay that runs; `on_broken` is called with the reason when it does no more."""
        self._relay = relay
        self._on_broken = on_broken
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._leaving = bytearray()
        self._has_bytes = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._servers: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        # One task for each connection. It may be cancelled before it runs, so `close` ends connections.
        self._serving = dict[asyncio.Task[None], asyncio.StreamWriter]()
        self._is_closed = False
        self._next = 0
        # Whether the sandbox's Python has ipykernel, as soon as its relay runs.
        self.ready = asyncio.get_running_loop().create_future()

    async def start(self, prefix: Path, channels: range) -> None:
        """Listen at a Unix socket for each channel; their paths begin with `prefix`."""
        for channel in channels:
            serve = partial(self._begin, channel)
            self._servers.append(await asyncio.start_unix_server(serve, f"{prefix}-{channel}"))
        self._tasks = [asyncio.create_task(self._move(work)) for work in (self._send(), self._receive())]

    async def close(self) -> None:
        """End all connections."""
        await self._stop_listening()
        tasks = (*self._tasks, *self._serving)
        for writer in self._serving.values():
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _stop_listening(self) -> None:
        """Close the servers, once all that they accepted has come to `_begin`; else it stays open."""
        self._is_closed = True
        for server in self._servers:
            for listener in server.sockets:
                asyncio.get_running_loop().remove_reader(listener)
        for _ in range(_TURNS_TO_BEGIN):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()

    async def _move(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
            reason = "the relay ended"
        except (SandkastenError, BrokenFramesError) as error:
            reason = str(error)
        if not self.ready.done():
            self.ready.set_exception(BrokenFramesError(reason))
        self._on_broken(reason)

    def _begin(self, channel: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closed or len(self._serving) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(channel, reader, writer))
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)

    async def _serve(self, channel: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._pass_on(channel, reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _pass_on(
        self, channel: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while self._next in self._writers:
            self._next = (self._next + 1) % _NUMBERS
        number = self._next
        self._next = (self._next + 1) % _NUMBERS  # those of connections that ended come again late
        self._writers[number] = writer
        self._put(Frame(Kind.OPEN, number, bytes([channel])))
        with contextlib.suppress(OSError):
            while data := await reader.read(MAX_BYTES):
                self._put(Frame(Kind.DATA, number, data))
                await self._has_room.wait()
        if self._writers.pop(number, None) is not None:
            self._put(Frame(Kind.CLOSE, number))

    def _put(self, frame: Frame) -> None:
        self._leaving += bytes(frame)
        self._has_bytes.set()
        if len(self._leaving) > _MOST_BYTES:
            self._has_room.clear()

    async def _send(self) -> None:
        while True:
            await self._has_bytes.wait()
            self._has_bytes.clear()
            data = bytes(self._leaving)
            self._leaving.clear()
            self._has_room.set()
            if data:
                await self._relay.write(data)

    async def _receive(self) -> None:
        frames = Reader()
        async for chunk in self._relay:
            if chunk.missed_bytes:
                raise BrokenFramesError("bytes of the relay were lost")
            if chunk.stream == "stdout":
                for frame in frames.feed(chunk.data):
                    await self._take(frame)

    async def _take(self, frame: Frame) -> None:
        """Do what a frame says; of a connection that there is no more, or never was, nothing."""
        if frame.kind is Kind.READY:
            if not self.ready.done():
                self.ready.set_result(frame.data == b"\1")
            return
        writer = self._writers.get(frame.connection)
        if writer is None:
            return
        if frame.kind is Kind.CLOSE:
            del self._writers[frame.connection]
            writer.close()
            return
        writer.write(frame.data)
        with contextlib.suppress(OSError):
            await writer.drain()
