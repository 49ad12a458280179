"""PDF files that lie about themselves, or are made to take all there is."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from consumers.documents.parse import pdf as parser
from consumers.documents.parse.document import ParseFailed, ParseLimits
from consumers.documents.parse.pdf import parse_pdf
from tests.unit.consumers.documents.parse.drawn_pdf import Drawn, pdf
from tests.unit.consumers.documents.parse.packed import MEGABYTE, SANDBOX, read
from tests.unit.consumers.documents.parse.test_sandbox import pdf as of_objects

WORDS = b"BT /F 11 Tf 50 700 Td (Words beside it.) Tj ET"
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<</Length %d%s>>stream\n%s\nendstream" % (len(data), entries, data)


def packed(pieces: Iterable[bytes], entries: bytes = b"") -> bytes:
    packer = zlib.compressobj(1)
    return stream(b"".join([*map(packer.compress, pieces), packer.flush()]), entries + b"/Filter/FlateDecode")


def page(content: bytes, *more: bytes, resources: bytes = b"") -> bytes:
    """A PDF of one page; the first of `more` is object 6."""
    return of_objects(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 4 0 R/G 6 0 R>>%s>>/Contents 5 0 R>>"
        % resources,
        FONT,
        content,
        *more,
    )


def shapes(code_bytes: int) -> bytes:
    """Forty lines in font G."""
    lines = (b"".join(b"%0*x" % (2 * code_bytes, 1 + n * m % 8) for n in range(60)) for m in range(1, 41))
    return stream(b"BT /G 10 Tf 12 TL 50 740 Td %s ET" % b" ".join(b"<%s> Tj T*" % line for line in lines))


def without_names() -> bytes:
    """A Type 3 font, whose glyphs have names that say nothing."""
    numbers = range(1, 9)
    names = b"".join(b"/g%d" % n for n in numbers)
    glyphs = b"".join(b"/g%d 7 0 R" % n for n in numbers)
    font = (
        b"<</Type/Font/Subtype/Type3/FontBBox[0 0 750 750]/FontMatrix[.001 0 0 .001 0 0]/FirstChar 1/LastChar 8"
        b"/Widths[%s]/Encoding<</Type/Encoding/Differences[1%s]>>/CharProcs<<%s>>/Resources<<>>>>"
        % (b"600 " * 8, names, glyphs)
    )
    return page(shapes(1), font, stream(b"600 0 d0 0 0 500 500 re f"))


def without_map() -> bytes:
    """A composite font of glyph numbers without a map to Unicode."""
    font = b"<</Type/Font/Subtype/Type0/BaseFont/AAAAAA+Foo/Encoding/Identity-H/DescendantFonts[7 0 R]>>"
    descendant = (
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/AAAAAA+Foo/FontDescriptor 8 0 R/DW 600"
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>>>"
    )
    descriptor = (
        b"<</Type/FontDescriptor/FontName/AAAAAA+Foo/Flags 4/FontBBox[0 0 1000 1000]/ItalicAngle 0/Ascent 800"
        b"/Descent -200/CapHeight 700/StemV 80>>"
    )
    return page(shapes(2), font, descendant, descriptor)


@pytest.mark.parametrize("data", [without_names(), without_map()], ids=["type 3", "identity"])
def test_fonts_that_do_not_say_their_letters_are_no_text(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pdf").write_bytes(data)
    with pytest.raises(ParseFailed, match="fonts do not say which letters their shapes are") as caught:
        parse_pdf(tmp_path / "a.pdf", ParseLimits())
    assert caught.value.code == "no_text_layer"


async def test_a_picture_that_unpacks_to_400_megabytes_is_not_unpacked(tmp_path: Path) -> None:
    entries = b"/Type/XObject/Subtype/Image/Width 20000/Height 20000/BitsPerComponent 8/ColorSpace/DeviceGray"
    picture = packed((bytes(MEGABYTE) for _ in range(382)), entries)
    path = tmp_path / "picture.pdf"
    path.write_bytes(page(stream(b"q 600 0 0 700 0 0 cm /I Do Q " + WORDS), picture, resources=b"/XObject<</I 6 0 R>>"))
    assert (await read(path)).text.strip() == "Words beside it."


def form(content: bytes, following: int) -> bytes:
    return stream(
        content,
        b"/Type/XObject/Subtype/Form/BBox[0 0 900 900]/Resources<</Font<</F 4 0 R>>/XObject<</X %d 0 R>>>>" % following,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no limit on memory")
@pytest.mark.parametrize(
    "forms",
    [[form(b"/X Do /X Do", 6)], [form(b"/X Do /X Do", 7 + n) for n in range(30)] + [form(WORDS, 6)]],
    ids=["in itself", "twice in each other"],
)
async def test_forms_that_draw_forms_end(tmp_path: Path, forms: list[bytes]) -> None:
    path = tmp_path / "forms.pdf"
    path.write_bytes(page(stream(b"/X Do"), *forms, resources=b"/XObject<</X 6 0 R>>"))
    limits = ParseLimits(memory_bytes=160 * MEGABYTE, cpu_s=20)
    with pytest.raises(ParseFailed) as caught:
        await SANDBOX.read(path, name=path.name, media_type=None, limits=limits)
    assert caught.value.code in ("out_of_memory", "timeout")


@pytest.mark.parametrize("count", [b"-5", b"0", b"2147483647", b"99999999999999999999"])
def test_a_count_that_is_none(tmp_path: Path, count: bytes) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf([[Drawn("One page", 50, 700)]] * 3).replace(b"/Count 3", b"/Count " + count))
    try:
        assert parse_pdf(path, ParseLimits()).n_pages == 3
    except ParseFailed as refused:
        if refused.code not in ("malformed_file", "too_large_text"):
            raise


def test_many_pages_are_read_in_one_go_however_often_the_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf([[Drawn(f"Page {n}", 50, 700)] for n in range(1000)]))
    opened: list[object] = []
    whole = parser._opened

    def counted(source: Path) -> object:
        opened.append(source)
        return whole(source)

    monkeypatch.setattr(parser, "_opened", counted)
    once = parse_pdf(path, ParseLimits())
    assert (once.n_pages, len(opened)) == (1000, 2), "each opening walks the page tree from its start"
    monkeypatch.setattr(parser, "_MOST_KEPT", -1 << 40)
    assert parse_pdf(path, ParseLimits()) == once
    assert len(opened) == 2 + 1 + 10
