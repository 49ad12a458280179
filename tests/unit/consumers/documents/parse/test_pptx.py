"""Presentations: slides as pages; what is hostile ends with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import Samples
from tests.unit.consumers.documents.parse.packed import MEGABYTE, Content, blocks, failed, packed, read, relationships

P = "http://schemas.openxmlformats.org/presentationml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/presentationml/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def presentation(
    tmp_path: Path,
    *slides: Content,
    attributes: str = "",
    namespace: str = P,
    more: Mapping[str, Content] | None = None,
) -> Path:
    """A presentation of these slides, each the XML of its shapes (bytes: of the whole part)."""
    listed = "".join(f'<p:sldId id="{256 + n}" r:id="slide{n}"/>' for n in reversed(range(len(slides))))
    parts: dict[str, Content] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relationships(officeDocument="ppt/presentation.xml"),
        "ppt/presentation.xml": (
            f'<p:presentation xmlns:p="{namespace}" xmlns:r="{R}"><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>'
        ),
        "ppt/_rels/presentation.xml.rels": relationships(**{f"slide{n}": f"s{n}.xml" for n in range(len(slides))}),
    }
    for number, shapes in enumerate(slides):
        parts[f"ppt/s{number}.xml"] = part(shapes, attributes, namespace) if isinstance(shapes, str) else shapes
    return packed(tmp_path / "deck.pptx", parts | dict(more or {}))


def part(shapes: str, attributes: str = "", namespace: str = P) -> str:
    opening = f'<p:sld xmlns:p="{namespace}" xmlns:a="{A}" {attributes}>'
    return f"{opening}<p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>"


def shape(*paragraphs: str, kind: str | None = None, place: tuple[int, int] | None = None) -> str:
    """A shape of these paragraphs; `kind` of placeholder, `place` as (left, top) in inches."""
    placeholder = "" if kind is None else f'<p:ph type="{kind}"/>'
    offset = "" if place is None else f'<a:xfrm><a:off x="{place[0] * 914400}" y="{place[1] * 914400}"/></a:xfrm>'
    lines = "".join(paragraph if "<" in paragraph else f"<a:p>{run(paragraph)}</a:p>" for paragraph in paragraphs)
    return (
        f"<p:sp><p:nvSpPr><p:nvPr>{placeholder}</p:nvPr></p:nvSpPr><p:spPr>{offset}</p:spPr>"
        f"<p:txBody>{lines}</p:txBody></p:sp>"
    )


def run(text: str) -> str:
    return f"<a:r><a:t>{text}</a:t></a:r>"


async def test_a_slide_is_a_page_in_the_order_of_the_show(tmp_path: Path) -> None:
    document = await read(presentation(tmp_path, shape("Last", kind="title"), "", shape("First", kind="ctrTitle")))
    assert [(block.kind, block.page) for block in document.blocks] == [("heading", 1), ("heading", 3)]
    assert (document.n_pages, document.text) == (3, "First\n\n\n\nLast\n\n")


async def test_shapes_from_top_to_bottom_and_left_to_right(tmp_path: Path) -> None:
    group = f"<p:grpSp>{shape('inner right', place=(3, 0))}{shape('inner left', place=(1, 0))}</p:grpSp>"
    placed = f'<p:grpSpPr><a:xfrm><a:off x="0" y="{2 * 914400}"/></a:xfrm></p:grpSpPr>'
    shapes = (
        shape("below", place=(1, 5))
        + shape("right", place=(5, 1))
        + shape("left", place=(1, 1))
        + shape("Title", kind="title", place=(0, 8))
        + group.replace("<p:grpSp>", f"<p:grpSp>{placed}", 1)
        + shape("a date", kind="dt", place=(0, 0))
    )
    document = await read(presentation(tmp_path, shapes))
    assert [text for _, text in blocks(document)] == ["Title", "left", "right", "inner left", "inner right", "below"]


async def test_lists_tables_and_hidden_slides(tmp_path: Path) -> None:
    items = shape("one", f'<a:p><a:pPr lvl="1"/>{run("two")}</a:p>', kind="body")
    cells = "".join(
        "<a:tr>" + "".join(f"<a:tc><a:txBody><a:p>{run(text)}</a:p></a:txBody></a:tc>" for text in row) + "</a:tr>"
        for row in (("name", "price"), ("pen", "3"))
    )
    table = (
        f"<p:graphicFrame><a:graphic><a:graphicData><a:tbl>{cells}</a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
    )
    document = await read(presentation(tmp_path, shape("Title", kind="title") + items + table, attributes='show="0"'))
    assert blocks(document) == [
        ("heading", "Title (hidden)"),
        ("list", "- one\n  - two"),
        ("table", "name | price\npen | 3"),
    ]


async def test_notes_charts_comments_and_diagrams(tmp_path: Path) -> None:
    more = {
        "ppt/_rels/s0.xml.rels": relationships(
            chart="chart.xml", diagramData="diagram.xml", comments="comments.xml", notesSlide="notes.xml"
        ),
        "ppt/notes.xml": part(shape("7", kind="sldNum") + shape("Say hello.", "Smile.", kind="body")),
        "ppt/comments.xml": "<cmLst><cm><text>Really?</text></cm></cmLst>",
        "ppt/diagram.xml": f'<m xmlns:a="{A}"><pt><a:t>step</a:t></pt><pt/></m>',
        "ppt/chart.xml": (
            f'<cs xmlns:a="{A}"><chart><title><a:t>Growth</a:t></title><ser><tx><pt idx="0"><v>Units</v></pt></tx>'
            '<cat><pt idx="0"><v>North</v></pt></cat><val><pt idx="0"><v>5</v></pt></val></ser></chart></cs>'
        ),
    }
    document = await read(presentation(tmp_path, shape("Text"), more=more))
    assert [text for _, text in blocks(document)] == [
        *("Text", "Growth", "Category | Units\nNorth | 5", "- step", "Comment: Really?"),
        "Notes: Say hello.\nSmile.",
    ]


async def test_strict_ooxml(tmp_path: Path) -> None:
    assert (await read(presentation(tmp_path, shape("strict"), namespace=STRICT))).text.strip() == "strict"


async def test_pictures_only(tmp_path: Path) -> None:
    assert await failed(presentation(tmp_path, "<p:pic/>", "")) == "empty_document"


@pytest.mark.parametrize("share", [0.5, 0.95])
async def test_cut_short(tmp_path: Path, share: float) -> None:
    path = presentation(tmp_path, shape("Text"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert await failed(path) == "malformed_file"


async def test_bombs(tmp_path: Path) -> None:
    assert await failed(presentation(tmp_path, *[[b" " * MEGABYTE] * 256] * 3)) == "too_large_text"
    assert await failed(presentation(tmp_path, [b" " * MEGABYTE] * 256)) == "too_large_text"


async def test_billion_laughs_and_external_entities(tmp_path: Path) -> None:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    for prolog in (f"<!DOCTYPE x [{entities}]>", '<!DOCTYPE x [<!ENTITY a11 SYSTEM "file:///etc/passwd">]>'):
        path = presentation(tmp_path, (prolog + part(shape("<a:p>&a11;</a:p>"))).encode())
        assert await failed(path) == "malformed_file"


async def test_deep_groups(tmp_path: Path) -> None:
    assert await failed(presentation(tmp_path, "<p:grpSp>" * 50_000 + "</p:grpSp>" * 50_000)) == "malformed_file"


async def test_the_sample(samples: Samples) -> None:
    document = await read(samples.path("slides.pptx"))
    assert document.n_pages == 6
    assert ("heading", "A table to test parsing:") in blocks(document)
    (table,) = [text for kind, text in blocks(document) if kind == "table" and text.startswith("ColA | ColB")]
    assert "7 | 8 | 9 | 1b92870d-e3b5-4e65-8153-919f4ff45592 | 11 | 12" in table.split("\n")
