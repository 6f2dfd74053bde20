"""Bounds for a peer whose key is not known yet: on bytes, on time, and on the number of connections.

uvicorn reads requests with httptools, and has no bounds of its own for them. So `Connection` counts what
comes before it is parsed, and `Connections` is what all connections of a daemon share. A connection is
*waiting* while its peer has to act: send a request or the rest of one, or read an answer. When all places
are taken, the connection that has waited longest loses its place; where none waits, the new one is refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from collections import Counter
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING

from sandkasten.local.api.http.exchange import Exchange, JoinedWrites
from sandkasten.local.api.http.handshakes import Handshakes, connect
from sandkasten.local.api.http.refusals import ambiguity, last_answer, too_large
from sandkasten.local.api.http.serving import Config, HttpToolsProtocol, ServerState
from sandkasten.local.clock import Alarm
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.observe.observer import Observer
from sandkasten.local.records import dataclass

if TYPE_CHECKING:
    from sandkasten.local.listen import Certificate

log = logging.getLogger("sandkasten.local")

_MOST_CONNECTIONS = 4096  # their heads together take 256 MiB at most, and with TLS as much again
_RECEIVED_BYTES = 256 * 1024
# In the scope of a request whose answer goes on for as long as a command does.
LIVE = "sandkasten.live"


def _half_of_the_descriptors() -> int:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if soft < 0 else max(1, min(_MOST_CONNECTIONS, soft // 2))


@dataclass(frozen=True)
class Bounds:
    """Bounds on what a peer may take.

    Attributes:
        head_bytes: of anything that is not content, in a row: a request's line and headers, what stands
            between the chunks of a body, trailers. Clients send some hundred bytes, and a path has 4 KiB.
        headers: of one request. Each takes a hundred bytes more in memory than on the wire.
        pipelined: requests on one connection that wait for the answer to an earlier one.
        head_seconds: for a request's head, from the first bytes or the start of the connection on; also for
            the rest of a body that nobody reads any more, since the request was answered before.
        idle_seconds: for how long a connection is kept between two requests.
        unread_seconds: for taking any further part of an answer, once the system holds no more of it. Not of
            a stream of events: who reads one may be at work on what came before, and cutting it off would
            stop a command.
        connections: how many there may be. The other descriptors are for sandboxes.
        handshakes: peers beside them that have not shown yet that they speak TLS.
        pause_seconds: between two attempts to accept a connection while no descriptor is left, and between
            two lines of the log about peers that were refused.
    """

    head_bytes: int = 64 * 1024
    headers: int = 128
    pipelined: int = 16
    head_seconds: float = 20.0
    idle_seconds: float = 75.0
    unread_seconds: float = 300.0
    connections: int = field(default_factory=_half_of_the_descriptors)
    handshakes: int = field(default_factory=lambda: max(1, _half_of_the_descriptors() // 4))
    pause_seconds: float = 1.0


class Connections:
    """The state that the connections of a daemon share."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        observer: Observer,
        bounds: Bounds,
        certificate: Certificate | None = None,
    ) -> None:
        """Begin without any connection; with a certificate they speak TLS."""
        self.bounds = bounds
        self._config = config
        self._state = state
        self._observer = observer
        self._waiting: dict[Connection, None] = {}  # in the order in which they began to wait
        self._refused = Counter[int]()
        self._is_pausing = False
        self._handshakes = None
        if certificate is not None:
            self._handshakes = Handshakes(
                certificate, bounds.handshakes, bounds.head_seconds, bounds.unread_seconds
            )
        # All connections receive into it, since each has parsed what it got before another gets more.
        self.buffer = memoryview(bytearray(_RECEIVED_BYTES))

    async def accept(self, listener: socket.socket) -> None:
        """Let peers in until this is cancelled.

        asyncio's own servers try again and again when no descriptor is left, a thousand log lines at a time.
        """
        try:
            await self._accept(listener)
        finally:
            if self._handshakes is not None:
                self._handshakes.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            try:
                peer, _address = await loop.sock_accept(listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if not self.close_one():
                    log.warning("No connection can be accepted: %s.", os.strerror(error.errno or 0))
                    await asyncio.sleep(self.bounds.pause_seconds)
                await asyncio.sleep(0)  # until the one is closed
                continue
            if self._handshakes is None:
                await connect(self._connection, peer)
            else:
                await self._handshakes.begin(self._connection, peer)

    def _connection(self) -> Connection:
        return Connection(self._config, self._state, self)

    def has_room(self) -> bool:
        """Return whether the newest connection may stay; the one that waited longest makes room for it."""
        return len(self._state.connections) <= self.bounds.connections or self.close_one()

    def close_one(self) -> bool:
        """Close the connection that has waited longest; False if none waits."""
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        self.busy(oldest)
        self._state.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def waits(self, connection: Connection) -> None:
        """A connection's peer has to act."""
        self._waiting.setdefault(connection)

    def busy(self, connection: Connection) -> None:
        """A connection's peer waits for this daemon, or is gone."""
        self._waiting.pop(connection, None)

    def refused(self, status: int) -> None:
        """Count a peer that was refused here, and log that soon, together with those that follow."""
        self._observer.refused(status)
        self._refused[status] += 1
        if not self._is_pausing:
            self._log_refused()

    def _log_refused(self) -> None:
        self._is_pausing = bool(self._refused)
        for status, count in sorted(self._refused.items()):
            log.warning("%d connections were refused with %d.", count, status)
        if self._is_pausing:
            self._refused.clear()
            asyncio.get_running_loop().call_later(self.bounds.pause_seconds, self._log_refused)


class _Part(Enum):
    """The part of a request that is being received."""

    NONE = "between two requests"
    HEAD = "head"
    BODY = "body"


class _RefusedError(Exception):
    """A request must not be read on; the parser hands this through as an error of its own."""


class Connection(HttpToolsProtocol, asyncio.BufferedProtocol):
    """One connection, within bounds; uvicorn's errors and this module's are answered as all others are."""

    def __init__(self, config: Config, state: ServerState, connections: Connections) -> None:
        """Belong to a daemon's connections."""
        super().__init__(config, state, {})
        self._all = connections
        self._bounds = connections.bounds
        self._part = _Part.NONE
        self._counted_bytes = 0  # since the last one of content, or the end of a head
        self._error = invalid_request("This is not a request of HTTP. Send one.")
        self._seconds: float | None = None  # for the peer to act
        self._alarm = Alarm(self.loop)
        self._unread_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._exchange: Exchange
        self._writes: JoinedWrites

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count a new connection, or refuse one too many."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._writes = JoinedWrites(transport)
        if self._all.has_room():
            self._watch()
        else:
            self._refuse(
                ApiError(503, "CAPACITY_EXCEEDED", "The daemon has too many connections. Try later.")
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that has ended."""
        self._alarm.close()
        self._stop_unread_timer()
        self._all.busy(self)
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return self._all.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse them; nothing holds on to the buffer afterwards."""
        self.data_received(self._all.buffer[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Parse in pieces that cannot hold more than a head may have."""
        view = memoryview(data)
        while view and not self.transport.is_closing():
            room = self._bounds.head_bytes - self._counted_bytes
            piece, view = view[:room], view[room:]
            self._counted_bytes += len(piece)
            super().data_received(piece)  # type: ignore[arg-type]  # httptools takes any buffer
            if self._counted_bytes >= self._bounds.head_bytes and not self.transport.is_closing():
                self._refuse(too_large(f"{self._bounds.head_bytes} bytes"))
        if not self.transport.is_closing():
            self._watch()

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        super().pause_writing()
        self._all.waits(self)
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """Go on writing: the peer has read."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_unread_timer()
        if self._seconds is None:
            self._all.busy(self)

    # --- what the parser calls; an exception ends in `send_400_response`

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        if len(self.pipeline) >= self._bounds.pipelined:
            self._give_up(invalid_request("Too many requests at once on one connection. Wait for an answer."))
        self._part = _Part.HEAD
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers mean nothing here, and would come after the key was looked at."""
        if self._part is not _Part.HEAD:
            return
        if len(self.headers) >= self._bounds.headers:
            self._give_up(too_large(f"{self._bounds.headers} headers"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request can be answered from here on."""
        if sentence := ambiguity(self.url, [name for name, _value in self.headers]):
            self._give_up(invalid_request(sentence))
        self._part = _Part.BODY
        self._counted_bytes = 0
        super().on_headers_complete()
        self._exchange = Exchange.of(self.cycle, self._writes)

    def on_body(self, body: bytes) -> None:
        """Content is bounded by those who read it."""
        self._counted_bytes = 0
        self._exchange.add(body)

    def on_message_complete(self) -> None:
        """Note that a request is complete."""
        self._part = _Part.NONE
        self._counted_bytes = 0
        super().on_message_complete()

    # --- what uvicorn calls

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for it; uvicorn would set a timer of its own."""
        self._writes.flush()
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, or let `_give_up` have its reason."""
        del msg
        self._refuse(self._error)

    # --- deadlines

    def _watch(self) -> None:
        """Set the peer a deadline if it has to act, and take it away if not; more bytes do not move it."""
        seconds = self._owed_within()
        if self.transport.is_closing():
            self._waits_to_be_read()
        elif seconds != self._seconds:
            self._seconds = seconds
            if seconds is None:
                self._alarm.clear()
                self._all.busy(self)
            else:
                self._all.waits(self)
                self._alarm.set(seconds, self._on_deadline)

    def _owed_within(self) -> float | None:
        if self.cycle is not None and not self.cycle.response_complete:
            return None
        is_idle = self.cycle is not None and self._part is _Part.NONE
        return self._bounds.idle_seconds if is_idle else self._bounds.head_seconds

    def _on_deadline(self) -> None:
        if self._part is _Part.HEAD:
            sentence = (
                f"The request's head did not come within {self._bounds.head_seconds:g} s. Send it at once."
            )
            self._refuse(ApiError(408, "REQUEST_TIMEOUT", sentence))
        else:
            self.transport.abort()

    def _waits_to_be_read(self) -> None:
        """The last answer was given: the connection closes when it was read."""
        self._all.waits(self)
        self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        """Look again in a while whether the peer has taken any of what waits for it."""
        self._stop_unread_timer()
        self._unread_bytes = self.transport.get_write_buffer_size()
        if self._unread_bytes:
            self._unread_timer = self.loop.call_later(self._bounds.unread_seconds, self.look_at_reader)

    def look_at_reader(self) -> None:
        """Close the connection if its peer has taken nothing since the last look."""
        if self.transport.get_write_buffer_size() >= self._unread_bytes and not self._is_live():
            self.transport.abort()
        else:
            self._wait_for_reader()

    def _is_live(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and LIVE in self.cycle.scope

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    # --- refusing

    def _give_up(self, error: ApiError) -> None:
        self._error = error
        raise _RefusedError

    def _refuse(self, error: ApiError) -> None:
        """Answer if an answer is what the peer would take it for, and close."""
        self._alarm.close()
        self._all.refused(error.status)
        if self._may_answer():
            self.transport.write(last_answer(error))
        self.transport.close()
        self._waits_to_be_read()

    def _may_answer(self) -> bool:
        if self._part is _Part.BODY:
            return not self.cycle.response_started and not self.pipeline
        return self.cycle is None or self.cycle.response_complete
