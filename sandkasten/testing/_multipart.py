"""Uploads as clients send them, taken apart; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """A part of a multipart body; a plain field has no file name."""

    name: str
    filename: str | None
    content: bytes = field(repr=False)


def parts_of(content_type: str, body: bytes) -> Iterator[Part]:
    """Take a multipart body apart; what is not one has no parts."""
    boundary = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/form-data") or boundary is None:
        return
    mark = b"--" + boundary[1].encode()
    start = body.find(mark) + len(mark)
    # One part after the other, so that a large body is not held several times.
    while (end := body.find(b"\r\n" + mark, start)) >= 0:
        head_end = body.find(b"\r\n\r\n", start, end + 4)
        if head_end < 0:
            return
        head = body[start:head_end].decode("utf-8", "replace")
        yield Part(_parameter(head, "name") or "", _parameter(head, "filename"), body[head_end + 4 : end])
        start = end + 2 + len(mark)


def _parameter(head: str, name: str) -> str | None:
    found = re.search(rf'[;\s]{name}="([^"]*)"', head)
    return None if found is None else unquote(found[1])
