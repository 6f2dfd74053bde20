"""Requests that come with an `Idempotency-Key`: a repetition gets the answer of the first request.

So a client whose connection broke can repeat a call that must not happen twice. The answer of a key is kept
for a while, within bounds; the key itself is remembered for longer, so that a late repetition is refused and
never done again.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Generic, TypeVar

from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.records import dataclass

T = TypeVar("T")

_KEY = re.compile(r"[A-Za-z0-9_-]{16,128}")
_KEPT_MAX = 4096
_KEPT_MAX_BYTES = 32 * 1024 * 1024
_REMEMBERED_MAX = 50_000


def key_of(header: str | None) -> str | None:
    """Check a request's key.

    Raises:
        ApiError: INVALID_REQUEST, it cannot be one.
    """
    if header is not None and not _KEY.fullmatch(header):
        raise invalid_request("Idempotency-Key must be 16 to 128 letters, digits, dashes or underscores.")
    return header


@dataclass
class _Entry(Generic[T]):
    request: bytes
    value: T
    size_bytes: int = 0


class Keys(Generic[T]):
    """The requests that came with a key, in one scope such as a session; oldest first."""

    def __init__(self) -> None:
        """Begin without any key."""
        self._open: dict[tuple[str, str], _Entry[T]] = {}
        self._ended: OrderedDict[tuple[str, str], _Entry[T]] = OrderedDict()
        self._ended_bytes = 0
        self._gone: OrderedDict[tuple[str, str], None] = OrderedDict()

    def find(self, scope: str, key: str | None, request: bytes) -> T | None:
        """Return the value of a key, or None if the key is new; `request` identifies the request.

        Raises:
            ApiError: INVALID_REQUEST if the key came with another request, RESULT_GONE if it came too long
                ago.
        """
        if key is None:
            return None
        if (scope, key) in self._gone:
            raise ApiError(410, "RESULT_GONE", "This was done already, and its result is no longer kept.")
        entry = self._open.get((scope, key)) or self._ended.get((scope, key))
        if entry is None:
            return None
        if entry.request != request:
            raise invalid_request("This Idempotency-Key was used for another request. Take a new one.")
        return entry.value

    def add(self, scope: str, key: str | None, request: bytes, value: T) -> None:
        """Remember what a new key stands for, until `end` or `forget`."""
        if key is not None:
            self._open[scope, key] = _Entry(request, value)

    def look(self, scope: str, key: str) -> T | None:
        """Return the value of a key without checking the request."""
        entry = self._open.get((scope, key)) or self._ended.get((scope, key))
        return None if entry is None else entry.value

    def forget(self, scope: str, key: str | None) -> None:
        """Forget a key whose request came to nothing: a repetition is a new request."""
        if key is not None:
            self._open.pop((scope, key), None)

    def end(self, scope: str, key: str | None, size_bytes: int) -> None:
        """Keep the result of a request that has ended, of that size, as long as there is room."""
        entry = None if key is None else self._open.pop((scope, key), None)
        if key is None or entry is None:
            return
        entry.size_bytes = size_bytes
        self._ended[scope, key] = entry
        self._ended_bytes += size_bytes
        while len(self._ended) > _KEPT_MAX or self._ended_bytes > _KEPT_MAX_BYTES:
            oldest, dropped = self._ended.popitem(last=False)
            self._ended_bytes -= dropped.size_bytes
            self._gone[oldest] = None
            if len(self._gone) > _REMEMBERED_MAX:
                self._gone.popitem(last=False)
