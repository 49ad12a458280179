"""What holds for each format alike: a wrong name, no byte, a file cut short, a lock."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import docx
import pytest

from consumers.documents.parse.document import ParseFailed
from consumers.documents.parse.sniff import DOCX, EML, EPUB, PDF, PPTX, XLSX
from consumers.documents.parse.sniff_text import CODE, CSV, HTML, IPYNB, JSON, MARKDOWN, TEXT, XML
from tests.unit.consumers.documents.parse.drawn_pdf import Drawn, pdf
from tests.unit.consumers.documents.parse.packed import SANDBOX, failed, read
from tests.unit.consumers.documents.parse.test_epub import book, page
from tests.unit.consumers.documents.parse.test_pptx import presentation, shape
from tests.unit.consumers.documents.parse.test_xlsx import row, workbook

WORDS = "The lighthouse was painted white in spring."


def word(tmp_path: Path) -> bytes:
    made, data = docx.Document(), io.BytesIO()
    made.add_paragraph(WORDS)
    made.save(data)
    return data.getvalue()


TOLD_BY_CONTENT: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "a.pdf": (PDF, lambda _: pdf([[Drawn(WORDS, 50, 700)]])),
    "a.docx": (DOCX, word),
    "a.xlsx": (XLSX, lambda tmp_path: workbook(tmp_path, row(WORDS)).read_bytes()),
    "a.pptx": (PPTX, lambda tmp_path: presentation(tmp_path, shape(WORDS)).read_bytes()),
    "a.epub": (EPUB, lambda tmp_path: book(tmp_path, {"a.xhtml": page(f"<p>{WORDS}</p>")}).read_bytes()),
    "a.eml": (EML, lambda _: f"From: a@b.c\r\nTo: d@e.f\r\nSubject: Hello\r\n\r\n{WORDS}\r\n".encode()),
    "a.html": (HTML, lambda _: f"<!doctype html><html><body><p>{WORDS}</p></body></html>".encode()),
    "a.xml": (XML, lambda _: f"<?xml version='1.0'?><note><line>{WORDS}</line></note>".encode()),
}
TOLD_BY_NAME_TOO: dict[str, tuple[str, bytes]] = {
    "a.csv": (CSV, f"id,text\n1,{WORDS}\n".encode()),
    "a.md": (MARKDOWN, f"# Light\n\n{WORDS}\n".encode()),
    "a.txt": (TEXT, WORDS.encode()),
    "a.py": (CODE, f'def f():\n    """{WORDS}"""\n'.encode()),
    "a.json": (JSON, json.dumps({"text": WORDS}).encode()),
    "a.ipynb": (
        IPYNB,
        json.dumps({"nbformat": 4, "cells": [{"cell_type": "markdown", "source": WORDS}]}).encode(),
    ),
}
ALL = [*TOLD_BY_CONTENT, *TOLD_BY_NAME_TOO]


def made(name: str, tmp_path: Path) -> tuple[str, bytes]:
    """The media type of a good file of that name, and its bytes."""
    if name in TOLD_BY_NAME_TOO:
        return TOLD_BY_NAME_TOO[name]
    media_type, make = TOLD_BY_CONTENT[name]
    return media_type, make(tmp_path)


@pytest.mark.parametrize("name", ALL)
async def test_the_same_words_in_every_format(tmp_path: Path, name: str) -> None:
    media_type, data = made(name, tmp_path)
    path = tmp_path / "original"
    path.write_bytes(data)
    document = await read(path, name)
    assert (document.media_type, WORDS in document.text) == (media_type, True)


@pytest.mark.parametrize("name", TOLD_BY_CONTENT)
async def test_under_any_name_and_declared_type_it_is_what_it_is(tmp_path: Path, name: str) -> None:
    media_type, data = made(name, tmp_path)
    path = tmp_path / "original"
    path.write_bytes(data)
    for other, declared in [*((other, None) for other in ALL), ("x", "application/pdf"), ("x", "text/csv")]:
        assert (await read(path, other, declared)).media_type == media_type, (other, declared)


@pytest.mark.parametrize("name", ALL)
async def test_nothing_in_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "original"
    for data in (b"", b" \r\n\t\n", bytes(100), "\ufeff \u200b\n".encode()):
        path.write_bytes(data)
        assert await failed(path, name) == "empty_document", data


@pytest.mark.parametrize("name", ALL)
async def test_cut_short_anywhere_it_is_read_as_far_as_it_goes_or_refused(tmp_path: Path, name: str) -> None:
    _, data = made(name, tmp_path)
    path = tmp_path / "original"
    codes = set()
    for twelfth in range(1, 12):
        path.write_bytes(data[: len(data) * twelfth // 12])
        try:
            assert (await SANDBOX.read(path, name=name, media_type=None)).text.strip()
        except ParseFailed as refused:
            codes.add(refused.code)
    assert codes <= {"malformed_file", "empty_document", "no_text_layer", "unsupported_type"}


@pytest.mark.parametrize("name", ["a.docx", "a.xlsx", "a.pptx", "a.epub"])
async def test_a_locked_archive_needs_its_password(tmp_path: Path, name: str) -> None:
    """Locked as ZIP programs do it: bit 0 of the flags of each part."""
    _, data = made(name, tmp_path)
    locked = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        places = [part.header_offset + 6 for part in archive.infolist()]
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        places.append(at + 8)
        at = data.find(b"PK\x01\x02", at + 4)
    for place in places:
        locked[place] |= 1
    path = tmp_path / "original"
    path.write_bytes(locked)
    assert await failed(path, name) == "password_needed"
