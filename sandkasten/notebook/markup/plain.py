"""Plain tables and texts of HTML, written anew; pure.

A page in a frame looks foreign in a notebook: white where all is dark, and empty where frames are left out,
as in a notebook that is not trusted. Tables of pandas and polars and a few words in bold need no frame.
They are read by a small grammar, and written anew from known tags without attributes, so nothing else can
come through. A text that the grammar does not have as a whole is not shown in this way.
"""

from __future__ import annotations

import re

_MAX_CHARS = 1_000_000
_MAX_DEPTH = 32

_VOID = frozenset({"br", "hr"})
_TAGS = _VOID | frozenset(
    {
        *("h1", "h2", "h3", "h4", "h5", "h6", "p", "div", "blockquote", "pre"),
        *("ul", "ol", "li", "dl", "dt", "dd"),
        *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"),
        *("b", "code", "em", "i", "kbd", "s", "samp", "small", "span", "strong", "sub", "sup", "u"),
    }
)
_SPANS = frozenset({"colspan", "rowspan"})
# They change how it looks, and the notebook has a look of its own. Any other attribute means something.
_WITHOUT_LOSS = frozenset({"align", "border", "class", "dir", "halign", "id", "scope", "valign"})
_NAME = r"[a-zA-Z][a-zA-Z0-9-]{0,19}"
_TOKEN = re.compile(
    rf"""<(?P<end>/?)(?P<tag>{_NAME})(?P<attributes>(?:\s+{_NAME}(?:=(?:"[^"<>]*"|'[^'<>]*'|\w+))?)*)\s*/?>"""
    r"|(?P<text>[^<>]+)"
)
_ATTRIBUTE = re.compile(rf"""\s+({_NAME})(?:=(?:"([^"<>]*)"|'([^'<>]*)'|(\w+)))?""")
# The style that pandas and polars put beside each table is about borders and alignment.
_STYLE = re.compile(r"<style(?: scoped| type=\"text/css\")?>([^<]{0,2000})</style>")
_RULES = re.compile(r"(?:\s*\.dataframe [\w\s.,:>-]+\{[^{}@\\]*\})*\s*")
_ALIGNED = re.compile(r"\s*text-align:\s*\w+;?\s*")
# MathJax reads formulas in every HTML but this: prices are none, and a formula may hold links.
_AROUND = ('<div class="tex2jax_ignore mathjax_ignore">', "</div>")


def plain_markup(page: str) -> str | None:
    """Return a plain table or text as HTML that needs no frame in a notebook, or None: it is more."""
    if len(page) > _MAX_CHARS:
        return None
    without = _STYLE.sub(lambda found: "" if _RULES.fullmatch(found[1]) else found[0], page)
    written, open_tags, end = [_AROUND[0]], list[str](), 0
    for token in _TOKEN.finditer(without):
        piece = _piece(token, open_tags) if token.start() == end else None
        if piece is None:
            return None
        written.append(piece)
        end = token.end()
    return "".join([*written, _AROUND[1]]) if end == len(without) and not open_tags else None


def _piece(token: re.Match[str], open_tags: list[str]) -> str | None:
    if token["text"]:
        return token["text"]
    tag = token["tag"].lower()
    if tag not in _TAGS:
        return None
    if token["end"]:
        return f"</{open_tags.pop()}>" if open_tags and open_tags[-1] == tag else None
    attributes = _attributes(token["attributes"])
    if attributes is None or len(open_tags) == _MAX_DEPTH:
        return None
    if tag not in _VOID:
        open_tags.append(tag)
    # Notebooks other than Jupyter's know tables of data by these.
    known = ' border="1" class="dataframe"' if tag == "table" else ""
    return f"<{tag}{known}{attributes}>"


def _attributes(text: str) -> str | None:
    kept = ""
    for name, *values in _ATTRIBUTE.findall(text):
        value = "".join(values)
        if name in _SPANS and re.fullmatch("[1-9][0-9]{0,3}", value):
            kept += f' {name}="{value}"'
        elif name not in _WITHOUT_LOSS and not (name == "style" and _ALIGNED.fullmatch(value)):
            return None
    return kept
