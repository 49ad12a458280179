"""Plain text in the encodings that files come in."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.documents.parse.document import ParseFailed, ParseLimits
from consumers.documents.parse.text import decode, parse_text
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed

LANGUAGES = {
    "cp932": "日本語のテキストです。文字コードを検出します。",
    "euc_jp": "日本語のテキストです。文字コードを検出します。",
    "cp949": "안녕하세요, 반갑습니다. 한국어 문서입니다.",
    "gb18030": "这是一个简体中文的测试文档，用来检测编码。",
    "big5": "這是一個繁體中文的測試文件，用來偵測編碼。",
    "cp1252": "Grüße aus München, schöne Äpfel und süße Öle.",
    "cp1251": "Привет, это русский текст для проверки.",
    "koi8_r": "Привет, это русский текст для проверки.",
    "cp1253": "Γειά σου Κόσμε, τι κάνεις σήμερα;",
}


def decoded(tmp_path: Path, data: bytes, media_type: str | None = None, *, is_html: bool = False) -> str:
    file = tmp_path / "file.txt"
    file.write_bytes(data)
    return decode(file, media_type=media_type, is_html=is_html)


@pytest.mark.parametrize(("encoding", "text"), LANGUAGES.items())
def test_an_encoding_is_told_by_its_bytes(tmp_path: Path, encoding: str, text: str) -> None:
    assert decoded(tmp_path, (text * 3).encode(encoding)) == text * 3


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
        (b"", "utf-8"),
    ],
)
def test_unicode_with_and_without_a_mark(tmp_path: Path, mark: bytes, encoding: str) -> None:
    text = "Plain words, then naïve 日本 😀 ones; and some more plain words after them."
    assert decoded(tmp_path, mark + text.encode(encoding)) == text


def test_a_declared_encoding_counts_where_the_bytes_allow_it(tmp_path: Path) -> None:
    assert decoded(tmp_path, "Łódź".encode("cp1250"), "text/plain; charset=windows-1250") == "Łódź"
    assert decoded(tmp_path, "Łódź".encode(), "text/plain; charset=windows-1250") == "Łódź"
    assert decoded(tmp_path, "Łódź".encode(), "text/plain; charset=no-such-thing") == "Łódź"


def test_the_meta_charset_of_a_page_counts_and_may_lie(tmp_path: Path) -> None:
    page = "<html><head><meta charset='{}'></head><body>Żółw i jaźń</body></html>"
    honest, lying = page.format("iso-8859-2"), page.format("koi8-r")
    assert decoded(tmp_path, honest.encode("iso-8859-2"), is_html=True) == honest
    assert decoded(tmp_path, lying.encode("utf-8"), is_html=True) == lying


def test_a_few_broken_bytes_do_not_make_it_another_encoding(tmp_path: Path) -> None:
    text = "Größe und Übermaß, süß und schön, Öl und Äpfel. " * 5
    data = text.encode()
    broken = decoded(tmp_path, data[:100] + b"\xff" + data[100:-1] + "ü".encode()[:1])
    assert broken.count("Größe") >= 4
    assert "\ufffd" in broken


def test_stray_nuls_go(tmp_path: Path) -> None:
    assert decoded(tmp_path, b"a word" * 40 + b"\x00 and another") == "a word" * 40 + " and another"


def test_paragraphs_lists_and_tables() -> None:
    text = "One para\ngraph.\r\n\r\n- first\r\n- second\r\n\n\n  Another.\n \nname,age\nJo,3\nMo,4\n"
    document = parse_text(text, ParseLimits())
    assert_well_formed(document)
    assert [(block.kind, document.text[block.start : block.end]) for block in document.blocks] == [
        ("paragraph", "One para\ngraph."),
        ("list", "- first\n- second"),
        ("paragraph", "Another."),
        ("table", "name,age\nJo,3\nMo,4"),
    ]


@pytest.mark.parametrize("text", ["", " \n\t \r\n", "\x00\x07\ufeff"])
def test_text_without_text_says_so(text: str) -> None:
    with pytest.raises(ParseFailed) as failed:
        parse_text(text, ParseLimits())
    assert failed.value.code == "empty_document"


def test_more_text_than_may_be_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "large.txt"
    with file.open("wb") as out:
        out.truncate(1 << 33)  # sparse: reading it would take all memory
    with pytest.raises(ParseFailed) as failed:
        decode(file, media_type=None)
    assert failed.value.code == "too_large_text"


def test_one_line_of_two_megabytes() -> None:
    document = parse_text("word " * 400_000, ParseLimits())
    assert len(document.blocks) == 1
    assert len(document.text) == 1_999_999


@given(st.text(st.characters(codec=None), min_size=1))
def test_any_text_is_well_formed_or_empty(text: str) -> None:
    try:
        document = parse_text(text, ParseLimits())
    except ParseFailed:
        return
    assert_well_formed(document)


def test_lines_of_a_log_stay_whole() -> None:
    log = "2024-01-02T10:00:00Z INFO one. Two\n2024-01-02T10:00:01Z WARN three\n  at stack\n"
    found = parse_text(f"{log}\nNov  2 10:00:00 host a\nNov 12 10:00:00 host b", ParseLimits())
    assert [block.kind for block in found.blocks] == ["code", "code"]
