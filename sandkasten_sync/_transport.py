"""The transport of the blocking client: HTTP/1.1 on plain sockets, one request after the other; by hand.

Its twin is `sandkasten/_transport/asynchronous.py`, which says when a connection carries another request.
Threads share one transport: each takes a connection for as long as its request takes.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import httpx

from sandkasten._config import Target
from sandkasten._limits import POOL_LIMITS
from sandkasten._transport.answers import Answer
from sandkasten._transport.idle import IdleMark, address_of
from sandkasten._transport.requests import Outgoing, Patience, outgoing, patience_of

_READ_BYTES = 256 * 1024
# Large bodies come in pieces of this size, which are read into one place.
_PIECE_BYTES = 1024 * 1024


class Transport(httpx.BaseTransport):
    """Carries the requests to one daemon."""

    def __init__(self, target: Target) -> None:
        """Connect nothing yet."""
        self._target = target
        self._idle: list[_Link] = []
        self._links: set[_Link] = set()
        self._changing = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return its answer as soon as the head is there.

        Raises:
            httpx.TransportError: there is no answer, by its class. A `ConnectError` or `ConnectTimeout` means
                that nothing was sent.
        """
        out = outgoing(request)
        patience = patience_of(request, time.monotonic())
        link = self._begun(out, patience)
        answer = Answer()
        try:
            if out.body is None:
                _send_body(link, out, request, patience)
            while not answer.has_head:
                link.more(answer, patience)
        except BaseException:
            self._drop(link)
            raise
        body = Body(self, link, answer, patience)
        stream: httpx.SyncByteStream = body
        if answer.is_complete:  # as that of nearly every small call
            stream = httpx.ByteStream(b"".join(answer.take()))
            body.close()
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=stream,
            request=request,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": answer.reason},
        )

    def close(self) -> None:
        """Close all connections; a thread that waits for an answer gets an error."""
        with self._changing:
            links, idle = self._links, self._idle
            self._links, self._idle = set(), []
        for link in idle:
            link.close()
        for link in links - set(idle):
            link.shut()  # its thread closes it

    def release(self, link: _Link, answer: Answer) -> None:
        """Let a connection carry another request, or close it if it cannot."""
        old = None
        with self._changing:
            idle, limit = self._idle, POOL_LIMITS.max_keepalive_connections or 0
            can_reuse = answer.can_reuse and link.is_sent and len(idle) < limit and link in self._links
            if can_reuse:
                link.mark.start()
                idle.append(link)
                if len(idle) > 1 and not idle[0].mark.is_fresh():  # the one that waits for the longest
                    old = idle.pop(0)
        if not can_reuse:
            old = link
        if old is not None:
            self._drop(old)

    def _begun(self, out: Outgoing, patience: Patience) -> _Link:
        """Return a connection on which the head was written, with the body if that is in memory."""
        first = out.head + out.body if out.body else out.head
        while True:
            with self._changing:
                link = self._idle.pop() if self._idle else None
            is_new = link is None
            if link is None:
                link = self._connected(patience)
            try:
                # Where the system refuses the first bytes, the daemon has seen none of them.
                if (is_new or link.mark.is_fresh()) and link.begin(
                    first, patience, is_whole=out.body is not None
                ):
                    return link
            except BaseException:
                self._drop(link)
                raise
            self._drop(link)
            if is_new:
                raise httpx.WriteError("the connection was closed at once")

    def _connected(self, patience: Patience) -> _Link:
        try:
            link = _Link(_connected(self._target, patience.connect))
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:  # it is not the system's
                raise httpx.ConnectTimeout(f"no connection within {patience.connect:g} s") from error
            raise httpx.ConnectError(str(error)) from error
        with self._changing:
            self._links.add(link)
        return link

    def _drop(self, link: _Link) -> None:
        with self._changing:
            self._links.discard(link)
        link.close()


