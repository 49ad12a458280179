"""Separated values: encoding and dialect found out, rows with their header, whatever is in them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.documents.parse.csv import parse_csv_text, separator_of
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from tests.conftest import Samples
from tests.unit.consumers.documents.parse.packed import MEGABYTE, blocks, failed, read
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed


def parsed(text: str) -> ParsedDocument:
    document = parse_csv_text(text, ParseLimits())
    assert_well_formed(document)
    return document


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_dialects(separator: str) -> None:
    text = 'name,note,n\r\nAnn,"one, two; three|four",1\r\nBob,"a ""quoted""\nline",2\r\n'.replace(",", separator)
    text = text.replace(f"one{separator} two", "one, two")
    assert parsed(text).text == 'name | note | n\nAnn | one, two; three|four | 1\nBob | a "quoted" line | 2'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
async def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("Größe;Straße;Fläche\n12;Königsweg;3,5\n13;Übergang;4,5\n".encode(encoding))
    document = await read(path)
    assert document.text == "Größe | Straße | Fläche\n12 | Königsweg | 3,5\n13 | Übergang | 4,5"
    assert document.media_type == "text/csv"


async def test_the_shift_jis_sample(samples: Samples) -> None:
    document = await read(samples.path("shift-jis.csv"))
    assert document.text == "名前 | 年齢 | 住所\n佐藤太郎 | 30 | 東京\n三木英子 | 25 | 大阪\n髙橋淳 | 35 | 名古屋"


async def test_a_table_is_found_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text("".join(f"{n},city {n},{n * 7}\n" for n in range(10)))
    assert (await read(path)).media_type == "text/csv"


async def test_prose_called_csv_is_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Once upon a time.\nThere was, as one says, a king.\nHe slept.\n")
    assert (await read(path)).media_type == "text/plain"


def test_every_block_begins_with_the_header() -> None:
    text = "id,name,city\n" + "".join(f"{n},person {n},city {n}\n" for n in range(1000))
    found = blocks(parsed(text))
    assert len(found) > 10
    assert all(kind == "table" and block.startswith("id | name | city\n") for kind, block in found)
    rows = [line for _, block in found for line in block.split("\n")[1:]]
    assert rows == [f"{n} | person {n} | city {n}" for n in range(1000)]


def test_a_long_row_names_its_values() -> None:
    long = "word " * 200
    found = blocks(parsed(f"id,title,text\n1,First,{long}\n2,Second,short\n"))
    assert [text for _, text in found] == [
        f"id: 1\ntitle: First\ntext: {long.strip()}",
        "id | title | text\n2 | Second | short",
    ]


def test_a_table_without_a_header() -> None:
    assert parsed("1,2,3\n4,5,6\n7,8,9\n").text == "1 | 2 | 3\n4 | 5 | 6\n7 | 8 | 9"


def test_a_header_alone() -> None:
    assert parsed("id,name\n").text == "id | name"


def test_a_title_above_and_blank_cells() -> None:
    text = "Sales,,\n,,\nregion,2023,2024\nNorth,,5\n,6,\n,,\nproduct,units\nPen,3\n"
    assert [block for _, block in blocks(parsed(text))] == [
        "Sales",
        "region | 2023 | 2024\nNorth |  | 5\n| 6",
        "product | units\nPen | 3",
    ]


def test_groups_of_rows_have_one_header() -> None:
    text = "name,city,job\nAnn,Bern,nurse\n,,\nBob,,cook\nCy,Rome,smith\n,,\nDan,Oslo,\n"
    assert parsed(text).text == ("name | city | job\nAnn | Bern | nurse\nBob |  | cook\nCy | Rome | smith\nDan | Oslo")


def test_a_row_of_words_amid_numbers_is_no_header() -> None:
    rows = [f"{n},{n * 2},{n * 3}" for n in range(20)]
    found = parsed("\n".join([*rows, "a,b,c", *rows])).text
    assert found.count("a | b | c") == 1
    assert found.split("\n")[20] == "a | b | c"


def test_a_stray_quotation_mark_does_not_swallow_the_rest() -> None:
    rows = "".join(f"{n},word {n},x\n" for n in range(90_000))
    document = parsed(f'id,text,y\n0,"oops,x\n{rows}')
    assert "89999 | word 89999 | x" in document.text


async def test_twenty_thousand_columns(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    names = ",".join(f"column{n}" for n in range(20_000))
    path.write_text(f"{names}\n" + "\n".join(",".join(str(n + row) for n in range(20_000)) for row in range(5)))
    document = await read(path)
    assert document.text.endswith("\ncolumn19999: 20003")


async def test_one_line_of_two_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("id,text,z\n1," + "word " * (2 * MEGABYTE // 5) + ",end\n")
    assert (await read(path)).text.endswith("\nz: end")


async def test_nul_bytes(tmp_path: Path) -> None:
    path = tmp_path / "nul.csv"
    path.write_bytes(b"id,name\n1,An\x00n\n2,Bob\n" + b"3,Cy\n" * 100)
    assert "1 | Ann" in (await read(path)).text


async def test_only_separators(tmp_path: Path) -> None:
    path = tmp_path / "blank.csv"
    path.write_text(",,,\n,,,\n" * 50)
    assert await failed(path) == "empty_document"


def test_more_text_than_fits() -> None:
    with pytest.raises(ParseFailed) as caught:
        parse_csv_text("id,name\n" + "1,some name\n" * 1000, ParseLimits(max_characters=10_000))
    assert caught.value.code == "too_large_text"


CELL = st.text(st.characters(codec="utf-8", categories=["L", "N"], exclude_characters="ﬀﬁﬂﬃﬄﬅﬆ"), min_size=1)


@given(st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=20))
def test_no_value_is_lost(rows: list[list[str]]) -> None:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    words = re.split(r"\n| \| |: ", parsed(written.getvalue()).text)
    assert {cell for row in rows for cell in row} <= set(words)


@given(st.text(max_size=300))
def test_any_text_has_a_separator_or_none(text: str) -> None:
    assert separator_of(text) in (None, ",", ";", "\t", "|")
