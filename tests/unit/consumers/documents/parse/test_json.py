"""JSON, notebooks and source code: lines that people and searches understand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.documents.parse.code import parse_code
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.ipynb import parse_ipynb
from consumers.documents.parse.json import MAX_DEPTH, parse_json
from tests.unit.consumers.documents.parse.packed import MEGABYTE, blocks, failed, read
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed


def parsed(text: str) -> ParsedDocument:
    document = parse_json(text, ParseLimits())
    assert_well_formed(document)
    return document


def test_an_object_on_one_line() -> None:
    assert parsed('{"name":"Ann","list":[1,{"a":null}],"none":{},"caf\\u00e9":"l\\u00e0\\nbas"}').text == (
        '{\n "name": "Ann",\n "list": [\n  1,\n  {\n   "a": null\n  }\n ],\n "none": {},\n "café": "là\\nbas"\n}'
    )


def test_elements_and_lines_are_blocks() -> None:
    assert [text for _, text in blocks(parsed('[{"a": 1}, {"a": 2}]'))] == [
        '[\n {\n  "a": 1\n },',
        ' {\n  "a": 2\n }\n]',
    ]
    assert [text for _, text in blocks(parsed('{"a": 1}\n{"a": 2}\n'))] == ['{\n "a": 1\n}', '{\n "a": 2\n}']


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(categories=["L", "N"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(categories=["L"])), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_it_says_what_the_file_said(value: Any, is_ascii: bool) -> None:
    text = parsed(json.dumps([value], ensure_ascii=is_ascii)).text
    assert json.loads(text) == [_cleaned(value)]


def _cleaned(value: Any) -> Any:
    """Ligatures are letters in a document's text."""
    ligatures: dict[str, str | int | None] = {
        "ﬀ": "ff",
        "ﬁ": "fi",
        "ﬂ": "fl",
        "ﬃ": "ffi",
        "ﬄ": "ffl",
        "ﬅ": "st",
        "ﬆ": "st",
    }
    return json.loads(json.dumps(value, ensure_ascii=False).translate(str.maketrans(ligatures)))


@given(st.text(st.sampled_from('{}[],:" \\\n1a'), max_size=60))
def test_any_text_is_well_formed_or_empty(text: str) -> None:
    try:
        parsed(text)
    except ParseFailed as failure:
        if failure.code != "empty_document":
            raise


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 200_000,
        "[" * 100_000 + "]" * 100_000,
        "[" * (MAX_DEPTH + 1) + '"words"' + "]" * (MAX_DEPTH + 1),
        '[{"a": "words"}, ' + "[" * MAX_DEPTH,
    ],
    ids=["objects", "arrays", "just beyond", "after words"],
)
async def test_nested_without_end(tmp_path: Path, text: str) -> None:
    path = tmp_path / "d.json"
    path.write_text(text)
    assert await failed(path) == "malformed_file"


async def test_nested_deeply_cut_short_and_long(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text, words in (
        ('{"a":' * MAX_DEPTH, '"a":'),
        ("[" * MAX_DEPTH + '"words"' + "]" * MAX_DEPTH, '"words"'),
        ('[{"name": "Ann", "text": "cut sho', '"text": "cut sho'),
        ('{"text": "' + "word " * (2 * MEGABYTE // 5) + '"}', "word word"),
        ("[" + ",".join(f'{{"c{n}": {n}}}' for n in range(20_000)) + "]", '"c19999": 19999'),
    ):
        path.write_text(text)
        assert words in (await read(path)).text


NOTEBOOK = {
    "nbformat": 4,
    "metadata": {"kernelspec": {}},
    "cells": [
        {"cell_type": "markdown", "source": ["# Analysis\n", "\n", "Some *words*."], "metadata": {}},
        {
            "cell_type": "code",
            "source": "print(1)\n\nprint(2)",
            "outputs": [
                {"output_type": "stream", "text": ["1\n", "2\n"]},
                {"output_type": "display_data", "data": {"image/png": "aGVsbG8=", "text/plain": ["<Figure>"]}},
                {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": ["\x1b[31mred"]},
                {"output_type": "stream", "text": "x" * 10_000},
            ],
        },
        {"cell_type": "raw", "source": "as it is"},
        {"cell_type": "markdown", "source": " "},
    ],
}


async def test_a_notebook(tmp_path: Path) -> None:
    path = tmp_path / "notebook"
    path.write_text(json.dumps(NOTEBOOK))
    document = await read(path)
    assert blocks(document) == [
        ("heading", "Analysis"),
        ("paragraph", "Some *words*."),
        ("code", "print(1)\n\nprint(2)"),
        ("code", "1\n2"),
        ("code", "<Figure>"),
        ("code", "ValueError: no"),
        ("code", "x" * 4000 + "…"),
        ("paragraph", "as it is"),
    ]
    assert (document.title, document.media_type) == ("Analysis", "application/x-ipynb+json")


@pytest.mark.parametrize("text", ['{"cells": [{"cell_type": "code"', '{"nbformat": 4}', '{"cells": ' + "[" * 200_000])
async def test_a_damaged_notebook(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.ipynb"
    path.write_text(text)
    assert await failed(path) == "malformed_file"


def test_a_notebook_without_text() -> None:
    with pytest.raises(ParseFailed) as caught:
        parse_ipynb('{"cells": [], "nbformat": 4}', ParseLimits())
    assert caught.value.code == "empty_document"


SOURCE = '''"""A module."""

import os


@decorated
def first(
    argument: int,
) -> int:
    here = 1

    return here


# About the second.
class Second:

    def method(self) -> None:
        pass
'''


def test_definitions_stay_whole() -> None:
    document = parse_code(SOURCE.replace("\n", "\r\n"), ParseLimits())
    assert_well_formed(document)
    assert [text.split("\n")[0] for _, text in blocks(document)] == [
        '"""A module."""',
        "import os",
        "@decorated",
        "# About the second.",
    ]
    assert {kind for kind, _ in blocks(document)} == {"code"}


def test_a_closing_bracket_belongs_to_what_it_closes() -> None:
    source = "void main() {\n  first();\n\n}\n\nint other;\n"
    assert [text for _, text in blocks(parse_code(source, ParseLimits()))] == [
        "void main() {\n  first();\n\n}",
        "int other;",
    ]


async def test_source_code_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "original"
    path.write_text(SOURCE)
    assert (await read(path, "module.py")).media_type == "text/x-source-code"
