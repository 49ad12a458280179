"""PDF files into text: order, words, structure, and honest ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.pdf import parse_pdf
from tests.conftest import Samples
from tests.unit.consumers.documents.parse.drawn_pdf import Drawn, column, pdf
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed

LEFT = [
    "The left column begins here and its text is",
    "long enough to be a column of a paper that a",
    "person reads from its top down to its bottom",
    "before the eye goes on to the column beside.",
]
RIGHT = [
    "Then the right column is read, also from its",
    "first line down, because nobody reads across",
    "the gutter that stands between both columns,",
    "however the file may order what it draws.",
]


def parsed(tmp_path: Path, data: bytes, limits: ParseLimits | None = None) -> ParsedDocument:
    file = tmp_path / "file.pdf"
    file.write_bytes(data)
    document = parse_pdf(file, limits or ParseLimits())
    assert_well_formed(document)
    return document


def block_texts(document: ParsedDocument) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def failure(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(ParseFailed) as failed:
        parsed(tmp_path, data)
    assert failed.value.message.endswith(".")
    return failed.value.code


def test_columns_are_read_one_after_the_other_even_if_drawn_across(tmp_path: Path) -> None:
    across = [
        line for pair in zip(column(LEFT, 50, 700), column(RIGHT, 320, 700), strict=True) for line in reversed(pair)
    ]
    text = parsed(tmp_path, pdf([[*across, Drawn("A title over both columns of it", 150, 760, size=20)]])).text
    assert text.index("A title over") < text.index("left column") < text.index("beside.") < text.index("Then the right")
    assert "because nobody reads across the gutter that stands" in text


def test_columns_drawn_in_order_stay_as_they_are(tmp_path: Path) -> None:
    text = parsed(tmp_path, pdf([column(LEFT, 50, 700) + column(RIGHT, 320, 700)])).text
    assert text.split("\n\n")[:2] == [" ".join(LEFT), " ".join(RIGHT)]


def test_a_word_broken_at_the_end_of_a_line_is_one_word(tmp_path: Path) -> None:
    lines = [
        "Every compilation of the program ends in a compi-",
        "lation unit, which a just-in-time compiler and an-",
        "other tool can read; each is well-known, and a well-",
        "known tool is what most of the readers have here.",
    ]
    text = parsed(tmp_path, pdf([column(lines, 50, 700)])).text
    assert "a compilation unit" in text
    assert "another tool" in text
    assert "a well-known tool" in text


def test_ligatures_are_plain_letters(tmp_path: Path) -> None:
    assert "find the first file" in parsed(tmp_path, pdf([[Drawn("\x01nd the \x01rst \x01le", 50, 700)]])).text


def test_headings_by_size_and_weight(tmp_path: Path) -> None:
    drawn = [
        Drawn("The Title of the Paper", 50, 750, size=20),
        Drawn("1 First section", 50, 715, size=12, font="bold"),
        *column(LEFT, 50, 695),
        Drawn("1.1 A part of it", 50, 625, size=10, font="bold"),
        *column(RIGHT, 50, 605),
    ]
    document = parsed(tmp_path, pdf([drawn], title="Of Columns"))
    headings = [(b.level, document.text[b.start : b.end]) for b in document.blocks if b.kind == "heading"]
    assert headings == [(1, "The Title of the Paper"), (2, "1 First section"), (3, "1.1 A part of it")]
    assert document.title == "Of Columns"


def test_rows_of_a_table_stay_together_with_their_cells(tmp_path: Path) -> None:
    rows = [("Item", "Hours", "Cost"), ("Body labour", "2", "300"), ("Paint labour", "1.5", "225")]
    by_column = [Drawn(row[c], 50 + 150 * c, 700 - 14 * number) for c in range(3) for number, row in enumerate(rows)]
    document = parsed(tmp_path, pdf([[*by_column, *column(LEFT, 50, 600)]]))
    assert block_texts(document)[0] == ("table", "Item\tHours\tCost\nBody labour\t2\t300\nPaint labour\t1.5\t225")


def test_code_keeps_its_lines_and_indents(tmp_path: Path) -> None:
    drawn = [
        Drawn("for (;;) {", 50, 700, font="fixed"),
        Drawn("run();", 62, 688, font="fixed"),
        Drawn("}", 50, 676, font="fixed"),
        *column(LEFT, 50, 640),
    ]
    assert block_texts(parsed(tmp_path, pdf([drawn])))[0] == ("code", "for (;;) {\n  run();\n}")


def test_lines_that_were_ended_on_purpose_stay_lines(tmp_path: Path) -> None:
    lines = ["Ragline Ltd", "12 Log Street", "Streamtown, a town of many brokers and few rivers", *LEFT]
    assert "Ragline Ltd\n12 Log Street\nStreamtown" in parsed(tmp_path, pdf([column(lines, 50, 700)])).text


def test_pages_count_as_in_the_file_also_the_blank_ones(tmp_path: Path) -> None:
    document = parsed(tmp_path, pdf([[Drawn("First page", 50, 700)], [], [Drawn("Third page", 50, 700)]]))
    assert document.n_pages == 3
    assert [block.page for block in document.blocks] == [1, 3]
    assert [document.text[start:end].strip() for start, end in document.pages] == ["First page", "", "Third page"]


def test_a_title_that_is_a_file_name_is_none(tmp_path: Path) -> None:
    assert parsed(tmp_path, pdf([[Drawn("Text", 50, 700)]], title="paper_final2.docx")).title is None


def test_what_has_no_text_says_so(tmp_path: Path) -> None:
    assert failure(tmp_path, pdf([[], []])) == "no_text_layer"


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\n",
        b"%PDF-1.4 and then nothing of a PDF at all" * 50,
        pdf([]),
        pdf([[Drawn("Text", 50, 700)]]).replace(b"/Type /Pages", b"/Type /Cabbage").replace(b"/Kids", b"/Kits")[:400],
    ],
)
def test_what_is_damaged_says_so(tmp_path: Path, data: bytes) -> None:
    assert failure(tmp_path, data) == "malformed_file"


def test_a_lying_page_count_does_no_harm(tmp_path: Path) -> None:
    document = parsed(tmp_path, pdf([[Drawn("The only page", 50, 700)]]).replace(b"/Count 1 ", b"/Count 9 "))
    assert document.n_pages == 1


def test_a_file_cut_short_is_read_as_far_as_it_goes_or_refused(tmp_path: Path) -> None:
    whole = pdf([column(LEFT, 50, 700), column(RIGHT, 50, 700)])
    outcomes = {_outcome(tmp_path, whole[:size]) for size in range(100, len(whole), 97)}
    assert outcomes <= {"malformed_file", "no_text_layer", "1 page", "2 pages"}
    assert "malformed_file" in outcomes


def _outcome(tmp_path: Path, data: bytes) -> str:
    try:
        n_pages = parsed(tmp_path, data).n_pages
    except ParseFailed as failed:
        return failed.code
    return "1 page" if n_pages == 1 else f"{n_pages} pages"


def test_more_text_than_may_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParseFailed) as failed:
        parsed(tmp_path, pdf([column(LEFT, 50, 700)]), ParseLimits(max_characters=50))
    assert failed.value.code == "too_large_text"


def test_a_page_of_nothing_but_pieces_takes_no_time(tmp_path: Path) -> None:
    pieces = [Drawn("ab", (number * 37) % 550, (number * 53) % 790, size=6) for number in range(5_000)]
    assert parsed(tmp_path, pdf([pieces])).n_pages == 1


def test_the_two_column_paper(samples: Samples) -> None:
    document = parse_pdf(samples.path("two-column-paper.pdf"), ParseLimits())
    assert_well_formed(document)
    text = document.text
    assert document.n_pages == 14
    assert "more difficult to compile than statically typed" in text
    assert "specialized, efficiently compiled traces" in text
    assert "uses a mixed-mode execution approach" in text
    assert not set(text) & set("ﬁﬂﬀﬃﬄ\ufffe\xad")
    start, end = document.pages[1]
    second = text[start:end]
    assert second.index("Every compiled trace contains") < second.index("This paper makes") < second.index("Figure 2.")
    headings = [text[block.start : block.end] for block in document.blocks if block.kind == "heading"]
    assert headings[:2] == ["Trace-based Just-in-Time Type Specialization for Dynamic Languages", "Abstract"]
    numbered = [heading for heading in headings if heading[0].isdigit()]
    assert numbered[:4] == ["1. Introduction", "2. Overview: Example Tracing Run", "3. Trace Trees", "3.1 Traces"]


def test_the_invoice_keeps_its_rows(samples: Samples) -> None:
    document = parse_pdf(samples.path("invoice-multipage-tables.pdf"), ParseLimits())
    assert_well_formed(document)
    assert document.n_pages == 3
    rows = document.text.split("\n")
    assert "Body Labor\t2\t150\t300" in rows
    assert "GRAND TOTAL\t5,738" in rows
    assert "GRAND TOTAL\t211,522" in rows


def test_korean_text_is_whole(samples: Samples) -> None:
    document = parse_pdf(samples.path("korean-tables.pdf"), ParseLimits())
    assert_well_formed(document)
    assert "기프트/선불카드(포인트, 사이버머니 등 전자지급수단 포함)" in document.text
    assert "할인점\t이마트, 이마트 트레이더스, 롯데마트, 홈플러스" in document.text


@pytest.mark.parametrize(
    ("name", "code"), [("scan-no-text-layer.pdf", "no_text_layer"), ("encrypted-password.pdf", "password_needed")]
)
def test_samples_without_text(samples: Samples, name: str, code: str) -> None:
    with pytest.raises(ParseFailed) as failed:
        parse_pdf(samples.path(name), ParseLimits())
    assert failed.value.code == code
