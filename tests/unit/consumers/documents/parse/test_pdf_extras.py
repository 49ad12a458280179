"""Outline, forms, notes and attachments of PDF files, real ones written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from consumers.documents.parse.document import ParsedDocument, ParseLimits
from consumers.documents.parse.pdf import parse_pdf
from tests.conftest import Samples
from tests.unit.consumers.documents.parse.drawn_pdf import Drawn, column, pdf
from tests.unit.consumers.documents.parse.packed import blocks, failed
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed

BODY = [f"This is line {number} of a text that goes on for a while and ends somewhere." for number in range(5)]


def parsed(tmp_path: Path, data: bytes) -> ParsedDocument:
    path = tmp_path / "x.pdf"
    path.write_bytes(data)
    document = parse_pdf(path, ParseLimits())
    assert_well_formed(document)
    return document


def entry(title: str, page: int, parent: int, links: str = "") -> str:
    """An entry of an outline."""
    return f"<< /Title ({title}) /Parent {parent} 0 R /Dest [{5 + 2 * page} 0 R /Fit] {links} >>"


def outlined(titles: Sequence[str]) -> bytes:
    """Two pages of text with titles in ordinary type, and an outline: the first entry is above the others."""
    pages = [
        [Drawn("1. Introduction", 50, 750), *column(BODY, 50, 700)],
        [Drawn("2 Methods used", 50, 750), *column(BODY, 50, 700)],
    ]
    first, last = 10, 9 + len(titles)
    children = [
        entry(title, 1, 9, (f"/Next {first + n + 1} 0 R" if n + 1 < len(titles) else ""))
        for n, title in enumerate(titles)
    ]
    more = [
        f"<< /Title (Introduction) /Dest [5 0 R /Fit] /First {first} 0 R /Last {last} 0 R /Count 1 >>",
        *children,
        "<< /Type /Outlines /First 9 0 R /Last 9 0 R /Count 1 >>",
    ]
    return pdf(pages, catalog=f"/Outlines {last + 1} 0 R", more=more)


def headings(document: ParsedDocument) -> list[tuple[int, int | None, str]]:
    return [
        (block.level, block.page, document.text[block.start : block.end])
        for block in document.blocks
        if block.kind == "heading"
    ]


def test_the_outline_makes_headings_where_the_page_agrees(tmp_path: Path) -> None:
    document = parsed(tmp_path, outlined(["Methods Used"]))
    assert headings(document) == [(1, 1, "1. Introduction"), (2, 2, "2 Methods used")]


def test_titles_that_lie_make_no_headings(tmp_path: Path) -> None:
    document = parsed(tmp_path, outlined(["Results", "Discussion"]))
    assert headings(document) == [(1, 1, "1. Introduction")]


def test_an_outline_that_loops_ends(tmp_path: Path) -> None:
    data = pdf(
        [column(BODY, 50, 700)],
        catalog="/Outlines 8 0 R",
        more=[entry("x1", 0, 8, "/First 7 0 R /Next 7 0 R"), "<< /First 7 0 R /Last 7 0 R /Count 99999 >>"],
    )
    assert headings(parsed(tmp_path, data)) == []


def test_the_sample_whose_outline_lies(samples: Samples) -> None:
    document = parse_pdf(samples.path("outline-mistitled.pdf"), ParseLimits())
    assert [text for _, _, text in headings(document)][:3] == ["Contents", "1 Foo", "2 Bar"]
    assert "Second" not in document.text


def test_values_of_forms_and_notes(tmp_path: Path) -> None:
    fields = [
        "<< /Type /Annot /Subtype /Widget /FT /Tx /T (surname) /TU (Family name) /V (Curie) /Rect [50 500 200 520] >>",
        "<< /Type /Annot /Subtype /Widget /FT /Tx /T (empty) /Rect [50 400 200 420] >>",
        "<< /Type /Annot /Subtype /Widget /FT /Ch /Ff 131072 /T (country) /V (Poland) /Rect [50 300 200 320] >>",
        "<< /Type /Annot /Subtype /Text /Contents (Please check.) /Rect [10 10 30 30] >>",
    ]
    references = " ".join(f"{7 + n} 0 R" for n in range(len(fields)))
    data = pdf(
        [column(BODY, 50, 700)],
        catalog=f"/AcroForm << /Fields [{references}] >>",
        page=f"/Annots [{references}]",
        more=fields,
    )
    assert blocks(parsed(tmp_path, data))[-1] == ("list", "Family name: Curie\ncountry: Poland\nNote: Please check.")


def attached(pages: Sequence[Sequence[Drawn]]) -> bytes:
    first = 5 + 2 * len(pages)
    more = [
        f"<< /Type /Filespec /F (data.csv) /UF (data.csv) /EF << /F {first + 1} 0 R >> >>",
        "<< /Type /EmbeddedFile /Length 3 >>\nstream\na,b\nendstream",
    ]
    return pdf(pages, catalog=f"/Names << /EmbeddedFiles << /Names [(data.csv) {first} 0 R] >> >>", more=more)


def test_attachments_are_named(tmp_path: Path) -> None:
    assert blocks(parsed(tmp_path, attached([column(BODY, 50, 700), []])))[-1] == ("list", "Attached file: data.csv")


async def test_attachments_and_notes_are_no_text_layer(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    note = "<< /Type /Annot /Subtype /Text /Contents (Scanned.) /Rect [10 10 30 30] >>"
    for data in (attached([[]]), pdf([[]], page="/Annots [7 0 R]", more=[note])):
        path.write_bytes(data)
        assert await failed(path) == "no_text_layer"
