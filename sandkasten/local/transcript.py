"""From a terminal's bytes to text, piece by piece; pure.

Pieces end anywhere: within a character, an escape sequence, or a CR LF. What may still become one of
those is held back until the next piece decides, so the joined text never depends on the cuts.
"""

from __future__ import annotations

import codecs
import re

# ECMA-48: control sequences, control strings, and escapes of two or more characters.
_COMPLETE = (
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|[ -/]+[0-~]"
    r"|[0-Z\\`-~]"
    r")"
)
_BEGUN = r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?"

_ESCAPE = re.compile(_COMPLETE)
# A CR waits for its LF, even with escapes between them.
_UNFINISHED = re.compile(rf"(?:\r(?:{_COMPLETE})*(?:{_BEGUN})?|{_BEGUN})\Z")

# A control string that goes on for longer is not one; it is shown rather than kept for ever.
_HELD_BACK_MAX_CHARS = 4096


class Transcript:
    """Turns one command's output into text, raw or cleaned."""

    def __init__(self, *, raw: bool) -> None:
        """Raw keeps what the terminal got; otherwise escapes go, and CR LF becomes LF."""
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held_back = ""

    def feed(self, data: bytes) -> str:
        """Take the next bytes and give the text that is certain by now."""
        text = self._decoder.decode(data)
        return text if self._raw else self._clean(self._held_back + text)

    def finish(self) -> str:
        """Give what was held back, now that nothing follows."""
        text = self._decoder.decode(b"", final=True)
        if self._raw:
            return text
        cleaned = self._clean(self._held_back + text)
        rest, self._held_back = self._held_back, ""
        return cleaned + _ESCAPE.sub("", rest).partition("\x1b")[0]

    def _clean(self, text: str) -> str:
        self._held_back = ""
        if "\x1b" not in text and "\r" not in text:
            return text
        unfinished = _UNFINISHED.search(text, max(0, len(text) - _HELD_BACK_MAX_CHARS))
        if unfinished is not None:
            self._held_back = unfinished.group()
            text = text[: unfinished.start()]
        return _ESCAPE.sub("", text).replace("\r\n", "\n")


class CappedText:
    """Collects text up to a number of bytes, and says whether there was more."""

    def __init__(self, limit_bytes: int) -> None:
        """Start empty."""
        self._parts: list[str] = []
        self._limit_bytes = self._left_bytes = limit_bytes
        self.truncated = False

    def add(self, text: str) -> None:
        """Take as much of the text as still fits."""
        data = text.encode()
        if len(data) > self._left_bytes:
            self.truncated = True
            text = data[: self._left_bytes].decode(errors="ignore")
            self._left_bytes = 0
        else:
            self._left_bytes -= len(data)
        if text:
            self._parts.append(text)

    @property
    def size_bytes(self) -> int:
        """How much was collected."""
        return self._limit_bytes - self._left_bytes

    def text(self) -> str:
        """All of it, joined."""
        return "".join(self._parts)
