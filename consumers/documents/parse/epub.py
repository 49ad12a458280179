"""EPUB books: the chapters in the order in which they are read (EPUB 2 and 3)."""

from __future__ import annotations

import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote

from lxml import etree

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits, Source
from consumers.documents.parse.html import add_page
from consumers.documents.parse.ooxml import damage_reported, malformed
from consumers.documents.parse.sniff import EPUB
from consumers.documents.parse.text import decode_bytes

_WHAT = "EPUB book"
_MAX_CHAPTER_BYTES = 32 * 1024 * 1024
_MAX_BYTES = 256 * 1024 * 1024
_MAX_CHAPTERS = 20_000
_CHAPTERS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"


def parse_epub(source: Source, limits: ParseLimits) -> ParsedDocument:
    """Chapters by the spine, with their headings; the table of contents is left out. Raises: ParseFailed."""
    with damage_reported(_WHAT), zipfile.ZipFile(source) as archive:
        root_file, package = _package(archive)
        builder = TextBuilder(max_characters=limits.max_characters)
        locked = _locked(archive)
        n_bytes = 0
        for name in _chapters(archive, root_file, package):
            if name in locked:
                raise ParseFailed("password_needed", "The book is protected against copying (DRM) and cannot be read.")
            n_bytes += archive.getinfo(name).file_size
            if archive.getinfo(name).file_size > _MAX_CHAPTER_BYTES or n_bytes > _MAX_BYTES:
                raise ParseFailed("too_large_text", "The book unpacks to far more text than can be read; split it.")
            text = decode_bytes(archive.read(name), media_type=None, is_html=True)
            add_page(text, builder)
        if builder.is_empty:
            raise ParseFailed("empty_document", "The book holds no text.")
        return builder.finish(EPUB, title=package.findtext("{*}metadata/{http://purl.org/dc/elements/1.1/}title"))


def _package(archive: zipfile.ZipFile) -> tuple[str, Any]:
    """The name and the root of the file that lists the book's parts."""
    container = _xml(archive, _CONTAINER)
    for element in () if container is None else container.iter("{*}rootfile"):
        name = element.get("full-path", "")
        package = _xml(archive, name)
        if package is not None:
            return name, package
    raise malformed(_WHAT)


def _xml(archive: zipfile.ZipFile, name: str) -> Any | None:
    if name not in archive.namelist() or archive.getinfo(name).file_size > _MAX_CHAPTER_BYTES:
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
    return etree.fromstring(archive.read(name), parser)


def _chapters(archive: zipfile.ZipFile, root_file: str, package: Any) -> list[str]:
    """Names of the parts in reading order, each once; a name that leads out of the archive names nothing."""
    names = frozenset(archive.namelist())
    listed = {item.get("id"): item for item in package.iterfind("{*}manifest/{*}item")}
    found: dict[str, None] = {}
    for reference in package.iterfind("{*}spine/{*}itemref"):
        item = listed.get(reference.get("idref"))
        if item is None or "nav" in item.get("properties", "").split() or item.get("media-type") not in _CHAPTERS:
            continue
        name = _resolved(root_file, item.get("href", ""))
        if name in names:
            found[name] = None
    return list(found)[:_MAX_CHAPTERS]


def _resolved(root_file: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(root_file), unquote(href.partition("#")[0])))


def _locked(archive: zipfile.ZipFile) -> frozenset[str]:
    root = _xml(archive, _ENCRYPTION)
    if root is None:
        return frozenset()
    return frozenset(unquote(element.get("URI", "")) for element in root.iter("{*}CipherReference"))
