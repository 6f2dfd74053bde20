"""The site's own extension of Markdown; it reads files, while the modules beside it decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markdown import Extension, Markdown
from markdown.postprocessors import Postprocessor
from markdown.preprocessors import Preprocessor
from zensical.extensions.context import ContextPreprocessor

from _docs import markup, sources

DOCS = Path(__file__).resolve().parents[2] / "docs"


def makeExtension(**_kwargs: Any) -> Extension:  # noqa: N802  (the name that Markdown looks for)
    """Return the extension."""
    return Additions()


class Additions(Extension):
    """Shows files in pages, and finishes consoles and pictures."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Put the steps where they belong: before fences are read, and after all HTML is in place."""
        md.preprocessors.register(Sources(md), "sources", 28)
        md.postprocessors.register(Finish(md), "finish", 5)


class Sources(Preprocessor):
    """Puts files into the Markdown."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines of a page with the files that it names."""
        return sources.with_sources(lines, lambda name: beside(self.md, name))


class Finish(Postprocessor):
    """Edits the HTML."""

    def run(self, text: str) -> str:
        """Return the HTML of a page with copies and pictures."""
        return markup.with_pictures(markup.with_copies(text), lambda name: beside(self.md, name))


def beside(md: Markdown, name: str) -> str:
    """Read a file by the path that the page has for it."""
    context = ContextPreprocessor.from_markdown(md)
    page = DOCS / context.page.path if context else DOCS / "index.md"
    return (page.parent / name).read_text("utf-8")
