"""Books: chapters in reading order; what is hostile ends with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import Samples
from tests.unit.consumers.documents.parse.packed import MEGABYTE, Content, blocks, failed, packed, read

CONTAINER = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'


def book(tmp_path: Path, chapters: Mapping[str, Content], more: Mapping[str, Content] | None = None) -> Path:
    """A book of these chapters by their names, which is read last first."""
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="i{n}"/>' for n in reversed(range(len(chapters))))
    package = (
        '<package xmlns="urn:opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>The Book</dc:title></metadata><manifest>{items}"
        '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/></manifest>'
        f'<spine><itemref idref="nav"/>{spine}<itemref idref="missing"/></spine></package>'
    )
    parts: dict[str, Content] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OPS/book.opf": package,
        "OPS/nav.xhtml": "<nav>Contents</nav><p>Contents</p>",
    }
    chapters = {f"OPS/{name}".replace("%20", " "): content for name, content in chapters.items()}
    return packed(tmp_path / "book.epub", parts | chapters | dict(more or {}))


def page(body: str, head: str = "<title/>") -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="urn:xhtml">'
        f"<head>{head}</head><body>{body}</body></html>"
    )


async def test_chapters_in_reading_order(tmp_path: Path) -> None:
    chapters = {
        "two.xhtml": page("<h1>Two</h1><p>Caf&eacute;<a id='x'/> after.</p>"),
        "the%20one.xhtml": page("<h1>One</h1><h2>Part</h2><ul><li>a</li></ul>"),
    }
    document = await read(book(tmp_path, chapters))
    assert blocks(document) == [
        ("heading", "One"),
        ("heading", "Part"),
        ("list", "- a"),
        ("heading", "Two"),
        ("paragraph", "Café after."),
    ]
    assert (document.title, document.media_type) == ("The Book", "application/epub+zip")


async def test_a_book_that_is_locked(tmp_path: Path) -> None:
    locked = '<encryption><CipherReference URI="OPS/a.xhtml"/></encryption>'
    assert (
        await failed(book(tmp_path, {"a.xhtml": b"\x8f\x01"}, {"META-INF/encryption.xml": locked})) == "password_needed"
    )


async def test_no_text_and_names_that_climb(tmp_path: Path) -> None:
    assert await failed(book(tmp_path, {"a.xhtml": page("<img src='x'/>"), "b.xhtml": ""})) == "empty_document"
    climbing = {"../../../../etc/passwd": "not in the archive"}
    path = book(tmp_path, {"a.xhtml": page("<p>text</p>")}, climbing)
    assert (await read(path)).text == "text"


@pytest.mark.parametrize("share", [0.5, 0.95])
async def test_cut_short(tmp_path: Path, share: float) -> None:
    path = book(tmp_path, {"a.xhtml": page("<p>text</p>")})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert await failed(path) == "malformed_file"


async def test_no_list_of_parts(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.epub", {"META-INF/container.xml": CONTAINER})
    assert await failed(path) == "malformed_file"


async def test_bombs(tmp_path: Path) -> None:
    assert await failed(book(tmp_path, {"a.xhtml": [b"a" * MEGABYTE] * 256})) == "too_large_text"
    pieces: dict[str, Content] = {f"{n}.xhtml": [b"<p>" + b" " * MEGABYTE] * 20 for n in range(20)}
    assert await failed(book(tmp_path, pieces)) == "too_large_text"


async def test_billion_laughs_and_external_entities(tmp_path: Path) -> None:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    text = page("<p>text &a11; &e;</p>").replace(
        "<!DOCTYPE html>", f'<!DOCTYPE html [{entities}<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    )
    found = (await read(book(tmp_path, {"a.xhtml": text}))).text
    assert "haha" not in found
    assert "root:" not in found
    assert len(found) < 2000


async def test_deep_nesting(tmp_path: Path) -> None:
    assert await failed(book(tmp_path, {"a.xhtml": page("<div>" * 100_000)})) == "malformed_file"


async def test_the_sample(samples: Samples) -> None:
    document = await read(samples.path("book.epub"))
    headings = [text for kind, text in blocks(document) if kind == "heading"]
    assert headings == ["Chapter 1: Test Content", "Chapter 2: More Content"]
    assert document.title == "Test EPUB Document"
