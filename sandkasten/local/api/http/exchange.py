"""One request of uvicorn's and its answer, with fewer copies and system calls than uvicorn makes."""

from __future__ import annotations

import asyncio
from typing import cast

from sandkasten.local.api.http.messages import Receive
from sandkasten.local.api.http.serving import ASGIReceiveEvent, ASGISendEvent, RequestResponseCycle

# So much of a body waits for its handler before the connection is read no more.
_HIGH_WATER_BYTES = 1024 * 1024
# A larger part of an answer is not copied behind its head.
_JOINED_BYTES = 64 * 1024


class JoinedWrites:
    """A connection's transport: the head of an answer goes with what follows it, by one system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        """Write by a transport."""
        self._transport = transport
        self._holds = False
        self._head = b""
        self.is_closing = transport.is_closing
        self.abort = transport.abort

    def hold(self) -> None:
        """Keep what is written next until there is more, or `flush`."""
        self._holds = True

    def write(self, data: bytes) -> None:
        """Write, or keep the head."""
        if self._holds:
            self._holds, self._head = False, data
        elif len(data) <= _JOINED_BYTES:
            head, self._head = self._head, b""
            self._transport.write(head + data if head else data)
        else:
            self.flush()
            self._transport.write(memoryview(data))  # of which the transport copies no more than it must

    def flush(self) -> None:
        """Write the head, if it still waits."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Close the transport, once all is written."""
        self.flush()
        self._transport.close()


class Exchange(RequestResponseCycle):
    """A request as uvicorn made it, and its answer; the body is kept in the pieces that the parser gives."""

    pieces: list[bytes]
    size_bytes: int

    @classmethod
    def of(cls, cycle: RequestResponseCycle, writes: JoinedWrites) -> Exchange:
        """Return a cycle that has not run, as one of these; uvicorn has no other place for that."""
        cycle.__class__ = cls
        exchange = cast("Exchange", cycle)
        exchange.transport = cast("asyncio.Transport", writes)
        exchange.pieces, exchange.size_bytes = [], 0
        return exchange

    def add(self, piece: bytes) -> None:
        """Take a piece of the body."""
        if self.response_complete:
            return
        self.pieces.append(piece)
        self.size_bytes += len(piece)
        if self.size_bytes > _HIGH_WATER_BYTES:
            self.flow.pause_reading()
        self.message_event.set()

    def whole(self) -> bytes | None:
        """Return the body if all of it is here, and leave nothing of it; None otherwise."""
        if self.more_body or self.disconnected:
            return None
        self.message_event.clear()
        return self._taken()

    async def receive(self) -> ASGIReceiveEvent:
        """See ASGI."""
        message = await super().receive()
        if message["type"] == "http.request":
            message["body"] = self._taken()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """See ASGI."""
        if message["type"] == "http.response.start":
            cast("JoinedWrites", self.transport).hold()
        await super().send(message)

    def _taken(self) -> bytes:
        pieces, self.pieces, self.size_bytes = self.pieces, [], 0
        return b"".join(pieces)


def whole_body(receive: Receive) -> bytes | None:
    """Return a request's body if nobody has received any of it and all is here; None otherwise."""
    exchange = getattr(receive, "__self__", None)
    return exchange.whole() if isinstance(exchange, Exchange) else None


def abort(receive: Receive) -> None:
    """Break a connection off, with all that is still on its way to a client that may not take it.

    ASGI has no word for that. With uvicorn, `receive` is a method of what holds the transport.
    """
    exchange: RequestResponseCycle = receive.__self__  # type: ignore[attr-defined]
    exchange.transport.abort()
