"""The choice of the files that a cell made to show, and how to show them; pure. All of them are hostile.

The page that a notebook is shown in holds the reader's session with the notebook server, so nothing
of a file may run in it:

* PNG and JPEG go as image data, if their first bytes and their dimensions are those of pictures.
* SVG goes into an `<img>`, where browsers run no script and load nothing.
* HTML goes into an `<iframe sandbox>`: a document of an origin of its own without scripts, forms and
  popups, under a policy that lets it load nothing, since a sandbox without a network must not get one
  through the reader's browser.
"""

from __future__ import annotations

import base64
import html
import posixpath
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sandkasten.notebook.listing import FileEntry
from sandkasten.notebook.markup.heights import DRAWN_PX, estimated_height_px
from sandkasten.notebook.text import one_line, size

SUFFIXES = (".png", ".jpg", ".jpeg", ".svg", ".html")
MAX_FILES = 8
MAX_FILE_BYTES = 4_000_000
_MAX_PIXELS = 50_000_000  # a picture of a few kB can unfold to gigabytes in the browser

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_SVG_BEGINS_WITHIN_CHARS = 4096

_STATIC_POLICY = (
    "default-src 'none'; base-uri 'none'; style-src 'unsafe-inline'; "
    "img-src data:; media-src data:; font-src data:"
)
_SCRIPT_POLICY = f"{_STATIC_POLICY}; script-src 'unsafe-inline' 'unsafe-eval'"
# A policy keeps a page from loading, not from all that a browser does ahead of it: it connects to the
# hosts of <link rel=preconnect> and of frames, and <meta http-equiv=refresh> goes elsewhere. However
# such a tag is written, it has these letters; in a nested document, too, since there are no frames.
_TAGS_TO_DISARM = re.compile(r"<(?=link|meta|base|i?frame|fencedframe|portal|object|embed)", re.IGNORECASE)

_PLAIN_STYLE = "<style>:where(body) { font-family: sans-serif }</style>"  # any style of the page's own wins

Display = Mapping[str, str]


class NotShownError(Exception):
    """A file that is not shown; the text says why."""


@dataclass(frozen=True)
class Choice:
    """The files that a cell made or changed: those to show, and the others with the reasons."""

    shown: tuple[FileEntry, ...]
    skipped: tuple[tuple[FileEntry, str], ...]


def made_or_changed(before: Iterable[FileEntry], after: Iterable[FileEntry]) -> list[FileEntry]:
    """The files that are new or different, the oldest first, as they were made."""
    changed = set(after) - set(before)
    return sorted(changed, key=lambda entry: (float(entry.changed_seconds), entry.path))


def choose(files: Iterable[FileEntry]) -> Choice:
    """Choose the first few that are not too large."""
    shown: list[FileEntry] = []
    skipped: list[tuple[FileEntry, str]] = []
    for file in files:
        if file.size_bytes > MAX_FILE_BYTES:
            skipped.append((file, f"{size(file.size_bytes)}, more than {size(MAX_FILE_BYTES)}"))
        elif len(shown) == MAX_FILES:
            skipped.append((file, f"one of more than {MAX_FILES} files"))
        else:
            shown.append(file)
    return Choice(tuple(shown), tuple(skipped))


def notice(skipped: Iterable[tuple[FileEntry, str]]) -> str:
    """Say which files are not shown, and why; at most a few of them by name."""
    skipped = list(skipped)
    names = [f"{one_line(file.path, 60)} ({reason})" for file, reason in skipped[:MAX_FILES]]
    more = [f"{len(skipped) - MAX_FILES} more"] if len(skipped) > MAX_FILES else []
    return f"[Not shown: {', '.join(names + more)}.]\n"


def display_of(path: str, content: bytes, *, scripts: bool = False) -> Display:
    """The representations of a file's content, by MIME type.

    Raises:
        NotShownError: it is not what its name says.
    """
    suffix = posixpath.splitext(path)[1].lower()
    name = posixpath.basename(path)
    if suffix == ".png":
        shown = {"image/png": _image(content, png_dimensions(content), "PNG")}
    elif suffix in {".jpg", ".jpeg"}:
        shown = {"image/jpeg": _image(content, jpeg_dimensions(content), "JPEG")}
    elif suffix == ".svg":
        shown = {"text/html": svg_image(name, content)}
    else:
        shown = {"text/html": page_frame(name, _text(content), scripts=scripts)}
    return {**shown, "text/plain": f"<{one_line(name)}, {size(len(content))}>"}


def png_dimensions(content: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG; None if it is not one."""
    if not content.startswith(_PNG) or content[12:16] != b"IHDR" or len(content) < 24:
        return None
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def jpeg_dimensions(content: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG, from its frame header; None if it is not one."""
    if not content.startswith(_JPEG):
        return None
    position = 2
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", content[position + 5 : position + 9])
            return width, height
        position += 2 + int.from_bytes(content[position + 2 : position + 4])
    return None


def svg_image(name: str, content: bytes) -> str:
    """An `<img>` of an SVG document.

    Raises:
        NotShownError: it is not one, or declares entities, which can unfold without end.
    """
    text = _text(content)
    if "<svg" not in text[:_SVG_BEGINS_WITHIN_CHARS] or "<!ENTITY" in text:
        raise NotShownError("not an SVG picture, or one with a document type of its own")
    data = base64.b64encode(content).decode()
    style = "max-width: 100%; height: auto"
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(one_line(name))}" style="{style}">'


def page_frame(name: str, text: str, *, scripts: bool = False, instead: str = "") -> str:
    """An `<iframe>` of an HTML document that can neither reach the page around it nor the network.

    Args:
        name: the name of the document.
        text: the document.
        scripts: whether its scripts run.
        instead: a text that is shown where frames are left out, as in notebooks that are not trusted; unless
            it is given, the name.
    """
    policy = _SCRIPT_POLICY if scripts else _STATIC_POLICY
    head = f'<!DOCTYPE html><meta http-equiv="Content-Security-Policy" content="{policy}">{_PLAIN_STYLE}'
    page = html.escape(head + (text if scripts else _TAGS_TO_DISARM.sub("<x-", text)))
    height_px = max(estimated_height_px(text), DRAWN_PX if scripts else 0)
    style = f"width: 100%; height: {height_px}px; border: 1px solid #8884; background: #fff; resize: vertical"
    sandbox = "allow-scripts" if scripts else ""
    title = html.escape(one_line(name))
    return (
        f'<pre style="margin: 0"><iframe sandbox="{sandbox}" title="{title}" referrerpolicy="no-referrer" '
        f'style="{style}" srcdoc="{page}">{html.escape(instead) or title}</iframe></pre>'
    )


def _image(content: bytes, dimensions: tuple[int, int] | None, kind: str) -> str:
    if dimensions is None or 0 in dimensions:
        raise NotShownError(f"not a {kind} picture")
    width, height = dimensions
    if width * height > _MAX_PIXELS:
        raise NotShownError(f"{width} x {height} pixels are too many")
    return base64.b64encode(content).decode()


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotShownError("not UTF-8 text") from None
    if "\0" in text:
        raise NotShownError("not text")
    return text
