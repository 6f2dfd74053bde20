"""Frames between the daemon and an interpreter; pure. All that an interpreter sends is hostile.

A frame is four bytes with its length, and one JSON object. See `events.py` for what the objects mean.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from sandkasten.local.limits.jsonvalues import FewValues

_HEAD = struct.Struct(">I")
MAX_FRAME_BYTES = 1024 * 1024 + 64 * 1024
# What is decoded at once takes at most some milliseconds, whatever it is; of more, only few values.
_AT_ONCE_BYTES = 64 * 1024
_MOST_VALUES = 10_000


class FrameError(Exception):
    """The peer does not keep to the protocol."""


def packed(message: dict[str, Any]) -> bytes:
    """Return an object as a frame."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(len(body)) + body


class FrameReader:
    """Puts frames together from what comes."""

    def __init__(self) -> None:
        """Begin between two frames."""
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that are whole now.

        Raises:
            FrameError: one is longer than any may be.
        """
        self._data += data
        frames: list[bytes] = []
        start = 0
        while len(self._data) - start >= _HEAD.size:
            (size_bytes,) = _HEAD.unpack_from(self._data, start)
            if size_bytes > MAX_FRAME_BYTES:
                raise FrameError("a frame is too long")
            end = start + _HEAD.size + size_bytes
            if len(self._data) < end:
                break
            frames.append(bytes(self._data[start + _HEAD.size : end]))
            start = end
        del self._data[:start]
        return frames


def unpacked(frame: bytes) -> dict[str, Any]:
    """Return the object in a frame.

    Raises:
        FrameError: there is none, or one of more values than any needs.
    """
    try:
        text = frame.decode()
        found = json.loads(text) if len(frame) <= _AT_ONCE_BYTES else FewValues(_MOST_VALUES).decode(text)
    except (ValueError, RecursionError):
        raise FrameError("a frame is not JSON") from None
    if not isinstance(found, dict):
        raise FrameError("a frame is not an object")
    return found  # pyright: ignore[reportUnknownVariableType]
