"""Word documents: everything a reader sees, in order; what is hostile ends with a reason."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import docx
import pytest
from docx.document import Document

from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.docx import parse_docx
from tests.conftest import Samples
from tests.unit.consumers.documents.parse.packed import failed, read
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed

TRANSITIONAL = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
MEGABYTE = 1024 * 1024


def parsed(path: Path) -> ParsedDocument:
    document = parse_docx(path, ParseLimits())
    assert_well_formed(document)
    return document


def saved(document: Document, tmp_path: Path) -> Path:
    path = tmp_path / "document.docx"
    document.save(str(path))
    return path


def packed(tmp_path: Path, body: str | Iterable[bytes], *, namespace: str = TRANSITIONAL, prolog: str = "") -> Path:
    """A document of one part, with `body` as its XML."""
    path = tmp_path / "packed.docx"
    opening = f'{prolog}<w:document xmlns:w="{namespace}"><w:body>'.encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(
            "_rels/.rels",
            f'<Relationships><Relationship Type="{OFFICE}" Target="/word/document.xml"/></Relationships>',
        )
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            part.write(opening)
            for piece in [body.encode()] if isinstance(body, str) else body:
                part.write(piece)
            part.write(b"</w:body></w:document>")
    return path


def text_of(run: str) -> str:
    return f"<w:p><w:r>{run}</w:r></w:p>"


def test_structure_in_the_bodys_order(tmp_path: Path) -> None:
    document = docx.Document()
    document.core_properties.title = "The title"
    document.add_heading("Guide", 0)
    document.add_heading("Install", 1)
    document.add_paragraph("Before the table.")
    table = document.add_table(2, 2)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {number}\nsecond line"
    document.add_paragraph("After the table.")
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Bullet")
    document.add_heading("Deeper", 3)
    found = parsed(saved(document, tmp_path))
    assert [(block.kind, block.level, found.text[block.start : block.end]) for block in found.blocks] == [
        ("heading", 1, "Guide"),
        ("heading", 1, "Install"),
        ("paragraph", 0, "Before the table."),
        ("table", 0, "cell 0 second line | cell 1 second line\ncell 2 second line | cell 3 second line"),
        ("paragraph", 0, "After the table."),
        ("list", 0, "- first\n- second"),
        ("heading", 3, "Deeper"),
    ]
    assert (found.title, found.pages) == ("The title", ())


def test_nested_tables_headers_and_footers(tmp_path: Path) -> None:
    document = docx.Document()
    cell = document.add_table(1, 2).rows[0].cells[1]
    cell.text = "outer"
    cell.add_table(1, 2).rows[0].cells[0].text = "inner"
    document.sections[0].header.paragraphs[0].text = "the header"
    document.sections[0].footer.paragraphs[0].text = "the footer"
    assert parsed(saved(document, tmp_path)).text == "| outer inner |\n\nthe header\n\nthe footer"


def test_comments_follow_the_body(tmp_path: Path) -> None:
    document = docx.Document()
    paragraph = document.add_paragraph("The claim.")
    document.add_comment(paragraph.runs, text="Is it true?", author="Ann")
    assert parsed(saved(document, tmp_path)).text == "The claim.\n\nIs it true?"


def test_text_boxes_are_read_once_and_deleted_text_is_not(tmp_path: Path) -> None:
    box = "<w:txbxContent><w:p><w:r><w:t>in the box</w:t></w:r></w:p></w:txbxContent>"
    body = (
        "<w:p><w:r><w:t>Out</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        '<w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r>"
        "<w:ins><w:r><w:t>side</w:t><w:br/><w:t>line</w:t><w:tab/><w:noBreakHyphen/></w:r></w:ins></w:p>"
    )
    assert parsed(packed(tmp_path, body)).text == "in the box\n\nOutside\nline\t-"


def test_strict_ooxml(tmp_path: Path) -> None:
    assert parsed(packed(tmp_path, text_of("<w:t>strict</w:t>"), namespace=STRICT)).text == "strict"


def test_a_style_based_on_itself_ends(tmp_path: Path) -> None:
    document = docx.Document()
    style = document.styles["Normal"]
    style.base_style = style
    document.add_paragraph("Some text.")
    assert parsed(saved(document, tmp_path)).text == "Some text."


def test_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(ParseFailed) as caught:
        parse_docx(saved(docx.Document(), tmp_path), ParseLimits())
    assert caught.value.code == "empty_document"


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
async def test_cut_short(tmp_path: Path, share: float) -> None:
    whole = io.BytesIO()
    docx.Document().save(whole)
    path = tmp_path / "cut.docx"
    path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)])
    assert await failed(path) == "malformed_file"


async def test_xml_cut_short(tmp_path: Path) -> None:
    assert await failed(packed(tmp_path, "<w:p><w:r><w:t>text")) == "malformed_file"


async def test_damaged_bytes(tmp_path: Path) -> None:
    path = packed(tmp_path, "".join(text_of(f"<w:t>{n * 7919}</w:t>") for n in range(5000)))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    assert await failed(path) == "malformed_file"


async def test_billion_laughs(tmp_path: Path) -> None:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    body = text_of("<w:t>&a11;</w:t>")
    assert await failed(packed(tmp_path, body, prolog=f"<!DOCTYPE w:document [{entities}]>")) == "malformed_file"


async def test_external_entities_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    prolog = f'<!DOCTYPE w:document [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
    assert await failed(packed(tmp_path, text_of("<w:t>x&e;</w:t>"), prolog=prolog)) == "malformed_file"


async def test_zip_bomb_of_one_text(tmp_path: Path) -> None:
    pieces = [b"<w:p><w:r><w:t>", *[b"a" * MEGABYTE] * 190, b"</w:t></w:r></w:p>"]
    assert await failed(packed(tmp_path, pieces)) == "too_large_text"


async def test_zip_bomb_of_many_paragraphs(tmp_path: Path) -> None:
    paragraph = text_of(f"<w:t>{'a' * 1000}</w:t>").encode()
    assert await failed(packed(tmp_path, [paragraph * 1000] * 150)) == "too_large_text"


async def test_zip_bomb_that_says_its_size(tmp_path: Path) -> None:
    assert await failed(packed(tmp_path, [b" " * MEGABYTE] * 256)) == "too_large_text"


async def test_deep_nesting(tmp_path: Path) -> None:
    depth = 100_000
    assert await failed(packed(tmp_path, "<w:p>" * depth + "</w:p>" * depth)) == "malformed_file"


@pytest.mark.parametrize(("depth", "end"), [(40, "core"), (5000, "malformed_file")])
async def test_tables_in_tables_and_a_cell_that_spans_a_billion(tmp_path: Path, depth: int, end: str) -> None:
    span = '<w:tcPr><w:gridSpan w:val="1000000000"/></w:tcPr>'
    path = packed(
        tmp_path, f"<w:tbl><w:tr><w:tc>{span}" * depth + text_of("<w:t>core</w:t>") + "</w:tc></w:tr></w:tbl>" * depth
    )
    assert (await failed(path) if depth > 100 else (await read(path)).text) == end


async def test_twenty_thousand_columns(tmp_path: Path) -> None:
    cells = "".join(f"<w:tc><w:p><w:r><w:t>{n}</w:t></w:r></w:p></w:tc>" for n in range(20_000))
    path = packed(tmp_path, f"<w:tbl><w:tr>{cells}</w:tr></w:tbl>")
    document = await read(path)
    assert document.text.endswith(" | 19998 | 19999")


def test_the_sample_paper(samples: Samples) -> None:
    document = parsed(samples.path("paper.docx"))
    headings = [document.text[block.start : block.end] for block in document.blocks if block.kind == "heading"]
    assert headings[:3] == [
        "AutoGen: Enabling Next-Gen LLM Applications via Multi-Agent Conversation",
        "Abstract",
        "Introduction",
    ]
    (table,) = (document.text[block.start : block.end] for block in document.blocks if block.kind == "table")
    assert "13 | 14 | 49e168b7-d2ae-407f-a055-2167576f39a1 | 15 | 16 | 17" in table.split("\n")


async def test_the_truncated_sample(samples: Samples) -> None:
    assert await failed(samples.path("docx-truncated.docx")) == "malformed_file"
