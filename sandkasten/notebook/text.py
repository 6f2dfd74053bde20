"""Small pieces of text for people; pure. Text from a sandbox goes through `visible` first."""

from __future__ import annotations

import re
from datetime import UTC, datetime

# Control characters could move a terminal's cursor and rewrite what stands elsewhere. (A carriage
# return stays in its line, and programs draw their progress with it.)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# In a name, line ends could pretend another line, and marks of writing direction could turn it around.
_NOT_IN_A_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def visible(text: str) -> str:
    r"""Output with its control characters written out, `\x1b` and the like; line ends and tabs stay."""
    return _CONTROL.sub(_written_out, text)


def one_line(text: str, most_chars: int = 200) -> str:
    """A name, or another text that stands within a line; cut if it is long."""
    shown = _NOT_IN_A_NAME.sub(_written_out, text[: most_chars + 1])
    return shown if len(shown) <= most_chars else f"{shown[: most_chars - 1]}…"


def _written_out(match: re.Match[str]) -> str:
    return repr(match.group())[1:-1]


def size(size_bytes: int) -> str:
    """A size with a unit, in powers of 1000."""
    amount, unit = float(size_bytes), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    digits = 1 if unit and amount < 9.95 else 0
    return f"{amount:.{digits}f} {_UNITS[unit]}"


def moment(when: datetime) -> str:
    """A time to the second, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(duration_ms: float) -> str:
    """A duration in milliseconds or seconds."""
    return f"{duration_ms:.0f} ms" if duration_ms < 1000 else f"{duration_ms / 1000:.1f} s"
