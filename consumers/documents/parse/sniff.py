"""What a file is, told by its content: a name or a declared type only decides between kinds of plain text."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from consumers.documents.parse.document import ParseFailed, Source
from consumers.documents.parse.sniff_text import TEXT, text_kind

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
EPUB = "application/epub+zip"
EML = "message/rfc822"

SUPPORTED = (
    "PDF, Word (.docx), Excel (.xlsx), PowerPoint (.pptx), CSV, EPUB, e-mail (.eml), HTML, XML, JSON, notebooks,"
    " Markdown, source code and plain text"
)

_HEAD = 64 * 1024
_MAX_ENTRIES = 20_000
_OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_ZIP_PARTS = (
    ("word/", DOCX, ""),
    ("ppt/", PPTX, ""),
    ("xl/", XLSX, ""),
    ("META-INF/container.xml", EPUB, ""),
    ("content.xml", "", "an OpenDocument file"),
)
_MAIL_HEADER = re.compile(rb"(?:[A-Za-z][A-Za-z0-9-]{1,60}:[^\r\n]*(?:\r?\n[ \t]+[^\r\n]*)*\r?\n)+\r?\n")
_MAIL_NAMES = (b"from:", b"subject:", b"date:", b"mime-version:", b"received:", b"message-id:", b"to:")
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def sniff(path: Path, *, name: str, media_type: str | None) -> str:
    """The media type of the file at `path`, one that there is a parser for. Raises: ParseFailed."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.strip(b"\x00\t\r\n "):
        if len(head) == _HEAD:  # text may follow
            return TEXT
        raise ParseFailed("empty_document", "The file is empty.")
    if (packed := packed_kind(path, head)) is not None:
        return packed
    if head.startswith(_OLE2):
        raise _ole2(path)
    if head.startswith(b"{\\rtf"):
        raise unsupported("a rich text (RTF) file")
    if not looks_like_text(head):
        raise unsupported(_described(path))
    if _is_mail(head.replace(b"\x00", b"")):
        return EML
    return text_kind(head, name, (media_type or "").partition(";")[0].strip().lower())


def packed_kind(source: Source, head: bytes) -> str | None:
    """The type of a PDF or of an archive that begins with `head`; None if it is neither. Raises: ParseFailed."""
    if b"%PDF-" in head[:1024]:
        return PDF
    return _zipped(source) if head.startswith(_ZIP_STARTS) else None


def unsupported(what: str) -> ParseFailed:
    """Says what the file is and what can be read instead."""
    return ParseFailed("unsupported_type", f"This is {what}, which cannot be read yet; supported are {SUPPORTED}.")


def _zipped(source: Source) -> str:
    try:
        with zipfile.ZipFile(source) as archive:
            names = [info.filename for info in archive.infolist()[:_MAX_ENTRIES]]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ParseFailed("malformed_file", "The file is damaged: it is an archive (as .docx is) cut short.") from error
    is_office = "[Content_Types].xml" in names
    for part, media_type, what in _ZIP_PARTS:
        if any(name.startswith(part) for name in names) and (is_office or not part.endswith("/")):
            if media_type:
                return media_type
            raise unsupported(what)
    raise unsupported("a ZIP archive")


def _ole2(path: Path) -> ParseFailed:
    if _ENCRYPTED_STREAM in path.read_bytes():
        return ParseFailed(
            "password_needed", "The file is protected by a password; remove it and upload the file again."
        )
    return unsupported("an old Office file (.doc, .xls, .ppt) or Outlook message")


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes of a file are text in some encoding."""
    if head.startswith(_BOMS) or _utf16_without_bom(head):
        return True
    n_controls = sum(head.count(bytes([code])) for code in (*range(0x01, 0x08), *range(0x0E, 0x1B), 0x7F))
    # A stray NUL is bad input, not another type; so are a few other controls.
    return head.count(0) <= max(8, len(head) // 50) and n_controls <= max(4, len(head) // 50)


def _utf16_without_bom(head: bytes) -> bool:
    even, odd = head[:4096:2].count(0), head[1:4096:2].count(0)
    half = len(head[:4096]) // 2
    return half >= 8 and ((odd > 0.4 * half and even < 0.05 * half) or (even > 0.4 * half and odd < 0.05 * half))


def _described(path: Path) -> str:
    import puremagic

    try:
        found = puremagic.magic_file(str(path))
    except (puremagic.PureError, ValueError, OSError):
        found = []
    known = [match for match in found if match.mime_type and match.confidence >= 0.4]
    return f"a file of type {known[0].mime_type}" if known else "a binary file of a type that is not known"


def _is_mail(head: bytes) -> bool:
    match = _MAIL_HEADER.match(head)
    if match is None:
        return False
    names = {line.split(b":")[0].lower() + b":" for line in match[0].splitlines() if b":" in line}
    return b"from:" in names and sum(name in names for name in _MAIL_NAMES) >= 3
