"""The bytes of several connections on one: how they are framed; pure. `relay` has the other side's copy.

A frame is a kind, the number of a connection, a length, and as many bytes. The relay runs in the sandbox, so
each frame that comes from it may be anything.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct(">BHI")
MAX_BYTES = 64 * 1024
MAX_CONNECTIONS = 256


class Kind(IntEnum):
    """The kind of a frame.

    OPEN: make a connection to the socket that the one byte numbers; only to the relay.
    DATA: bytes of a connection.
    CLOSE: a connection's end.
    READY: the relay runs; the one byte is 1 if its Python has ipykernel. Only from the relay, and first.
    """

    OPEN = 1
    DATA = 2
    CLOSE = 3
    READY = 4


class BrokenFramesError(Exception):
    """Bytes that no relay sends; the text says which."""


@dataclass(frozen=True)
class Frame:
    """A frame."""

    kind: Kind
    connection: int
    data: bytes = b""

    def __bytes__(self) -> bytes:
        """Return the frame as it travels."""
        return HEADER.pack(self.kind, self.connection, len(self.data)) + self.data


class Reader:
    """Makes frames of bytes, in pieces of any size."""

    def __init__(self) -> None:
        """Start at the beginning."""
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete.

        Raises:
            BrokenFramesError: no relay sends such bytes.
        """
        self._held += data
        while len(self._held) >= HEADER.size:
            kind, connection, length = HEADER.unpack_from(self._held)
            if length > MAX_BYTES or kind not in {Kind.DATA, Kind.CLOSE, Kind.READY}:
                raise BrokenFramesError(f"a frame of kind {kind} with {length} bytes")
            end = HEADER.size + length
            if len(self._held) < end:
                return
            content = bytes(self._held[HEADER.size : end])
            del self._held[:end]
            yield Frame(Kind(kind), connection, content)
