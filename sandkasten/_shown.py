"""Parts of models: how they are shown, and values that stand for nothing."""

from __future__ import annotations

# How much of an output `repr` shows.
_SHOWN_CHARS = 1000


def shortened(text: str) -> str:
    """Return a text as `repr` shows it, of which the end may be missing."""
    return repr(text) if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]!r}... ({len(text)} characters)"


def size(content: bytes) -> str:
    """Return how much there is."""
    return f"<{len(content)} bytes>"


def none_if_empty(text: str | None) -> str | None:
    """Return a text, if there is any."""
    return text or None


def none_if_zero(number: int | None) -> int | None:
    """Return a number, if it is not zero."""
    return number or None