class _Link:
    """One connection."""

    __slots__ = ("_poll", "_socket", "is_sent", "mark")

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._poll = select.poll()
        self._poll.register(connected.fileno(), select.POLLIN)
        self.mark = IdleMark(connected.fileno())
        self.is_sent = False  # whether all of the request was written

    def begin(self, data: bytes, patience: Patience, *, is_whole: bool) -> bool:
        """Write the beginning of a request, or all of it; return False if nothing of it was sent."""
        self.is_sent = False
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        is_sent = sent == len(data) or self.write(memoryview(data)[sent:], patience)
        self.is_sent = is_sent and is_whole
        return True

    def write(self, data: bytes | memoryview, patience: Patience) -> bool:
        """Write more of a request; return False if no more is wanted: the answer comes, or the end."""
        view = memoryview(data)
        while view:
            found = self._wait(select.POLLIN | select.POLLOUT, patience.write, patience)
            if not found:
                raise patience.too_late(time.monotonic(), writing=True)
            if found & ~select.POLLOUT:
                return False
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                continue
            except OSError:
                return False  # why, the answer says, or that there is none
        return True

    def more(self, answer: Answer, patience: Patience) -> None:
        """Wait until something more comes, and give it to the answer."""
        self._readable(patience)
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise httpx.ReadError(str(error)) from error
        if data:
            answer.feed(data)
        else:
            answer.end()

    def piece(self, answer: Answer, patience: Patience) -> bytearray | None:
        """Read a large piece of a body; None: too little of it is left."""
        if answer.left_bytes < _PIECE_BYTES:
            return None
        piece = bytearray(_PIECE_BYTES)
        view, at = memoryview(piece), 0
        while at < _PIECE_BYTES:
            self._readable(patience)
            try:
                count = self._socket.recv_into(view[at:])
            except BlockingIOError:
                continue
            except OSError as error:
                raise httpx.ReadError(str(error)) from error
            if not count:
                answer.end()
            at += count
        answer.skip(_PIECE_BYTES)
        return piece

    def shut(self) -> None:
        """End the connection under the thread that uses it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, whatever it carries."""
        self._socket.close()

    def _readable(self, patience: Patience) -> None:
        if not self._wait(select.POLLIN, patience.read, patience):
            raise patience.too_late(time.monotonic())

    def _wait(self, events: int, seconds: float | None, patience: Patience) -> int:
        """Wait for events; return those that came, 0 if none did in time."""
        now = time.monotonic()
        moment = patience.moment(now, seconds)
        if moment is not None and moment <= now:
            return 0
        if events != select.POLLIN:
            self._poll.modify(self._socket, events)
        try:
            found = self._poll.poll(None if moment is None else (moment - now) * 1000)
        finally:
            if events != select.POLLIN:
                self._poll.modify(self._socket, select.POLLIN)
        return found[0][1] if found else 0


class Body(httpx.SyncByteStream):
    """The body of an answer that is still coming."""

    def __init__(self, transport: Transport, link: _Link, answer: Answer, patience: Patience) -> None:
        """Read from a connection, which is let go of at the end."""
        self._transport, self._answer, self._patience = transport, answer, patience
        self._link: _Link | None = link

    def __iter__(self) -> Iterator[bytes]:
        answer = self._answer
        try:
            while True:
                yield from answer.take()
                if answer.is_complete:
                    break
                link = self._link
                if link is None:
                    raise httpx.ReadError("the connection was closed here")
                if (piece := link.piece(answer, self._patience)) is not None:
                    yield cast("bytes", piece)
                else:
                    link.more(answer, self._patience)
        finally:
            self.close()

    def limit(self, seconds: float | None) -> None:
        """Let the rest of the body take so many seconds; None: as long as something comes."""
        self._patience.restart(time.monotonic(), seconds)

    def close(self) -> None:
        """Let go of the connection."""
        link, self._link = self._link, None
        if link is not None:
            self._transport.release(link, self._answer)


def _connected(target: Target, seconds: float | None) -> socket.socket:
    if not target.socket_path:
        connected = socket.create_connection(address_of(target.base_url), seconds)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(seconds)
        connected.connect(target.socket_path)
    except BaseException:
        connected.close()
        raise
    return connected


def _send_body(link: _Link, out: Outgoing, request: httpx.Request, patience: Patience) -> None:
    """Send a body piece by piece; stop where the daemon answers before its end."""
    assert isinstance(request.stream, httpx.SyncByteStream)
    for piece in request.stream:
        for data in out.framed(piece):
            if not link.write(data, patience):
                return
    link.is_sent = link.write(out.end(), patience)
