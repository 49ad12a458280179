"""Types by content; names and declared types only decide between kinds of text."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from pathlib import Path

import pytest

from consumers.documents.parse.document import ParseFailed
from consumers.documents.parse.sniff import DOCX, EML, EPUB, PDF, PPTX, XLSX, sniff
from consumers.documents.parse.sniff_text import CODE, CSV, HTML, IPYNB, JSON, MARKDOWN, TEXT, XML
from tests.conftest import Samples

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00" + bytes(range(256))
MAIL = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: Hello\r\nMIME-Version: 1.0\r\n\r\nHello!\r\n"


def archive(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for name in names:
            made.writestr(name, "content")
    return data.getvalue()


def sniffed(tmp_path: Path, data: bytes, name: str = "file", media_type: str | None = None) -> str:
    file = tmp_path / "original"
    file.write_bytes(data)
    return sniff(file, name=name, media_type=media_type)


def refused(tmp_path: Path, data: bytes, name: str = "file") -> ParseFailed:
    with pytest.raises(ParseFailed) as failed:
        sniffed(tmp_path, data, name)
    assert failed.value.message.endswith(".")
    return failed.value


@pytest.mark.parametrize(
    ("data", "name", "media_type", "expected"),
    [
        (b"%PDF-1.7\n...", "notes.txt", "text/plain", PDF),
        (b"\r\n\r\n%PDF-1.4\n", "x.docx", None, PDF),
        (archive("[Content_Types].xml", "_rels/.rels", "word/document.xml"), "x.pdf", "application/pdf", DOCX),
        (b"<!DOCTYPE html><html><body>Hi</body></html>", "page.txt", None, HTML),
        (b"\xef\xbb\xbf  <!-- saved --> <html lang=en>", "page", "text/markdown", HTML),
        (b"<?xml version='1.0'?><html xmlns='...'>", "page", None, HTML),
        ("<html><body>wide</body></html>".encode("utf-16"), "page", None, HTML),
        (b"<p>A fragment</p>", "part.html", None, HTML),
        (b"<p>A fragment</p>", "part", "text/html; charset=utf-8", HTML),
        (b"Just words", "page.html", None, TEXT),
        (b"# Title\n\nText", "README.md", None, MARKDOWN),
        (b"# Title\n\nText", "x", "text/markdown", MARKDOWN),
        (b"# Title\n\n```\ncode\n```\n", "notes", "text/plain", MARKDOWN),
        (b"# a comment\n- item\n- item\n[a](#b)", "script.py", None, CODE),
        (b"# a comment\n- item\n- item\n[a](#b)", "notes.txt", None, TEXT),
        (b"#!/usr/bin/env python3\nprint()", "run", None, CODE),
        (b"all: test\n\ttrue", "Makefile", None, CODE),
        (archive("[Content_Types].xml", "xl/workbook.xml"), "x.docx", None, XLSX),
        (archive("[Content_Types].xml", "ppt/presentation.xml"), "x.txt", None, PPTX),
        (archive("mimetype", "META-INF/container.xml", "content.xml"), "x.zip", None, EPUB),
        (MAIL, "x.txt", None, EML),
        (b"a;b\n1;2\n", "x.csv", None, CSV),
        (b"a\tb\n1\t2\n", "x", "text/tab-separated-values; charset=utf-8", CSV),
        (b"1,2,3\n" * 4, "x.txt", None, CSV),
        (b"One, two, three\nis not,\na table, is it?\nNo.", "x.txt", None, TEXT),
        (b"a,b\n1,2\n", "x.py", None, CODE),
        (b'{"a": 1}', "x.txt", None, JSON),
        (b'\xef\xbb\xbf[{"a": 1}]', "x", None, JSON),
        (b"[1, 2]", "x", None, JSON),
        (b"[]", "x", None, JSON),
        (b"[2024-01-01 10:00] started", "x.log", None, TEXT),
        (b"[1] A footnote", "x", None, TEXT),
        (b"{curly} words", "x", None, TEXT),
        (b'{"cells": [], "nbformat": 4}', "x.json", None, IPYNB),
        (b'<?xml version="1.0"?><data/>', "x.html", None, XML),
        (b"<rss version='2.0'>", "feed", "text/html", XML),
        (b"# Title", "notes", None, TEXT),
        (b"Note: a text\nthat is no mail\n\nat all", "notes.txt", None, TEXT),
        ("한국어".encode("cp949"), "x.txt", None, TEXT),
        ("plain and wide, without a mark".encode("utf-16-le"), "x", None, TEXT),
        (b"\n \n" * 50_000 + b"words at last", "x", None, TEXT),
        (b"words and a stray \x00 here", "x", None, TEXT),
    ],
)
def test_types(tmp_path: Path, data: bytes, name: str, media_type: str | None, expected: str) -> None:
    assert sniffed(tmp_path, data, name, media_type) == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PNG, "image/png"),
        (gzip.compress(b"text" * 100, mtime=0), "binary file|gzip"),
        (random.Random(7).randbytes(4096), "file"),
        (b"{\\rtf1\\ansi Hello}", "RTF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600, "old Office"),
        (archive("mimetype", "content.xml"), "OpenDocument"),
        (archive("a.txt", "word/b.txt"), "ZIP"),
        (archive(), "ZIP"),
    ],
)
def test_what_cannot_be_read_yet_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    failed = refused(tmp_path, data, "harmless.txt")
    assert failed.code == "unsupported_type"
    assert any(word in failed.message for word in words.split("|"))
    assert "Word (.docx)" in failed.message


@pytest.mark.parametrize("data", [b"", b"  \r\n\t", b"\x00" * 100])
def test_an_empty_file_says_so(tmp_path: Path, data: bytes) -> None:
    assert refused(tmp_path, data).code == "empty_document"


def test_a_protected_office_file_needs_its_password(tmp_path: Path) -> None:
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600 + "EncryptedPackage".encode("utf-16-le")
    assert refused(tmp_path, data).code == "password_needed"


def test_an_archive_cut_short_is_damaged(tmp_path: Path) -> None:
    whole = archive("[Content_Types].xml", "word/document.xml")
    assert refused(tmp_path, whole[:-30]).code == "malformed_file"
    assert sniffed(tmp_path, whole) == DOCX


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("two-column-paper.pdf", PDF),
        ("paper.docx", DOCX),
        ("wikipedia-saved.html", HTML),
        ("readme.md", MARKDOWN),
        ("shift-jis.csv", CSV),
        ("slides.pptx", PPTX),
        ("sheet.xlsx", XLSX),
        ("book.epub", EPUB),
        ("attachment.eml", EML),
        ("docx-truncated.docx", "malformed_file"),
    ],
)
def test_samples(samples: Samples, name: str, expected: str) -> None:
    path = samples.path(name)
    try:
        found = sniff(path, name=name, media_type=None)
    except ParseFailed as failed:
        found = failed.code
    assert found == expected
