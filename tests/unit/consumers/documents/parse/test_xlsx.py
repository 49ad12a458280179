"""Workbooks: sheets under their names, values as they are shown; what is hostile ends with a reason."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from consumers.documents.parse.number_formats import BUILT_IN, formatter, general
from tests.conftest import Samples
from tests.unit.consumers.documents.parse.packed import MEGABYTE, Content, blocks, failed, packed, read, relationships

TRANSITIONAL = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
STYLES = (
    "<styleSheet><numFmts>"
    '<numFmt numFmtId="164" formatCode="dd/mm/yyyy"/><numFmt numFmtId="165" formatCode="&quot;EUR&quot; #,##0.00"/>'
    "</numFmts><cellXfs>"
    + "".join(f'<xf numFmtId="{number}"/>' for number in (0, 164, 165, 10))
    + "</cellXfs></styleSheet>"
)


def workbook(
    tmp_path: Path,
    *sheets: str | Iterable[bytes],
    states: tuple[str, ...] = (),
    texts: Content = "<sst/>",
    namespace: str = TRANSITIONAL,
    prolog: str = "",
    properties: str = "",
    more: Mapping[str, Content] | None = None,
) -> Path:
    """A workbook with these sheets' rows as XML; `more` are other parts."""
    listed = "".join(
        f'<sheet name="Sheet {n}" r:id="worksheet{n}" state="{states[n] if n < len(states) else "visible"}"/>'
        for n in range(len(sheets))
    )
    parts: dict[str, Content] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relationships(officeDocument="/xl/workbook.xml"),
        "xl/workbook.xml": (
            f'<workbook xmlns="{namespace}" xmlns:r="{RELATED}">{properties}<sheets>{listed}</sheets></workbook>'
        ),
        "xl/_rels/workbook.xml.rels": relationships(
            styles="styles.xml",
            sharedStrings="texts.xml",
            **{f"worksheet{n}": f"sheet{n}.xml" for n in range(len(sheets))},
        ),
        "xl/styles.xml": STYLES,
        "xl/texts.xml": texts,
    }
    opening = f'{prolog}<worksheet xmlns="{namespace}"><sheetData>'
    for number, rows in enumerate(sheets):
        pieces = [rows.encode()] if isinstance(rows, str) else rows
        parts[f"xl/sheet{number}.xml"] = (
            piece for part in ([opening.encode()], pieces, [b"</sheetData></worksheet>"]) for piece in part
        )
    return packed(tmp_path / "book.xlsx", parts | dict(more or {}))


def row(*values: str) -> str:
    """A row of inline strings."""
    cells = "".join(f'<c t="inlineStr"><is><t>{value}</t></is></c>' for value in values)
    return f"<row>{cells}</row>"


async def test_values_as_they_are_shown(tmp_path: Path) -> None:
    cells = (
        '<c r="A2" t="s"><v>1</v></c><c r="B2" s="1"><v>45351</v></c><c r="C2" s="2"><v>-1234.5</v></c>'
        '<c r="D2" s="3"><v>0.125</v></c><c r="E2" t="b"><v>1</v></c><c r="F2" t="e"><v>#DIV/0!</v></c>'
        '<c r="G2" t="str"><f>A2&amp;"!"</f><v>pen!</v></c><c r="H2"><f>SUM(A1:A3)</f></c>'
        '<c r="J2"><v>0.30000000000000004</v></c>'
    )
    texts = "<sst><si><t>unused</t></si><si><r><t>a </t></r><r><t>pen</t></r><rPh><t>ペン</t></rPh></si></sst>"
    rows = (
        row("name", "day", "price", "share", "is", "error", "text", "sum", "none", "float")
        + f'<row r="2">{cells}</row>'
    )
    document = await read(workbook(tmp_path, rows, texts=texts))
    assert document.text == (
        "Sheet 0\n\n"
        "name | day | price | share | is | error | text | sum | none | float\n"
        "a pen | 29/02/2024 | -EUR 1,234.50 | 12.50% | TRUE | #DIV/0! | pen! | =SUM(A1:A3) |  | 0.3"
    )


