"""Word documents (transitional and strict OOXML): paragraphs, headings, lists and tables in the body's order."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lxml import etree

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.docx_blocks import Body
from consumers.documents.parse.docx_styles import Styles

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_MAX_PART_BYTES = 200 * 1024 * 1024
_MAX_SMALL_PART_BYTES = 16 * 1024 * 1024
_MAIN = "word/document.xml"
_AFTER_THE_BODY = ("footnotes", "endnotes", "comments", "header", "footer")
_MAX_PARTS = 64
_TITLE = "{http://purl.org/dc/elements/1.1/}title"


def parse_docx(path: Path, limits: ParseLimits) -> ParsedDocument:
    """The body, then notes, comments, headers and footers; a table's rows are lines, its cells parted by " | ".

    Text boxes stand before the paragraph they hang on. Parts are read as streams: memory does not grow with them.
    Raises: ParseFailed.
    """
    with _damage_reported(), zipfile.ZipFile(path) as archive:
        builder = TextBuilder(max_characters=limits.max_characters)
        main = _main_part(archive)
        related = _related(archive, main)
        styles = Styles(_small_part(archive, next(iter(related.get("styles", ())), "")))
        notes = [name for kind in _AFTER_THE_BODY for name in related.get(kind, [])]
        for name in [main, *notes[:_MAX_PARTS]]:
            body = Body(builder, styles)
            for event, element in _events(archive, name):
                body.take(event, element)
            body.flush()
        return builder.finish(MEDIA_TYPE, title=_title(archive))


@contextmanager
def _damage_reported() -> Iterator[None]:
    try:
        yield
    except etree.XMLSyntaxError as error:
        # libxml2 refuses elements deeper than 256 (damage, or an attack) and texts of more than 10 MB.
        is_text = error.code == etree.ErrorTypes.ERR_RESOURCE_LIMIT and "depth" not in str(error)
        raise (_too_large() if is_text else malformed()) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise malformed() from error
    except RuntimeError as error:  # zipfile's word for an encrypted member
        if "password" not in str(error):
            raise
        raise ParseFailed(
            "password_needed", "The document is protected by a password; remove it and upload the file again."
        ) from error


def malformed() -> ParseFailed:
    """The failure of a Word document whose parts cannot be read."""
    return ParseFailed("malformed_file", "The Word document is damaged or cut short, and cannot be read.")


def _too_large() -> ParseFailed:
    return ParseFailed("too_large_text", "The document unpacks to far more text than can be read; split it.")


def _events(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, Any]]:
    """Starts and ends of the elements of a part. No entity is ever expanded, and a DTD is refused."""
    info = archive.getinfo(name)
    if info.file_size > _MAX_PART_BYTES:
        raise _too_large()
    with archive.open(info) as file:
        events = etree.iterparse(
            file,
            events=("start", "end"),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            remove_comments=True,
            remove_pis=True,
        )
        is_first = True
        for event, element in events:
            if is_first and element.getroottree().docinfo.doctype:
                raise malformed()  # OOXML has no DTDs (ECMA-376 part 2, 8.1.4)
            is_first = False
            yield event, element


def _small_part(archive: zipfile.ZipFile, name: str) -> Any | None:
    """The root of a part, None if there is no such part or it is not sensible."""
    if name not in archive.namelist() or archive.getinfo(name).file_size > _MAX_SMALL_PART_BYTES:
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(archive.read(name), parser)
    except etree.XMLSyntaxError:
        return None
    return None if root.getroottree().docinfo.doctype else root


def _main_part(archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    found = _relationships(_small_part(archive, "_rels/.rels"), folder="").get("officeDocument", [])
    for name in (*found, _MAIN):
        if name in names:
            return name
    raise malformed()


def _related(archive: zipfile.ZipFile, part: str) -> dict[str, list[str]]:
    folder, name = posixpath.split(part)
    names = set(archive.namelist())
    found = _relationships(_small_part(archive, f"{folder}/_rels/{name}.rels"), folder=folder)
    return {kind: [target for target in targets if target in names] for kind, targets in found.items()}


def _relationships(root: Any | None, *, folder: str) -> dict[str, list[str]]:
    """Names of parts by the last word of the relationship's type, which strict and transitional files share."""
    found: dict[str, list[str]] = {}
    for element in () if root is None else root.iter("{*}Relationship"):
        if element.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", folder, element.get("Target", ""))).lstrip("/")
            found.setdefault(element.get("Type", "").rpartition("/")[2], []).append(target)
    return found


def _title(archive: zipfile.ZipFile) -> str | None:
    root = _small_part(archive, "docProps/core.xml")
    return None if root is None else root.findtext(f".//{_TITLE}")
