"""Plain tables of HTML, written anew: nothing but a table comes through."""

from __future__ import annotations

import time

import pytest

from sandkasten._python.values import RichResult
from sandkasten.notebook.kernels.messages import bundle_to_show
from sandkasten.notebook.markup.plain import plain_markup

# As pandas writes a table.
TABLE = """<div>
<style scoped>
    .dataframe tbody tr th:only-of-type {
        vertical-align: middle;
    }

    .dataframe tbody tr th {
        vertical-align: top;
    }
</style>
<table border="1" class="dataframe">
  <thead>
    <tr style="text-align: right;">
      <th></th>
      <th colspan="2" halign="left">a &lt;b&gt;</th>
    </tr>
  </thead>
  <tbody>
    <tr>
      <th rowspan="2" valign="top">0</th>
      <td>1</td>
    </tr>
  </tbody>
</table>
<p>2 rows, 2 columns</p>
</div>"""
# As polars does.
POLARS = """<div><style>
.dataframe > thead > tr,
.dataframe > tbody > tr {
  text-align: right;
  white-space: pre-wrap;
}
</style>
<small>shape: (1, 1)</small><table border="1" class="dataframe"><thead><tr><th>a</th></tr></thead>
<tbody><tr><td>1</td></tr></tbody></table></div>"""


def test_a_table_is_written_anew_without_its_style() -> None:
    shown = plain_markup(TABLE)
    assert shown is not None
    assert "style" not in shown
    assert '<th colspan="2">a &lt;b&gt;</th>' in shown
    assert '<th rowspan="2">0</th>' in shown
    assert shown.count('<table border="1" class="dataframe">') == 1
    assert "<small>shape: (1, 1)</small>" in (plain_markup(POLARS) or "")


def test_a_table_stands_in_the_page_and_a_formula_in_it_stays_text() -> None:
    priced = TABLE.replace("<td>1</td>", "<td>$5 and $6</td>")
    for shown in (
        RichResult({"text/html": priced})._repr_mimebundle_(),
        bundle_to_show({"text/html": priced}),
    ):
        assert "iframe" not in shown["text/html"]
        assert shown["text/html"].startswith('<div class="tex2jax_ignore mathjax_ignore">')


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>", "<img src=x>", "<a href='javascript:1'>x</a>", "<svg/onload=alert(1)>",
        "<b onclick=alert(1)>x</b>", "<b onclick='alert(1)'>x</b>", "<b/onclick=1>x</b>", "<b \x00></b>",
        "<p style='color: red'>x</p>", "<p style='text-align: left; position: fixed'>x</p>",
        "<td colspan='1 onx=1'></td>", "<td colspan=0></td>", "<td colspan=99999></td>", "<td onx></td>",
        "</div></div>x", "<b><i></b></i>", "<b>", "<!-- -->", "<!DOCTYPE html>", "<", "a < b", "a > b",
        "<style>* {}</style>", "<style>.dataframe a {} * {}</style>", "<style>.dataframe a {}</style><style>",
        "<style>.dataframe td {} @import 'x';</style>", "<st<style>.dataframe a {}</style>yle>",
        "<iframe srcdoc=x></iframe>", "<form>", "<input>", "<plaintext>", "<b" + " a" * 9,
        "<div>" * 40 + "</div>" * 40, "x" * 1_000_001,
    ],
)  # fmt: skip
def test_anything_else_is_not_plain(hostile: str) -> None:
    assert plain_markup(hostile) is None
    assert plain_markup(TABLE + hostile) is None


def test_a_table_made_to_keep_the_reader_busy_does_not() -> None:
    begun = time.process_time()
    for hostile in (
        "<b" + " " * 900_000,
        "<style>" * 140_000,
        "<td" + " a=b" * 200_000,
        "<style>" + ".dataframe a" * 160,
    ):
        assert plain_markup(hostile) is None
    assert time.process_time() - begun < 5


def test_where_frames_are_left_out_the_text_stands() -> None:
    page = {"text/html": "<b onx>1</b>", "text/plain": "<1>\n 2"}
    for shown in (RichResult(page)._repr_mimebundle_(), bundle_to_show(page)):
        assert shown["text/html"].endswith(">&lt;1&gt;\n 2</iframe></pre>")
