"""XML: feeds by entry, anything else with the names of its fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.xml import parse_xml
from tests.unit.consumers.documents.parse.packed import MEGABYTE, blocks, failed, read
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed


def parsed(text: str) -> ParsedDocument:
    document = parse_xml(text, ParseLimits())
    assert_well_formed(document)
    return document


def test_rss() -> None:
    document = parsed(
        """<?xml version="1.0"?><rss version="2.0" xmlns:content="c"><channel><title>News</title>
        <link>https://example.org</link><item><title>First</title><pubDate>Mon, 1 Jan 2024</pubDate>
        <link>https://example.org/1</link><description>Short</description>
        <content:encoded><![CDATA[<p>Long <b>text</b></p><ul><li>a</li></ul>]]></content:encoded></item>
        <item><title>Second</title><description>Plain words</description></item></channel></rss>"""
    )
    assert blocks(document) == [
        ("heading", "News"),
        ("paragraph", "link: https://example.org"),
        ("heading", "First"),
        ("paragraph", "Mon, 1 Jan 2024\nhttps://example.org/1"),
        ("paragraph", "Long text"),
        ("list", "- a"),
        ("heading", "Second"),
        ("paragraph", "Plain words"),
    ]
    assert document.title == "News"


def test_atom() -> None:
    document = parsed(
        """<feed xmlns="urn:atom"><title>Blog</title><entry><title>Post</title>
        <updated>2024-01-01</updated><author><name>Ann</name></author><link href="https://example.org/p"/>
        <content type="xhtml"><div><p>Hello</p><p>world</p></div></content></entry></feed>"""
    )
    assert [text for _, text in blocks(document)] == [
        "Blog",
        "Post",
        "2024-01-01\nAnn\nhttps://example.org/p",
        "Hello world",
    ]


def test_records_keep_the_names_of_their_fields() -> None:
    document = parsed(
        '<stock><item id="1"><name>Pen</name><price currency="EUR">3</price></item><item id="2"/></stock>'
    )
    assert [text for _, text in blocks(document)] == ["item id=1\nname: Pen\nprice currency=EUR: 3", "item id=2"]


def test_prose_with_marks_inside() -> None:
    document = parsed(
        "<book><title>T</title><chapter><title>One</title><para>A <em>b</em> c.</para><para>D</para></chapter></book>"
    )
    assert [(block.level, text) for block, (_, text) in zip(document.blocks, blocks(document), strict=True)] == [
        (1, "T"),
        (2, "One"),
        (0, "A b c."),
        (0, "D"),
    ]


@pytest.mark.parametrize(
    "prolog",
    [
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x [<!ENTITY % e SYSTEM "file:///etc/passwd"> %e;]>',
    ],
)
def test_entities_are_refused(prolog: str) -> None:
    with pytest.raises(ParseFailed) as caught:
        parsed(f'<?xml version="1.0"?>{prolog}<x>&e;</x>')
    assert caught.value.code == "malformed_file"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "shift_jis"])
async def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x"
    words = "日本語のテキスト" if encoding == "shift_jis" else "Größe"
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?><a><b>{words}</b></a>'.encode(encoding))
    assert (await read(path)).text == f"b: {words}"


async def test_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    for data, code in (
        (b"<?xml version='1.0'?><a><b>text", "malformed_file"),
        (b"<?xml version='1.0'?><a/>", "empty_document"),
        (b"<?xml version='1.0'?>" + b"<a>" * 100_000 + b"</a>" * 100_000, "malformed_file"),
        (b"<?xml version='1.0'?><a>\x01</a>", "malformed_file"),
    ):
        path.write_bytes(data)
        assert await failed(path) == code, data[:40]


async def test_wide_and_long(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    fields = "".join(f"<f{n}>{n}</f{n}>" for n in range(20_000))
    path.write_text(f"<?xml version='1.0'?><a><r>{fields}</r><p>{'word ' * (2 * MEGABYTE // 5)}\x00end</p></a>")
    assert (await read(path)).text.endswith("word end")
