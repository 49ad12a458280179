"""Text as it grows: clean, exact, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.documents.parse.building import MAX_BLOCKS, TextBuilder, clean
from consumers.documents.parse.document import BlockKind, ParseFailed
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed

KINDS: list[BlockKind] = ["heading", "paragraph", "table", "code", "list"]
PAGES = st.lists(st.lists(st.tuples(st.sampled_from(KINDS), st.text(st.characters(codec=None)))), max_size=5)


def test_clean_takes_away_what_nobody_sees() -> None:
    assert clean("a\x00b\ud800c\xadd\ufeffe\u200bf") == "ab\ufffdcdef"
    assert clean("ﬁnd the oﬃce") == "find the office"
    assert clean("one\r\ntwo\rthree\u2028four\x0cfive") == "one\ntwo\nthree\nfour\nfive"
    assert clean("tab\there, space\xa0there") == "tab\there, space there"
    assert clean("\x1f\x85\x9f") == "\n"


@given(PAGES, st.booleans())
def test_whatever_is_added_the_document_is_well_formed(
    pages: list[list[tuple[BlockKind, str]]],
    is_paged: bool,
) -> None:
    builder = TextBuilder(max_characters=10_000)
    added = []
    for page in pages:
        if is_paged:
            builder.begin_page()
        for kind, text in page:
            builder.add(kind, text, level=2)
            if clean(text).strip():
                added.append("".join(clean(text).split()))
    if not added:
        with pytest.raises(ParseFailed):
            builder.finish("text/plain")
        return
    document = builder.finish("text/plain")
    assert_well_formed(document)
    assert ["".join(document.text[b.start : b.end].split()) for b in document.blocks] == added
    assert document.n_pages == (len(pages) if is_paged else 0)


def test_a_title_is_one_line_or_none() -> None:
    for title, expected in ((" A\n title\x00 ", "A title"), ("", None), (None, None), ("\x00 ", None)):
        builder = TextBuilder(max_characters=100)
        builder.add("paragraph", "text")
        assert builder.finish("text/plain", title=title).title == expected


def test_more_pieces_than_may_be_are_refused() -> None:
    builder = TextBuilder(max_characters=10 * MAX_BLOCKS)
    for _ in range(MAX_BLOCKS):
        builder.add("paragraph", "a")
    builder.add("paragraph", " ")
    with pytest.raises(ParseFailed, match="more than 250,000 headings, paragraphs and tables; split it") as caught:
        builder.add("paragraph", "a")
    assert caught.value.code == "too_large_text"


def test_more_than_may_be_is_refused() -> None:
    builder = TextBuilder(max_characters=10)
    builder.add("paragraph", "0123456789")
    with pytest.raises(ParseFailed) as failed:
        builder.add("paragraph", "x")
    assert failed.value.code == "too_large_text"
