"""The handshakes of TLS, which come before a peer is a connection: beside each other, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio import sslproto
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandkasten.local.listen import Certificate

# asyncio gives each connection a buffer of 256 KiB before its peer has sent anything.
_BUFFER_BYTES = 64 * 1024

Protocols = Callable[[], asyncio.BaseProtocol]


async def connect(protocols: Protocols, peer: socket.socket) -> None:
    """Make a connection of a peer that was accepted, without TLS."""
    try:
        await asyncio.get_running_loop().connect_accepted_socket(protocols, peer)
    except OSError:
        peer.close()


class Handshakes:
    """Peers that have not shown yet that they speak TLS."""

    def __init__(
        self, certificate: Certificate, most: int, handshake_seconds: float, goodbye_seconds: float
    ) -> None:
        """Show a certificate to so many peers at a time, and give each so long for handshake and goodbye.

        The goodbye includes what the peer has not read yet.
        """
        self._certificate = certificate
        self._most = most
        self._handshake_seconds = handshake_seconds
        self._goodbye_seconds = goodbye_seconds
        sslproto.SSLProtocol.max_size = _BUFFER_BYTES
        self._peers: dict[asyncio.Task[None], socket.socket] = {}  # in the order in which they came

    async def begin(self, protocols: Protocols, peer: socket.socket) -> None:
        """Let a peer in, beside others, since it may take its time; the oldest makes room for it."""
        if len(self._peers) >= self._most:
            _end(self._peers.pop(next(iter(self._peers))))
        task = asyncio.get_running_loop().create_task(self._shake_hands(protocols, peer))
        self._peers[task] = peer
        task.add_done_callback(lambda done: self._peers.pop(done, None))
        await asyncio.sleep(0)  # the others have their turn, however many peers come

    def close(self) -> None:
        """End them all."""
        for peer in self._peers.values():
            _end(peer)

    async def _shake_hands(self, protocols: Protocols, peer: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocols,
                peer,
                ssl=self._certificate.context(),
                ssl_handshake_timeout=self._handshake_seconds,
                ssl_shutdown_timeout=self._goodbye_seconds,
            )
        except Exception:  # of a handshake; its peer knows why, or does not care
            peer.close()


def _end(peer: socket.socket) -> None:
    """End a handshake as its peer would; a task that is cancelled could leave the connection to nobody."""
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
