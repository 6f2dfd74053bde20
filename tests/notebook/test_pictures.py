"""The files that are shown; nothing in these hostile files gets at the page."""

from __future__ import annotations

import base64
import html
import re
import struct
import time
from html.parser import HTMLParser

import pytest

from sandkasten.notebook.listing import FileEntry, parse_listing
from sandkasten.notebook.markup.heights import estimated_height_px
from sandkasten.notebook.pictures import (
    MAX_FILE_BYTES,
    MAX_FILES,
    NotShownError,
    choose,
    display_of,
    made_or_changed,
    notice,
)

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HOSTILE_NAME = '"><script>alert(1)</script>\x1b[2J\n\u202egnp.svg'


def entry(
    path: str, size_bytes: int = 10, changed: str = "1700000000.0000000010", inode: str = "1"
) -> FileEntry:
    return FileEntry(path, "f", size_bytes, changed, inode)


def png(width: int, height: int) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x06\0\0\0" + b"\0" * 20
    )


def jpeg(width: int, height: int) -> bytes:
    app = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    return (
        b"\xff\xd8" + app + b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" + b"\0" * 20
    )


class Tags(HTMLParser):
    """The tags of a document, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def the_frame(page: str, *, scripts: bool = False) -> dict[str, str | None]:
    shown = display_of("page.html", page.encode(), scripts=scripts)
    around, (tag, attributes) = Tags(shown["text/html"]).found
    assert (around, tag) == (("pre", {"style": "margin: 0"}), "iframe")
    return attributes


def test_new_and_changed_files_are_found_in_the_order_of_their_making() -> None:
    before = [
        entry("same.png"),
        entry("touched.png"),
        entry("grown.png"),
        entry("replaced.png"),
        entry("gone.png"),
    ]
    after = [
        entry("same.png"),
        entry("touched.png", changed="1700000000.0000000011"),
        entry("grown.png", 11, changed="1700000003.0"),
        entry("replaced.png", inode="2"),
        entry("new.png", changed="1700000002.0"),
    ]
    found = [file.path for file in made_or_changed(before, after)]
    assert set(found[:2]) == {"replaced.png", "touched.png"}
    assert found[2:] == ["new.png", "grown.png"]


def test_number_and_size_of_what_is_shown_are_bounded() -> None:
    files = [entry("large.png", MAX_FILE_BYTES + 1), *(entry(f"{n}.png") for n in range(MAX_FILES + 30))]
    choice = choose(files)
    assert [file.path for file in choice.shown] == [f"{n}.png" for n in range(MAX_FILES)]
    text = notice(choice.skipped)
    assert "large.png (4.0 MB, more than 4.0 MB)" in text
    assert f"{31 - MAX_FILES} more" in text
    assert text.count("\n") == 1


def test_a_notice_is_one_line_whatever_the_names_are() -> None:
    text = notice([(entry(HOSTILE_NAME * 100), "too large")])
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert len(text) < 200


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.png", b""),
        ("a.png", b"<svg><script>"),
        ("a.png", jpeg(1, 1)),
        ("a.png", png(1, 1)[:20]),
        ("a.png", png(0, 1)),
        ("a.png", png(100_000, 100_000)),
        ("a.jpg", b"\xff\xd8\xff"),
        ("a.jpg", png(1, 1)),
        ("a.jpeg", jpeg(65_000, 65_000)),
        ("a.jpg", b"\xff\xd8" + b"\xff\xe0\x00\x00" * 5),
        ("a.svg", b"<html><script>"),
        ("a.svg", png(1, 1)),
        ("a.svg", b'<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg>&a;</svg>'),
        ("a.svg", SVG.decode().encode("utf-16")),
        ("a.svg", b" " * 5000 + SVG),
        ("a.html", b"\xff\xfe<\0p\0"),
        ("a.html", b"a\0b"),
    ],
)
def test_what_is_not_what_its_name_says_is_not_shown(path: str, content: bytes) -> None:
    with pytest.raises(NotShownError):
        display_of(path, content)


def test_pictures_are_data_and_nothing_else() -> None:
    for path, content, kind in [
        ("a.PNG", png(3, 2), "png"),
        ("a.jpg", jpeg(3, 2), "jpeg"),
        ("a.jpeg", jpeg(1, 1), "jpeg"),
    ]:
        shown = display_of(path, content)
        assert set(shown) == {f"image/{kind}", "text/plain"}
        assert base64.b64decode(shown[f"image/{kind}"]) == content


def test_an_svg_is_an_image_and_never_markup_of_the_page() -> None:
    shown = display_of(HOSTILE_NAME, SVG)
    assert set(shown) == {"text/html", "text/plain"}
    ((tag, attributes),) = Tags(shown["text/html"]).found
    assert (tag, set(attributes)) == ("img", {"src", "alt", "style"})
    source = attributes["src"] or ""
    assert source.startswith("data:image/svg+xml;base64,")
    assert base64.b64decode(source.partition(",")[2]) == SVG
    assert "\x1b" not in shown["text/html"] + shown["text/plain"]
    assert "\u202e" not in shown["text/html"] + shown["text/plain"]
    assert "\n" not in shown["text/plain"]


@pytest.mark.parametrize(
    "page",
    [
        "<script>parent.alert(1)</script>",
        '"></iframe><script>alert(1)</script>',
        "'></iframe><img src=x onerror=alert(1)>",
        "&quot;&gt;<script>alert(1)</script>",
        "</iframe>" * 10,
    ],
)
def test_a_page_stays_in_a_frame_that_may_do_nothing(page: str) -> None:
    frame = the_frame(page)
    assert frame["sandbox"] == ""
    document = frame["srcdoc"] or ""
    policy = re.match(
        r'<!DOCTYPE html><meta http-equiv="Content-Security-Policy" content="([^"]*)">', document
    )
    assert policy
    assert policy[1].startswith("default-src 'none'; ")
    assert "script-src" not in policy[1]
    assert not re.search(r"https?:|\*", policy[1])
    assert document.endswith(f"</style>{page}")


@pytest.mark.parametrize(
    "tag",
    [
        "<link rel=preconnect href=//x>",
        "<LiNk href=x>",
        "<meta http-equiv=refresh>",
        "<META\n>",
        "<iframe srcdoc='&lt;link>'>",
        "<FRAME src=x>",
        "<object data=x>",
    ],
)
def test_tags_that_a_policy_does_not_stop_are_disarmed(tag: str) -> None:
    tags = [name for name, _ in Tags(the_frame(f"<p>{tag}")["srcdoc"] or "").found]
    assert tags[:3] == ["meta", "style", "p"]
    assert tags[3].startswith("x-")


def test_scripts_run_only_where_asked_and_never_in_the_notebooks_name() -> None:
    frame = the_frame("<script>1</script>", scripts=True)
    assert frame["sandbox"] == "allow-scripts"
    assert "script-src 'unsafe-inline'" in (frame["srcdoc"] or "")
    assert "default-src 'none'" in (frame["srcdoc"] or "")


def rows(count: int) -> str:
    return f"<table border=1>{'<tr><th>1</th><td>some text</td></tr>' * count}</table>"


@pytest.mark.parametrize(
    ("page", "lowest_px", "highest_px"),
    [
        ("<p>page</p>", 60, 90),
        (rows(5), 120, 180),
        (rows(30), 650, 800),
        ("<table><tr><td>a<tr><td>b<tr><td>c</table>", 80, 130),
        (rows(5000), 1200, 1200),
        (f"<style>{'a {}' * 1000}</style><p>x", 60, 90),
        ("<pre>" + "line\n" * 20 + "</pre>", 380, 450),
        ("word " * 500, 350, 600),
        ('<svg width="10" height="333"><text>drawn</text></svg>', 340, 400),
        ("<div style='width: 9px; height: 450px'></div>", 450, 520),
        ("", 60, 60),
    ],
)
def test_a_frame_is_about_as_high_as_its_content(page: str, lowest_px: int, highest_px: int) -> None:
    height = re.search(r"(?<!-)height: (\d+)px", the_frame(page)["style"] or "")
    assert height
    assert lowest_px <= int(height[1]) <= highest_px


@pytest.mark.parametrize(
    "piece", ["<a ", "<", "<!--", "<a b='", "</a", "<![CDATA[", "&#", "<a height=", "<?"]
)
def test_a_page_that_was_made_to_keep_a_parser_busy_does_not(piece: str) -> None:
    began = time.process_time()
    assert 60 <= estimated_height_px(piece * (4_000_000 // len(piece))) <= 1200
    assert time.process_time() - began < 2  # a parser that goes back takes minutes


def test_a_page_is_escaped_once() -> None:
    shown = display_of("a.html", b"<p>1 &lt; 2 &amp; 3</p>")
    assert html.escape("<p>1 &lt; 2 &amp; 3</p>") in shown["text/html"]


def test_a_listing_is_read_and_what_is_no_entry_of_it_is_dropped() -> None:
    output = (
        "+ s=0\nfound\nf 12 1700000000.0000000010 99 b.png\nf 3 1700000001.5 98 a b/ c.svg\n"
        "f x 1 1 bad.png\nf 1 99999999999999.0 1 late.png\nf 1 1.0 1 line\nfeed.png\nf 1 1.0 1 \n"
    )
    listing = parse_listing(output, "/workspace")
    assert [(file.path, file.size_bytes) for file in listing.entries] == [
        ("a b/ c.svg", 3),
        ("b.png", 12),
        ("line", 1),
    ]
    assert listing.exists
    assert [file.changed_at.year for file in listing.entries] == [2023, 2023, 1970]


def test_a_listing_that_names_nothing_is_of_no_directory() -> None:
    assert not parse_listing("f 12 1700000000.0 99 b.png\n", "/workspace").exists


def test_a_listing_is_bounded() -> None:
    listing = parse_listing("found\n" + "".join(f"f 1 1.0 1 {n}\n" for n in range(5000)), "/workspace")
    assert len(listing.entries) == 1000
    assert listing.truncated
