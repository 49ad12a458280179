"""What holds for every parsed document."""

from __future__ import annotations

from consumers.documents.parse.document import ParsedDocument


def assert_well_formed(document: ParsedDocument) -> None:
    """The contract of `ParsedDocument`."""
    text = document.text
    assert text.strip()
    assert not any(character < " " and character not in "\n\t" for character in text)
    text.encode("utf-8")  # no lone surrogates
    position = 0
    for block in document.blocks:
        assert position <= block.start < block.end <= len(text)
        assert not text[position : block.start].strip()
        assert text[block.start : block.end].strip()
        assert (block.level > 0) == (block.kind == "heading")
        if block.page is None:
            assert not document.pages
        else:
            start, end = document.pages[block.page - 1]
            assert start <= block.start < block.end <= end
        position = block.end
    assert not text[position:].strip()
    position = 0
    for start, end in document.pages:
        assert start == position <= end
        position = end
    assert not document.pages or position == len(text)
