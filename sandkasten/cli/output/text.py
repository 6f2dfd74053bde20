"""Text from a sandbox, made harmless for a terminal; pure.

Sandboxed code controls what we print: output, names of files, the directory. A terminal takes some characters
for commands, which reach as far as the clipboard.
"""

from __future__ import annotations

# C0 without what only moves the cursor or rings, DEL, and C1 (which are escape sequences in one character).
_MOVES = "\t\n\r\b\a"
_COMMANDS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))]
_IN_STREAM = {
    ord(character): "\N{REPLACEMENT CHARACTER}" for character in _COMMANDS if character not in _MOVES
}
# What has no width, or turns the direction of writing or the line: a name could look like another.
_DISGUISES = [
    *map(chr, (0xAD, 0x61C, 0xFEFF)),
    *map(chr, range(0x200B, 0x2010)),
    *map(chr, range(0x2028, 0x202F)),
    *map(chr, range(0x2060, 0x2070)),
]
_IN_FIELD = dict.fromkeys(map(ord, [*_COMMANDS, *_DISGUISES]), "?")


def for_terminal(text: str) -> str:
    """Return a command's output without the characters that a terminal would obey."""
    return text.translate(_IN_STREAM)


def field(value: object) -> str:
    """Return a value for a cell of a table or a prompt, on one line whatever it holds."""
    return "" if value is None else str(value).translate(_IN_FIELD)


def one_line(text: str) -> str:
    """Return a sentence on one line."""
    return field(" ".join(text.split()))


def size(size_bytes: int) -> str:
    """Return a number of bytes for people, such as 1.5 MiB."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
