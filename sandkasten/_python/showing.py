"""Results as a notebook shows them; pure. Code in a sandbox made them: a notebook must not trust them.

Plain tables are written anew (see `notebook.markup.plain`), other HTML goes into a frame of an origin of its
own without scripts, SVG into an `<img>`; see `notebook.pictures`. Scripts, and kinds that bring scripts of
their own, are left out.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sandkasten.notebook.markup.plain import plain_markup
from sandkasten.notebook.pictures import NotShownError, display_of, page_frame

if TYPE_CHECKING:
    from sandkasten._python.values import PythonResult, RichResult

# What notebooks show without giving it a hold on their page: text, and Markdown, which they clean.
_AS_IT_IS = ("text/plain", "text/latex", "text/markdown", "application/json")
_PRE = "margin: 0; white-space: pre-wrap; max-height: 30em; overflow: auto; background: none"
_BAD = "var(--jp-error-color1, #c62828)"
_MAX_SHOWN_CHARS = 20_000


def rich_bundle(result: RichResult) -> dict[str, str]:
    """Return the forms of a result that a notebook may show."""
    bundle = {kind: result.data[kind] for kind in _AS_IT_IS if kind in result.data}
    bundle.setdefault("text/plain", f"<{', '.join(result.data)}>")
    for kind, make in _MADE.items():
        if kind in result.data:
            try:
                shown = make(result)
            except NotShownError as error:
                bundle["text/plain"] += f" [not shown: {error}]"
            else:
                bundle |= {name: text for name, text in shown.items() if name != "text/plain"}
    return bundle


def result_bundle(result: PythonResult) -> dict[str, str]:
    """Return a whole result for a notebook; one that only has a value is shown as the value."""
    printed = result.stdout + result.stderr
    if len(result.results) == 1 and not printed and result.error is None:
        return rich_bundle(result.results[0])
    texts = [_end_of(result.stdout), _end_of(result.stderr)]
    parts = [_pre(text) for text in texts if text]
    for each in result.results:
        bundle = rich_bundle(each)
        texts.append(bundle["text/plain"])
        parts.append(_part(bundle))
    if result.error is not None:
        texts.append(str(result.error))
        parts.append(_pre(str(result.error), f"; color: {_BAD}"))
    text = "\n".join(each.rstrip("\n") for each in texts if each)
    return {"text/plain": text, "text/html": "".join(parts)}


def _part(bundle: Mapping[str, str]) -> str:
    for kind in ("image/png", "image/jpeg"):
        if kind in bundle:
            return f'<img src="data:{kind};base64,{bundle[kind]}" alt="" style="max-width: 100%">'
    return bundle.get("text/html") or _pre(bundle["text/plain"])


def _pre(text: str, style: str = "") -> str:
    return f'<pre style="{_PRE}{style}">{html.escape(text)}</pre>'


def _end_of(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARS else f"...{text[-_MAX_SHOWN_CHARS:]}"


def _frame(result: RichResult) -> Mapping[str, str]:
    if "application/vnd.plotly.v1+json" in result.data or "vegaEmbed" in (result.html or ""):
        raise NotShownError("an interactive figure draws itself by scripts, which do not run here")
    page = result.html or ""
    return {"text/html": plain_markup(page) or page_frame("result", page, instead=_end_of(result.text or ""))}


def _svg(result: RichResult) -> Mapping[str, str]:
    return display_of("result.svg", (result.svg or "").encode())


def _png(result: RichResult) -> Mapping[str, str]:
    return display_of("result.png", result.png or b"")


def _jpeg(result: RichResult) -> Mapping[str, str]:
    return display_of("result.jpg", result.jpeg or b"")


_MADE: Mapping[str, Callable[[RichResult], Mapping[str, str]]] = {
    "image/svg+xml": _svg,
    "text/html": _frame,
    "image/png": _png,
    "image/jpeg": _jpeg,
}
