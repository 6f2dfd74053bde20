"""The pieces into which transfers are cut, and those who hear of each."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None], object]
"""Called with the bytes that are done, and with all of them if it is known how many those are."""

PIECE_BYTES = 1024 * 1024

# What is so small that it is not worth asking for extensions; every daemon takes it as JSON.
SMALL_BYTES = 128 * 1024
