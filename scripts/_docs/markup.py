"""Edit the HTML of a page: what the copy button copies, and pictures that follow the page's colours; pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape, unescape

_CONSOLE = re.compile(
    r'<div class="language-console highlight">(?P<block><pre>.*?<code>(?P<code>.*?)</code></pre>)', re.DOTALL
)
_TAG = re.compile(r"<[^>]*>")
_PROMPT = "$ "
_DRAWING = re.compile(r'<img[^>]*\bsrc="(?P<src>[^":]+\.svg)"[^>]*>')
_FOLLOWS_PAGE = '<svg xmlns="http://www.w3.org/2000/svg" class="pic"'  # as pictures.py begins them


def with_copies(html: str) -> str:
    """Give each console block what its copy button copies: the commands, without prompts and output."""
    return _CONSOLE.sub(_with_copy, html)


def _with_copy(match: re.Match[str]) -> str:
    commands = commands_in(unescape(_TAG.sub("", match["code"])))
    return f'<div class="language-console highlight" data-copy="{escape(commands)}">{match["block"]}'


def commands_in(console: str) -> str:
    """Return the commands of a console's text, a line each, with the lines that continue them."""
    found: list[str] = []
    continues = False
    for line in console.splitlines():
        if continues:
            found.append(line.removeprefix("> "))
        elif line.startswith(_PROMPT):
            found.append(line.removeprefix(_PROMPT))
        else:
            continue
        continues = line.endswith("\\")
    return "\n".join(found)


def with_pictures(html: str, read: Callable[[str], str]) -> str:
    """Put drawings that are made for it into the page, where its light or dark colours reach them."""

    def replaced(match: re.Match[str]) -> str:
        drawing = read(match["src"])
        return drawing.strip() if drawing.startswith(_FOLLOWS_PAGE) else match[0]

    return _DRAWING.sub(replaced, html)
