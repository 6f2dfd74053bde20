r"""From a terminal's bytes to text, piece by piece; pure.

Pieces end anywhere: within a character, an escape sequence, or a CR LF. Text that may still become one of
those is held back until the next piece decides, so the joined text never depends on the cuts.

Plain text holds no escapes, and nothing that could become one:

- Control sequences, control strings and other escapes go (ECMA-48), in their 7-bit and their 8-bit form.
- An unfinished one takes nothing else with it: a control string ends at the latest with its line, a control
  sequence before the first character that cannot belong to it. Of one that is too long only the beginning
  goes, and the rest is text.
- So do what is left of ESC and C1 (U+0080 to U+009F), the shifts SO and SI (they turn what follows into line
  graphics) and ENQ (a terminal answers it).
- CR LF becomes LF.
- All other control characters stay, since they are data: tab, line end, backspace, bell, form feed, NUL.

Removal goes once from left to right and takes every ESC and every C1 character that it meets, so nothing can
close up to a new sequence.
"""

from __future__ import annotations

import codecs
import re

# Longer than any picture's part in the terminal graphics of today; a longer string is shown.
_STRING_MAX_CHARS = 4800
_SEQUENCE_MAX_CHARS = 256

_CSI = r"(?:\x1b\[|\x9b)"
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"
# Line ends, what ends a string in terminals (BEL, CAN, SUB), and what begins another escape.
_CONTENT = r"[^\x07\n\v\f\r\x18\x1a\x1b\x80-\x9f]"
_STRING_BEGUN = rf"{_STRING}{_CONTENT}{{0,{_STRING_MAX_CHARS}}}"
_PARAMETERS = rf"[0-?]{{0,{_SEQUENCE_MAX_CHARS}}}[ -/]{{0,16}}"

_ESCAPE = re.compile(
    # At the end of a piece: what the next piece may continue.
    rf"(?P<begun>(?:{_CSI}{_PARAMETERS}|{_STRING_BEGUN}\x1b?|\x1b[ -/]{{0,16}})\Z)"
    rf"|{_CSI}{_PARAMETERS}[@-~]?"
    rf"|{_STRING}(?={_CONTENT}{{{_STRING_MAX_CHARS + 1}}})"  # too long to be one
    rf"|{_STRING_BEGUN}(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b(?:[ -/]{0,16}[0-~])?"
    r"|[\x05\x0e\x0f\x80-\x9f]"
)


class Transcript:
    """Turns one command's output into text, raw or cleaned."""

    def __init__(self, *, raw: bool) -> None:
        """Raw keeps what the terminal got; otherwise the text is plain, see above."""
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held_back = ""
        self._ends_in_cr = False

    def feed(self, data: bytes) -> str:
        """Take the next bytes and return the text that is certain by now."""
        text = self._decoder.decode(data)
        return text if self._raw else self._folded(self._without_escapes(text))

    def finish(self) -> str:
        """Return what was held back, now that nothing follows."""
        text = self._decoder.decode(b"", final=True)
        if self._raw:
            return text
        text = self._folded(self._without_escapes(text))
        self._held_back = ""  # an escape that nothing ends any more
        return text + "\r" * self._ends_in_cr

    def _without_escapes(self, text: str) -> str:
        if self._held_back:
            text, self._held_back = self._held_back + text, ""
        if text.isascii() and not any(steering in text for steering in "\x1b\x05\x0e\x0f"):  # in no time
            return text
        return _ESCAPE.sub(self._take_away, text)

    def _take_away(self, escape: re.Match[str]) -> str:
        self._held_back = escape["begun"] or ""
        return ""

    def _folded(self, text: str) -> str:
        """Make CR LF LF; a CR waits for its LF."""
        if not text:
            return ""
        if self._ends_in_cr:
            text = f"\r{text}"
        self._ends_in_cr = text.endswith("\r")
        return (text[:-1] if self._ends_in_cr else text).replace("\r\n", "\n")