async def test_sheets_in_order_hidden_ones_marked_and_empty_ones_left_out(tmp_path: Path) -> None:
    sheets = (row("a", "b") + row("1", "2"), "", row("c", "d"), row("e", "f"))
    document = await read(workbook(tmp_path, *sheets, states=("visible", "visible", "hidden", "veryHidden")))
    assert [text for kind, text in blocks(document) if kind == "heading"] == [
        "Sheet 0",
        "Sheet 2 (hidden)",
        "Sheet 3 (hidden)",
    ]


async def test_strict_ooxml_and_dates_from_1904(tmp_path: Path) -> None:
    rows = '<row><c s="1"><v>1462.5</v></c></row>'
    path = workbook(tmp_path, rows, namespace=STRICT, properties='<workbookPr date1904="1"/>')
    assert (await read(path)).text.endswith("02/01/1908")


async def test_comments_follow_their_sheet(tmp_path: Path) -> None:
    comments = '<comments><commentList><comment ref="B2"><text><t>Really?</t></text></comment></commentList></comments>'
    more = {"xl/_rels/sheet0.xml.rels": relationships(comments="c.xml"), "xl/c.xml": comments}
    path = workbook(tmp_path, row("a", "b"), more=more)
    assert (await read(path)).text.endswith("Comment on B2: Really?")


@pytest.mark.parametrize(
    ("code", "value", "shown"),
    [
        ("0.00", 3.14159, "3.14"),
        ("#,##0", 1234567.0, "1,234,567"),
        ("#,##0.00;(#,##0.00)", -5.0, "(5.00)"),
        ('0.0,,"M"', 12_500_000.0, "12.5M"),
        ("000000", 42.0, "000042"),
        ("0.##", 2.5, "2.5"),
        ("[$€-407]\\ #,##0.00", 9.5, "€ 9.50"),
        ("0.00E+00", 12345.0, "1.23E+04"),
        ("General", 12345678901.0, "12345678901"),
        ("General;-General", -2.0, "-2"),
        ('0;-0;"none"', 0.0, "none"),
        ('"No. "0', 7.0, "No. 7"),
        ("@", 5.0, "5"),
        (BUILT_IN[14], 1.0, "1900-01-01"),
        (BUILT_IN[14], 61.0, "1900-03-01"),
        (BUILT_IN[18], 0.5 + 5 / 1440, "12:05 PM"),
        (BUILT_IN[46], 1.5, "36:00:00"),
        ("[$-409]dddd, mmmm d, yyyy", 45351.0, "Thursday, February 29, 2024"),
        ("yyyy-mm-dd hh:mm:ss", 45351.999999, "2024-03-01 00:00:00"),
        ("mm:ss.0", 0.00001157407, "00:01.0"),
        ("yyyy", -1.0, "-1"),
        ("yyyy", 1e30, "1e+30"),
    ],
)
def test_number_formats(code: str, value: float, shown: str) -> None:
    assert formatter(code)(value, False) == shown


def test_a_long_number_keeps_its_digits() -> None:
    assert general(123456789012345.0) == "123456789012345"


async def test_nothing_in_it(tmp_path: Path) -> None:
    assert await failed(workbook(tmp_path, "")) == "empty_document"


