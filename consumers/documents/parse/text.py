"""Plain text in any encoding."""

from __future__ import annotations

import codecs
import io
import re
from pathlib import Path
from typing import BinaryIO

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import BlockKind, ParsedDocument, ParseFailed, ParseLimits

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_META_CHARSET = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE
)
_SAMPLE = 64 * 1024
_IN_USE = [
    *("cp932", "euc_jp", "iso2022_jp", "cp949", "gb18030", "big5", "cp1252", "cp1251", "koi8_r", "cp1250"),
    *("cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
]
"""What files are really written in: without this list short texts are taken for Macintosh and EBCDIC pages."""

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*•·‣◦]|\d{1,3}[.)])[ \t]+\S")
_LOGGED = re.compile(r"[\[<(]?\d{2,4}[-/.]\d{2}[-/.]\d{2,4}[T ]\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ")
"""The time at which a line of a log begins."""
_LOOKED_AT = 5
"""Lines of a paragraph that tell a list or a table."""
_BYTES_A_CHARACTER = 4


def decode(path: Path, *, media_type: str | None, limits: ParseLimits | None = None, is_html: bool = False) -> str:
    """The text of the file, see `encoding_of`. What cannot be decoded is U+FFFD. Raises: ParseFailed."""
    encoding = encoding_of(path, media_type=media_type, limits=limits, is_html=is_html)
    return path.read_bytes().decode(encoding, "replace").replace("\x00", "")


def decode_bytes(data: bytes, *, media_type: str | None, is_html: bool = False) -> str:
    """The same for bytes that are in memory."""
    encoding = _encoding_of(io.BytesIO(data), media_type, is_html=is_html)
    return data.decode(encoding, "replace").replace("\x00", "")


def encoding_of(path: Path, *, media_type: str | None, limits: ParseLimits | None = None, is_html: bool = False) -> str:
    """The file's encoding: by byte order mark, UTF-8, as declared, else by what its bytes look like.

    Raises: ParseFailed `too_large_text` before a large file is read.
    """
    most = (limits or ParseLimits()).max_characters
    if path.stat().st_size > most * _BYTES_A_CHARACTER:
        raise ParseFailed("too_large_text", f"The document holds more than {most:,} characters of text; split it.")
    with path.open("rb") as file:
        return _encoding_of(file, media_type, is_html=is_html)


def _encoding_of(file: BinaryIO, media_type: str | None, *, is_html: bool) -> str:
    head = file.read(_SAMPLE)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    wide = _utf16_order(head)
    if wide:
        return wide
    for encoding in ("utf-8", *_declared(head, media_type, is_html=is_html)):
        if _decodes(file, encoding):
            return encoding
    return _guessed(head.replace(b"\x00", b""))


def _decodes(file: BinaryIO, encoding: str) -> bool:
    file.seek(0)
    try:
        b"    ".decode(encoding)  # a LookupError for codecs that give bytes
        decoder = codecs.getincrementaldecoder(encoding)()
        while piece := file.read(1 << 20):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except (UnicodeError, LookupError):
        return False
    return True


def _utf16_order(data: bytes) -> str | None:
    sample = data[:4096]
    even, odd, half = sample[::2].count(0), sample[1::2].count(0), len(sample) // 2
    if half < 8 or max(even, odd) <= 0.4 * half:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _declared(data: bytes, media_type: str | None, *, is_html: bool) -> list[str]:
    found = _CHARSET.search(media_type or "")
    meta = _META_CHARSET.search(data[:4096]) if is_html else None
    return [name for name in (found and found[1], meta and meta[1].decode("ascii")) if name]


def _guessed(data: bytes) -> str:
    import charset_normalizer

    if _is_utf8_with_flaws(data):
        return "utf-8"
    best = charset_normalizer.from_bytes(data[:_SAMPLE], cp_isolation=_IN_USE).best()
    return best.encoding if best is not None else "cp1252"


def _is_utf8_with_flaws(data: bytes) -> bool:
    """A UTF-8 file with a few broken bytes, or one that is cut inside a character."""
    text = data[:_SAMPLE].decode("utf-8", "replace")
    n_wide = sum(ord(character) > 0x7F for character in text)
    return n_wide >= 8 and text.count("\ufffd") * 10 < n_wide


def _kind(lines: list[str]) -> BlockKind:
    if len(lines) > 1 and all(_LIST_ITEM.match(line) for line in lines[:2]):
        return "list"
    if len(lines) > 1 and all(_LOGGED.match(line) for line in lines[:2]):
        return "code"  # lines stay whole
    is_table = any(len({line.count(mark) for line in lines}) == 1 and mark in lines[0] for mark in "\t,;|")
    return "table" if len(lines) > 2 and is_table else "paragraph"


def parse_text(text: str, limits: ParseLimits) -> ParsedDocument:
    """Blocks are paragraphs, between blank lines, also lists, logs and tables. Raises: ParseFailed."""
    builder = TextBuilder(max_characters=limits.max_characters)
    for paragraph in _PARAGRAPH.split(text.replace("\r\n", "\n").replace("\r", "\n")):
        builder.add(_kind(paragraph.strip().split("\n", _LOOKED_AT)[:_LOOKED_AT]), paragraph)
    return builder.finish("text/plain")
