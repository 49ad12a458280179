"""HTML: the main text with its structure, without what surrounds it."""

from __future__ import annotations

import time

import pytest

from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.html import parse_html
from tests.conftest import Samples
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed


def parsed(page: str) -> ParsedDocument:
    document = parse_html(page, ParseLimits())
    assert_well_formed(document)
    return document


def blocks(document: ParsedDocument) -> list[tuple[str, int, str]]:
    return [(block.kind, block.level, document.text[block.start : block.end]) for block in document.blocks]


ARTICLE = "".join(
    f"<h2>Part {part}</h2>"
    + "".join(
        f"<p>Paragraph {part}.{n} tells at some length what part {part} is about, in plain words.</p>" for n in range(6)
    )
    for part in range(4)
)


def test_structure() -> None:
    page = (
        "<html><head><title> The \n title </title></head><body><h1>Top</h1><p>One<br>two <b>bold</b>.</p>"
        "<pre><code>def f():\n    return 1\n</code></pre><h3>Sub</h3><ul><li>one<li>two<ul><li>nested</ul></ul>"
        "<table><tr><th>a<td>b<tr><td>c<td><ul><li>d<li>e</ul></table>tail</body></html>"
    )
    document = parsed(page)
    assert document.title == "The title"
    assert blocks(document) == [
        ("heading", 1, "Top"),
        ("paragraph", 0, "One two bold."),
        ("code", 0, "def f():\n    return 1"),
        ("heading", 3, "Sub"),
        ("list", 0, "- one\n- two\n  - nested"),
        ("table", 0, "a | b\nc | d, e"),
        ("paragraph", 0, "tail"),
    ]


def test_navigation_is_left_out() -> None:
    menu = "".join(f'<li><a href="/{n}">Menu entry {n}</a></li>' for n in range(40))
    page = (
        f"<body><nav><ul>{menu}</ul></nav><div class='sidebar menu'><ul>{menu}</ul></div><article><h1>Subject</h1>"
        f"{ARTICLE}</article><footer>Imprint and cookies</footer><script>var evil = 1</script></body>"
    )
    document = parsed(page)
    assert "Paragraph 3.5 tells" in document.text
    assert [text for kind, _, text in blocks(document) if kind == "heading"] == [
        "Subject", "Part 0", "Part 1", "Part 2", "Part 3"
    ]  # fmt: skip
    for noise in ("Menu entry", "Imprint", "evil"):
        assert noise not in document.text


@pytest.mark.parametrize("page", ["", "   ", "<!-- only a comment -->", "<html><body><script>x</script></body></html>"])
def test_nothing_in_it(page: str) -> None:
    with pytest.raises(ParseFailed) as caught:
        parse_html(page, ParseLimits())
    assert caught.value.code == "empty_document"


def test_a_declared_encoding_may_lie() -> None:
    page = '<?xml version="1.0" encoding="shift_jis"?><!DOCTYPE html><html><body><p>日本語 ü</p></body></html>'
    assert parsed(page).text == "日本語 ü"


def test_entities_are_not_expanded() -> None:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    assert len(parsed(f"<!DOCTYPE html [{entities}]><html><body><p>&a11; x</p></body></html>").text) < 2000


def test_deep_nesting_within_reason() -> None:
    assert parsed("<body>" + "<div>" * 1500 + "<p>deep</p>" + "</div>" * 1500).text == "deep"


@pytest.mark.parametrize("opening", ["<div>", "<table><tr><td>", "<ul><li>", "<b>"])
def test_deep_nesting_beyond_it(opening: str) -> None:
    with pytest.raises(ParseFailed) as caught:
        parse_html("<html><body>" + opening * 100_000 + "text", ParseLimits())
    assert caught.value.code == "malformed_file"


def test_large_pages_take_seconds() -> None:
    page = "".join(f"<p>This is paragraph {n} of a page that is far too long.</p>" for n in range(60_000))
    started = time.process_time()
    document = parse_html(f"<html><body>{page}</body></html>", ParseLimits())
    assert len(document.blocks) == 60_000
    assert time.process_time() - started < 15


def test_twenty_thousand_columns() -> None:
    cells = "".join(f"<td>{n}</td>" for n in range(20_000))
    document = parsed(f"<html><body><table><tr>{cells}</tr></table></body></html>")
    assert document.text.endswith(" | 19998 | 19999")


def test_cells_that_span_a_billion_columns_and_rows() -> None:
    row = "<tr><td colspan=1000000000 rowspan=1000000000>{0} and its name</td><td>number {0}</td></tr>"
    started = time.process_time()
    document = parsed("<html><body><table>" + "".join(row.format(n) for n in range(200)) + "</table></body></html>")
    assert time.process_time() - started < 10
    assert document.text.endswith("\n199 and its name | number 199")


def test_too_much_text() -> None:
    with pytest.raises(ParseFailed) as caught:
        parse_html("<p>" + "word " * 1000, ParseLimits(max_characters=4000))
    assert caught.value.code == "too_large_text"


def test_the_saved_wikipedia_page(samples: Samples) -> None:
    document = parsed(samples.path("wikipedia-saved.html").read_text(encoding="utf-8"))
    assert document.title == "Microsoft - Wikipedia"
    headings = [(level, text) for kind, level, text in blocks(document) if kind == "heading"]
    assert headings[:3] == [(1, "Microsoft"), (2, "History"), (3, "1972–1985: Founding")]
    assert "Microsoft was founded by Bill Gates and Paul Allen on April 4, 1975" in document.text
    tables = [text for kind, _, text in blocks(document) if kind == "table"]
    assert "Founders | Bill Gates, Paul Allen" in tables[0].split("\n")
    for navigation in ("Jump to", "Random article", "Create account", "[edit]", "Privacy policy"):
        assert navigation not in document.text
