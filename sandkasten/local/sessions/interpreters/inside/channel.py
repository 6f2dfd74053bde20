"""The control of an interpreter: frames of JSON, both ways. The first part of its text, see `program.py`."""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Code may put others in place of these.
_read, _write, _fstat, _close, _exit = os.read, os.write, os.fstat, os.close, os._exit
_PIECE_BYTES = 64 * 1024


# --- JSON, by the C parts of `json`: the whole of it takes as long to load as all the rest


class _Rules:
    strict = False
    object_hook = object_pairs_hook = array_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def _json_of_c() -> tuple[Callable[[str], str], Callable[[str], Any]]:
    c: Any = __import__("_json")
    scan = c.make_scanner(_Rules())
    return c.encode_basestring, lambda text: scan(text, 0)[0]


def _json_of_library() -> tuple[Callable[[str], str], Callable[[str], Any]]:
    import json  # noqa: PLC0415

    return lambda text: json.dumps(text, ensure_ascii=False), json.loads


try:
    _quoted, _decoded = _json_of_c()
except (ImportError, AttributeError, TypeError):
    _quoted, _decoded = _json_of_library()


def encoded(value: Any) -> str:
    """Return a value as JSON; one that JSON does not have as text."""
    if isinstance(value, str):
        return _quoted(value)
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if issubclass(kind, dict):
        return f"{{{','.join(f'{_quoted(str(key))}:{encoded(each)}' for key, each in value.items())}}}"
    if issubclass(kind, (list, tuple)):
        return f"[{','.join(map(encoded, value))}]"
    return _number(value) or _quoted(str(value))


def _number(value: Any) -> str | None:
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return float.__repr__(value) if abs(value) < float("inf") else "null"
    return int.__repr__(value) if isinstance(value, int) else None


# --- the control


class Control:
    """Frames: four bytes with the length, and an object in JSON."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is = self._identity()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._data = bytearray()
        self._frames: list[dict[str, Any]] = []

    def next(self) -> dict[str, Any] | None:
        """Wait for a frame; None if there will be no more."""
        while not self._frames:
            if not self._take():
                return None
        return self._frames.pop(0)

    def interrupts(self) -> list[int]:
        """Take from what has come the numbers of runs that are to be interrupted."""
        while self._poll.poll(0) and self._take():
            pass
        found = [frame["id"] for frame in self._frames if frame["op"] == "interrupt"]
        self._frames = [frame for frame in self._frames if frame["op"] != "interrupt"]
        return found

    def is_silent(self, wait_ms: int) -> bool:
        """Return whether nothing comes for so long."""
        return not self._frames and not self._poll.poll(wait_ms)

    def write(self, data: bytes) -> None:
        """Send an object; without anybody who reads, this process has no purpose."""
        rest = memoryview(len(data).to_bytes(4, "big") + data)
        try:
            # Another file may have the number by now.
            if self._identity() != self._is:
                _exit(70)
            while rest:
                rest = rest[_write(self._descriptor, rest) :]
        except OSError:
            _exit(70)

    def close(self) -> None:
        """Give it up, in a process that was forked."""
        if self._identity() == self._is:
            _close(self._descriptor)

    def _identity(self) -> tuple[int, int]:
        found = _fstat(self._descriptor)
        return found.st_dev, found.st_ino

    def _take(self) -> bool:
        data = _read(self._descriptor, _PIECE_BYTES)
        self._data += data
        while len(self._data) >= 4:
            end = 4 + int.from_bytes(self._data[:4], "big")
            if len(self._data) < end:
                break
            self._frames.append(_decoded(self._data[4:end].decode()))
            del self._data[:end]
        return bool(data)
