"""Interpreters that a test plays: it reads what the daemon asks, and answers as it likes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from sandkasten.local.errors import SandboxLostError
from sandkasten.local.isolation.programs import Program
from sandkasten.local.sessions.interpreters.program import first_bytes
from sandkasten.local.sessions.interpreters.run import Collected, PythonRun
from sandkasten.local.sessions.interpreters.table import Interpreters, Surroundings


class Peer:
    """An interpreter's end of all; see `programs.Spawned`.

    Attributes:
        control: its end of the channel.
        signals: those that it was sent.
        on_signal: called for each of them.
        out: its end of the standard output.
    """

    pid = 4242
    inside_pid: int | None = 42

    def __init__(self, control: int, out: int, err: int) -> None:
        self.control = socket.socket(fileno=control)
        self.control.setblocking(False)
        self.signals: list[int] = []
        self.on_signal: Callable[[int], None] = lambda _number: None
        self.out, self._err = out, err
        self._callbacks: list[Callable[[int], None]] = []
        self._unread = b""
        self._skips = len(first_bytes())
        self.has_ended = False

    # --- what the test does

    async def asked(self) -> dict[str, Any]:
        """Wait for the next request."""
        await self._exactly(self._skips)
        self._skips = 0
        (size,) = struct.unpack(">I", await self._exactly(4))
        request: dict[str, Any] = json.loads(await self._exactly(size))
        return request

    async def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            piece = await asyncio.get_running_loop().sock_recv(self.control, 65536)
            assert piece, "the daemon closed the channel"
            self._unread += piece
        found, self._unread = self._unread[:size], self._unread[size:]
        return found

    def say(self, event: str, number: int = 0, **fields: Any) -> None:
        """Send an event."""
        self.send(json.dumps({"event": event, "id": number, **fields}).encode())

    def send(self, body: bytes) -> None:
        """Send a frame."""
        self.raw(struct.pack(">I", len(body)) + body)

    def raw(self, data: bytes) -> None:
        """Send bytes, as many as there is room for."""
        self.control.send(data)

    def print(self, text: str, *, err: bool = False) -> None:
        """Print something."""
        os.write(self._err if err else self.out, text.encode())

    async def answer(self, value: str = "") -> dict[str, Any]:
        """Take a request and answer it at once; return the request."""
        request = await self.asked()
        if value:
            self.say("result", request["id"], data={"text/plain": value}, metadata={})
        self.say("done", request["id"])
        return request

    def end(self, code: int) -> None:
        """End."""
        if not self.has_ended:
            self.has_ended = True
            self.control.close()
            os.close(self.out)
            os.close(self._err)
            loop = asyncio.get_running_loop()
            for callback in self._callbacks:
                loop.call_soon(callback, code)

    # --- what the daemon calls

    def on_ended(self, callback: Callable[[int], None]) -> None:
        self._callbacks.append(callback)

    def signal(self, number: int, *, group: bool = True) -> bool:
        assert group
        self.signals.append(number)
        self.on_signal(number)
        return not self.has_ended

    def signal_all(self, number: int) -> asyncio.Future[int]:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        found.set_result(0 if self.has_ended else 1)
        if number == signal.SIGKILL:
            self.signals.append(number)
            self.end(-signal.SIGKILL)
        return found


class Played:
    """A sandbox, as far as interpreters know one.

    Attributes:
        peers: the interpreters that it started.
        programs: what they were to be.
        refusals: the errors of the next spawns.
    """

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.programs: list[Program] = []
        self.refusals: list[Exception] = []
        self.idle_programs = 0
        self._started = asyncio.Event()

    async def spawn(self, program: Program, stdin: int, stdout: int, stderr: int) -> Peer:
        self.programs.append(program)
        if self.refusals:
            raise self.refusals.pop(0)
        peer = Peer(os.dup(stdin), os.dup(stdout), os.dup(stderr))
        self.peers.append(peer)
        self._started.set()
        self._started = asyncio.Event()
        return peer

    async def peer(self, index: int = 0) -> Peer:
        """Wait for an interpreter."""
        while len(self.peers) <= index:
            await self._started.wait()
        return self.peers[index]

    async def ready(self, index: int = 0) -> Peer:
        """Wait for an interpreter, which is ready then."""
        peer = await self.peer(index)
        peer.say("ready", version="3.12.1")
        return peer


class Stage:
    """The contexts of a session whose interpreters are played."""

    def __init__(self, sandbox: Played, *, processes: int | None = None, out_of_memory: bool = False) -> None:
        self.sandbox = sandbox
        self.contexts = Interpreters(
            Surroundings(
                sandbox,  # type: ignore[arg-type]  # what interpreters use of one  # pyright: ignore[reportArgumentType]
                {"PATH": "/usr/bin"},
                lambda _job: None,
                lambda _job: out_of_memory,
                processes,
                None,
            )
        )

    def run(self, code: str, name: str = "default", *, timeout_ms: int = 60_000) -> PythonRun:
        """Have code run."""
        return self.contexts.run(name, code, timeout_ms, lambda _run: Collected(100_000))


@contextmanager
def staged(*, processes: int | None = None, out_of_memory: bool = False) -> Generator[Stage]:
    """A stage until the block ends; then all of it has ended."""
    sandbox = Played()
    stage = Stage(sandbox, processes=processes, out_of_memory=out_of_memory)
    try:
        yield stage
    finally:
        stage.contexts.close(SandboxLostError("the session ended"))
        for peer in sandbox.peers:
            peer.end(-signal.SIGKILL)


async def ended(run: PythonRun) -> dict[str, Any]:
    """Wait for a run's end, and return its result."""
    while await run.next_output() is not None:
        pass
    assert run.outcome is not None
    assert isinstance(run.sink, Collected)
    return {**run.outcome.result, "results": run.sink.results, "truncated": run.sink.truncated}