@pytest.mark.parametrize("share", [0.5, 0.95])
async def test_cut_short(tmp_path: Path, share: float) -> None:
    path = workbook(tmp_path, row("a", "b"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert await failed(path) == "malformed_file"


async def test_places_that_lie(tmp_path: Path) -> None:
    rows = (
        '<dimension ref="A1:XFD1048576"/><row r="9999999"><c r="ZZZ1" t="inlineStr"><is><t>far</t></is></c></row>'
        '<row r="1"><c r="XFD9" t="s"><v>99999999999999999999</v></c><c r="A1" s="77"><v>5</v></c></row><row r="x">'
        '<c r="??"><v>not a number</v></c><c><v>1e999</v></c></row>'
    )
    assert (await read(workbook(tmp_path, rows))).text == "Sheet 0\n\nfar\n5\n\nnot a number | 1e999"


async def test_twenty_thousand_columns(tmp_path: Path) -> None:
    rows = row(*(f"column{n}" for n in range(20_000))) + row(*map(str, range(20_000)))
    assert (await read(workbook(tmp_path, rows))).text.endswith("\ncolumn19999: 19999")


async def test_bomb_that_says_its_size(tmp_path: Path) -> None:
    assert await failed(workbook(tmp_path, [b"<row/>" * (MEGABYTE // 6)] * 256)) == "too_large_text"


async def test_bomb_in_pieces(tmp_path: Path) -> None:
    sheets = [[b"<row/>" * (MEGABYTE // 6)] * 100] * 6
    assert await failed(workbook(tmp_path, *sheets)) == "too_large_text"


async def test_bomb_of_shared_texts(tmp_path: Path) -> None:
    texts = (b"<sst>", *[b"<si><t>" + b"a" * 1000 + b"</t></si>"] * 30_000, b"</sst>")
    assert await failed(workbook(tmp_path, row("a"), texts=texts)) == "too_large_text"


async def test_one_shared_text_in_a_million_cells(tmp_path: Path) -> None:
    texts = f"<sst><si><t>{'word ' * 2000}</t></si></sst>"
    cells = b'<row><c t="s"><v>0</v></c></row>' * 10_000
    assert await failed(workbook(tmp_path, [cells] * 20, texts=texts)) == "too_large_text"


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no limit on memory")
async def test_a_row_of_two_million_cells(tmp_path: Path) -> None:
    assert await failed(workbook(tmp_path, [b"<row>", *[b"<c><v>1</v></c>" * 100_000] * 20])) == "out_of_memory"


async def test_a_sheet_that_says_it_is_full_and_a_cell_merged_over_it(tmp_path: Path) -> None:
    """Neither the dimension nor merged cells are believed: only cells that are there count."""
    last = '<row r="1048576"><c r="XFD1048576" t="str"><v>the last cell</v></c></row>'
    merged = '</sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells><dimension ref="A1:XFD1048576"/>'
    path = workbook(tmp_path, row("the first cell") + last + merged + "<sheetData>")
    assert (await read(path)).text == "Sheet 0\n\nthe first cell\nthe last cell"


async def test_billion_laughs_and_external_entities(tmp_path: Path) -> None:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    path = workbook(tmp_path, row("&a11;"), prolog=f"<!DOCTYPE worksheet [{entities}]>")
    assert await failed(path) == "too_large_text"


async def test_deep_nesting(tmp_path: Path) -> None:
    assert await failed(workbook(tmp_path, "<row>" * 50_000 + "</row>" * 50_000)) == "malformed_file"


async def test_names_that_climb_are_not_followed(tmp_path: Path) -> None:
    climbing = relationships(worksheet0="../../../../etc/passwd", sharedStrings="/etc/passwd")
    path = workbook(tmp_path, row("a", "b"), more={"xl/_rels/workbook.xml.rels": climbing})
    assert await failed(path) == "empty_document"


async def test_the_sample(samples: Samples) -> None:
    found = blocks(await read(samples.path("sheet.xlsx")))
    assert [text for kind, text in found if kind == "heading"] == ["Sheet1", "09060124-b5e7-4717-9d07-3c046eb"]
    assert all(text.startswith("Alpha | Beta | Gamma | Delta\n") for kind, text in found[1:-2] if kind == "table")
    assert any("58 | 6ff4173b-42a5-4784-9b19-f49caff4d93d | 22 | 9" in text for _, text in found)
