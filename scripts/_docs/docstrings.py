"""Shows docstrings' literal blocks as code; mkdocstrings loads this while `scripts/docs` builds the site.

Docstrings end the line before an example with two colons, and indent the example: `help()` reads well
then. In Markdown the colons would stay, and the code would have no colours.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_LITERAL = re.compile(r"^(?P<before>.*)::\n\n(?P<block>(?: {4}.*(?:\n|\Z)|\n)+)", re.MULTILINE)


class Examples(griffe.Extension):
    """Rewrites each docstring once, when it was read."""

    def on_object(self, *, obj: griffe.Object, **_kwargs: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """Put literal blocks between fences, as Python, or as text where they are not."""
    return _LITERAL.sub(_fence, docstring)


def _fence(match: re.Match[str]) -> str:
    code = textwrap.dedent(match["block"]).strip("\n")
    return f"{match['before']}:\n\n```{_language(code)}\n{code}\n```\n\n"


def _language(code: str) -> str:
    try:
        compile(f"async def example():\n{textwrap.indent(code, '    ')}\n", "example", "exec")
    except SyntaxError:
        return "text"
    return "python"
