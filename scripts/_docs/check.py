"""Look at the site that `scripts/docs` built for what the builder lets pass; standard library only.

That is: pages that the navigation lacks, or has without there being any; links, pictures and files that lead
nowhere; and anything that a browser would load from elsewhere, since the site must work without a network.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    """One page: its links, what it loads, its anchors, and what its console blocks give to copy."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {"", "__top"}
        self.copies: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag refers to."""
        found = {name: value or "" for name, value in attrs}
        self.anchors.update(found[name] for name in ("id", "name") if name in found)
        if "language-console" in found.get("class", "").split():
            self.copies.append(found.get("data-copy", ""))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") not in {"prev", "next", "canonical"}:
            self.loads.append(found.get("href", ""))
        if "src" in found:
            self.loads.append(found["src"])


def complaints(docs: Path, site: Path, nav: list[Any]) -> Iterator[str]:
    """All that is wrong with a site."""
    yield from complaints_about_pages(
        {str(path.relative_to(docs)) for path in docs.rglob("*.md")}, set(named(nav))
    )
    pages = {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    for path, page in pages.items():
        if path.name == "404.html":  # shown in the place of any page, so its links are not relative to it
            continue
        name = path.relative_to(site)
        yield from (f"{name} loads {url} from elsewhere." for url in page.loads if urlsplit(url).netloc)
        if not all(page.copies):
            yield f"{name} has a console block whose copy button copies prompts or nothing."
        for url in page.links + page.loads:
            if not leads_somewhere(url, path, pages):
                yield f"{name} refers to {url}, which is not there."


def complaints_about_pages(there: set[str], wanted: set[str]) -> Iterator[str]:
    """Compare the pages with those of the navigation."""
    yield from (f"docs/{name} is not in the navigation of zensical.toml." for name in sorted(there - wanted))
    yield from (f"zensical.toml has {name}, but there is no docs/{name}." for name in sorted(wanted - there))


def named(nav: list[Any]) -> Iterator[str]:
    """The pages of a navigation, which is a tree."""
    for entry in nav:
        for value in entry.values():
            yield from named(value) if isinstance(value, list) else [value]


def leads_somewhere(url: str, source: Path, pages: dict[Path, Page]) -> bool:
    """Return whether a page's reference finds a file, and the anchor in it; other hosts are not looked at."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return True
    target = (source.parent / unquote(parts.path)).resolve() if parts.path else source
    if target.is_dir():
        target /= "index.html"
    if target not in pages:
        return target.is_file() and not parts.fragment
    return unquote(parts.fragment) in pages[target].anchors


def main() -> None:
    """Complain, or keep quiet."""
    nav = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    found = list(complaints(ROOT / "docs", ROOT / "site", nav))
    if found:
        sys.exit("\n".join([*found, "Fix these links and pages, and run scripts/docs again."]))


if __name__ == "__main__":
    main()
