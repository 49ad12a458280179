"""E-mail: each text once, attachments named and read where they are text."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.eml import parse_eml
from tests.conftest import Samples
from tests.unit.consumers.documents.parse.drawn_pdf import Drawn, pdf
from tests.unit.consumers.documents.parse.packed import MEGABYTE, blocks, failed, read
from tests.unit.consumers.documents.parse.test_xlsx import row, workbook
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed

HEAD = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: Hello\r\nMIME-Version: 1.0\r\n"


def message(subject: str = "Plans") -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Ann <ann@example.org>"
    made["To"] = "bob@example.org"
    made["Date"] = "Fri, 23 Dec 2022 12:08:48 -0600"
    made["Subject"] = subject
    return made


def parsed(tmp_path: Path, made: EmailMessage | bytes) -> ParsedDocument:
    path = tmp_path / "mail.eml"
    path.write_bytes(made if isinstance(made, bytes) else bytes(made))
    document = parse_eml(path, ParseLimits())
    assert_well_formed(document)
    return document


def test_headers_and_one_of_the_alternatives(tmp_path: Path) -> None:
    made = message("Größe und 計画")
    made.set_content("The plain text.\n\nIts second paragraph.")
    made.add_alternative("<p>The <b>HTML</b> text.</p>", subtype="html")
    document = parsed(tmp_path, made)
    assert [text for _, text in blocks(document)] == [
        "Größe und 計画",
        "From: Ann <ann@example.org>\nTo: bob@example.org\nDate: Fri, 23 Dec 2022 12:08:48 -0600",
        "The plain text.",
        "Its second paragraph.",
    ]
    assert document.title == "Größe und 計画"


def test_html_where_the_plain_text_says_nothing(tmp_path: Path) -> None:
    made = message()
    made.set_content("Your client cannot show this message.")
    made.add_alternative(f"<style>p {{}}</style><h1>News</h1><p>{'Much text. ' * 50}</p>", subtype="html")
    text = parsed(tmp_path, made).text
    assert "Much text." in text
    assert "cannot show" not in text
    assert "style" not in text


def test_attachments_are_named_and_read_where_they_are_text(tmp_path: Path) -> None:
    made = message()
    made.set_content("See below.")
    made.add_attachment("name,n\nAnn,1\n".encode("utf-16"), maintype="text", subtype="csv", filename="list.csv")
    made.add_attachment(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), maintype="image", subtype="png", filename="a.png")
    made.add_attachment(b"# Notes\n\nMore.", maintype="application", subtype="octet-stream", filename="notes.md")
    made.add_attachment(b"<p>Page</p><script>x</script>", maintype="text", subtype="html", filename="p.html")
    found = blocks(parsed(tmp_path, made))[3:]
    assert found == [
        ("heading", "Attachment: list.csv (text/csv)"),
        ("table", "name | n\nAnn | 1"),
        ("heading", "Attachment: a.png (image/png)"),
        ("heading", "Attachment: notes.md (application/octet-stream)"),
        ("heading", "Notes"),
        ("paragraph", "More."),
        ("heading", "Attachment: p.html (text/html)"),
        ("paragraph", "Page"),
    ]


def test_a_forwarded_message(tmp_path: Path) -> None:
    inner = message("Inner")
    inner.set_content("The first words.")
    made = message("Outer")
    made.set_content("For you.")
    made.add_attachment(inner)
    document = parsed(tmp_path, made)
    headings = [
        (block.level, document.text[block.start : block.end]) for block in document.blocks if block.kind == "heading"
    ]
    assert headings == [(1, "Outer"), (2, "Attached message"), (3, "Inner")]
    assert document.text.endswith("The first words.")


@pytest.mark.parametrize("charset", ["shift_jis", "no-such-charset", "zlib", "us-ascii"])
def test_charsets_that_lie(tmp_path: Path, charset: str) -> None:
    data = HEAD + f"Content-Type: text/plain; charset={charset}\r\n\r\n".encode() + "日本語のテキストです。".encode()
    assert parsed(tmp_path, data).text.endswith("日本語のテキストです。")


@pytest.mark.parametrize("charset", ["no-such-charset", "zlib", "hex", "rot13"])
def test_charsets_that_are_none(tmp_path: Path, charset: str) -> None:
    data = HEAD + f"Content-Type: text/plain; charset={charset}\r\n\r\n".encode() + "Grüße aus München".encode("cp1252")
    assert parsed(tmp_path, data).text.endswith("Grüße aus München")


async def test_no_body(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(HEAD + b"\r\n")
    assert (await read(path)).text == "Hello\n\nFrom: a@example.org\nTo: b@example.org"


def test_attachments_of_other_formats(tmp_path: Path) -> None:
    made = message()
    made.set_content("See below.")
    files = {
        "page.pdf": pdf([[Drawn("Words of a page.", 50, 700)]]),
        "book.bin": workbook(tmp_path, row("name", "city") + row("Ann", "Bern")).read_bytes(),
        "scan.pdf": pdf([[]]),
        "cut.docx": b"PK\x03\x04 and no more",
    }
    for name, data in files.items():
        made.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    found = [text for _, text in blocks(parsed(tmp_path, made))[3:]]
    assert found[:5] == [
        *("Attachment: page.pdf (application/octet-stream)", "Words of a page."),
        *("Attachment: book.bin (application/octet-stream)", "Sheet 0", "name | city\nAnn | Bern"),
    ]
    assert [text.partition(":")[0] for text in found[5:]] == ["Attachment", "Not read"] * 2


async def test_deep_nesting(tmp_path: Path) -> None:
    path = tmp_path / "deep.eml"
    parts = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(3000))
    path.write_bytes(HEAD + parts + b"Content-Type: text/plain\r\n\r\ninnermost")
    assert await failed(path) == "malformed_file"


async def test_a_line_of_two_megabytes_and_nul_bytes(tmp_path: Path) -> None:
    path = tmp_path / "long.eml"
    path.write_bytes(HEAD + b"\r\n" + b"word \x00" + b"word " * (MEGABYTE // 2) + b"\x00end")
    assert (await read(path)).text.endswith("word end")


async def test_a_message_larger_than_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "large.eml"
    with path.open("wb") as file:
        file.write(HEAD + b"\r\n" + b"word " * MEGABYTE)
        file.truncate(200 * MEGABYTE)
    assert await failed(path) == "too_large_text"


async def test_a_thousand_attachments_with_names_that_climb(tmp_path: Path) -> None:
    named = b'Content-Disposition: attachment; filename="../../etc/passwd"'
    part = b"--b\r\nContent-Type: text/plain\r\n" + named + b"\r\n\r\nx\r\n"
    path = tmp_path / "many.eml"
    path.write_bytes(HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 1500 + b"--b--\r\n")
    document = await read(path)
    assert document.text.count("Attachment: ../../etc/passwd") == 1000
    assert document.text.endswith("Not read: what follows the first 1,000 parts.")


def test_attachments_inside_an_alternative_and_pictures_of_a_page(tmp_path: Path) -> None:
    made = message()
    made.set_content("The plain text.")
    made.add_alternative("<p>The HTML text.</p><img src='cid:logo'>", subtype="html")
    page = made.get_payload(1)
    assert isinstance(page, EmailMessage)
    page.add_related(b"png", maintype="image", subtype="png", cid="<logo>")
    page.add_attachment(b"more", maintype="application", subtype="x-unknown", filename="more.bin")
    found = blocks(parsed(tmp_path, made))
    assert [text for _, text in found[2:]] == [
        "The plain text.",
        "Attachment: more.bin (application/x-unknown)",
        "more",
    ]


def test_two_texts_that_are_no_alternatives(tmp_path: Path) -> None:
    made = message()
    made.set_content("First.")
    made.make_mixed()
    second = EmailMessage()
    second.set_content("<p>Second.</p>", subtype="html")
    made.attach(second)
    assert parsed(tmp_path, made).text.endswith("First.\n\nSecond.")


def test_a_damaged_attachment_costs_nothing_else(tmp_path: Path) -> None:
    made = message()
    made.set_content("Words.")
    made.add_attachment(b"<?xml version='1.0'?><a>", maintype="application", subtype="xml", filename="a.xml")
    text = parsed(tmp_path, made).text
    assert "Words." in text
    assert "Not read: The XML is damaged at line 1 and cannot be read." in text


@given(st.binary(max_size=400), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, head: bytes, body: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.eml"
    path.write_bytes(HEAD[:-2] + head + b"\r\n\r\n" + body)
    try:
        assert_well_formed(parse_eml(path, ParseLimits()))
    except ParseFailed as failure:
        if failure.code not in ("malformed_file", "empty_document"):
            raise


async def test_the_sample(samples: Samples) -> None:
    document = await read(samples.path("attachment.eml"))
    assert document.title == "Fake email with attachment"
    assert "From: Mallori Harrell <mallori@unstructured.io>" in document.text
    assert document.text.count("Here's the attachments!") == 1
    assert document.text.endswith("(text/plain)\n\nHey this is a fake attachment!")
