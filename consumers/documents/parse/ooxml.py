"""The package of an Office document (OOXML, transitional and strict): its parts as XML, within limits."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lxml import etree

from consumers.documents.parse.document import ParseFailed, Source

_MAX_PART_BYTES = 200 * 1024 * 1024
_MAX_SMALL_PART_BYTES = 16 * 1024 * 1024
_MAX_BYTES = 512 * 1024 * 1024
"""Unpacked parts of one package together, those of XML."""
_XML = (".xml", ".rels", ".vml")
_TITLE = "{http://purl.org/dc/elements/1.1/}title"


@dataclass(frozen=True, slots=True)
class Relationship:
    """A part that another part names; `kind` is the last word of the type, which strict and transitional share."""

    id: str
    kind: str
    target: str


class Package:
    """Reads parts. No entity is ever expanded, a DTD is refused, and what unpacks to too much is, too."""

    def __init__(self, archive: zipfile.ZipFile, what: str) -> None:
        self._archive = archive
        self._what = what
        self._names = frozenset(archive.namelist())
        if sum(info.file_size for info in archive.infolist() if info.filename.endswith(_XML)) > _MAX_BYTES:
            raise _too_large()

    def malformed(self) -> ParseFailed:
        """The failure of a document whose parts cannot be read."""
        return malformed(self._what)

    def main_part(self, usual: str) -> str:
        """The name of the part that all others hang on. Raises: ParseFailed."""
        found = [other.target for other in self.relationships("") if other.kind == "officeDocument"]
        for name in (*found, usual):
            if name in self._names:
                return name
        raise self.malformed()

    def relationships(self, part: str) -> list[Relationship]:
        """What `part` names inside the package and what is there, in order; "" is the package itself."""
        folder, name = posixpath.split(part)
        root = self.small_part(posixpath.join(folder, "_rels", f"{name}.rels"))
        found = []
        for element in () if root is None else root.iter("{*}Relationship"):
            target = posixpath.normpath(posixpath.join("/", folder, element.get("Target", ""))).lstrip("/")
            if element.get("TargetMode") != "External" and target in self._names:
                kind = element.get("Type", "").rpartition("/")[2]
                found.append(Relationship(element.get("Id", ""), kind, target))
        return found

    def events(
        self, name: str, *, tags: tuple[str, ...] | None = None, events: tuple[str, ...] = ("start", "end")
    ) -> Iterator[tuple[str, Any]]:
        """Starts and ends of the elements of a part (of those with `tags`), as they are read."""
        info = self._archive.getinfo(name)
        if info.file_size > _MAX_PART_BYTES:
            raise _too_large()
        with self._archive.open(info) as file:
            found = etree.iterparse(
                file,
                events=events,
                tag=tags,
                resolve_entities=False,
                no_network=True,
                load_dtd=False,
                remove_comments=True,
                remove_pis=True,
            )
            is_first = True
            for event, element in found:
                if is_first and element.getroottree().docinfo.doctype:
                    raise self.malformed()  # OOXML has no DTDs (ECMA-376 part 2, 8.1.4)
                is_first = False
                yield event, element

    def small_part(self, name: str) -> Any | None:
        """The root of a part, None if there is no such part or it is not sensible. Raises: ParseFailed."""
        if name not in self._names:
            return None
        if self._archive.getinfo(name).file_size > _MAX_SMALL_PART_BYTES:
            raise _too_large()
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        try:
            root = etree.fromstring(self._archive.read(name), parser)
        except etree.XMLSyntaxError:
            return None
        return None if root.getroottree().docinfo.doctype else root

    def title(self) -> str | None:
        """The document's own title."""
        root = self.small_part("docProps/core.xml")
        return None if root is None else root.findtext(f".//{_TITLE}")


@contextmanager
def opened(source: Source, what: str) -> Iterator[Package]:
    """The package in the file; `what` it is, for people. Raises: ParseFailed, for damage found inside."""
    with damage_reported(what), zipfile.ZipFile(source) as archive:
        yield Package(archive, what)


@contextmanager
def damage_reported(what: str) -> Iterator[None]:
    """Damage that the ZIP and XML libraries find, as ParseFailed."""
    try:
        yield
    except etree.XMLSyntaxError as error:
        if error.code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from error
        # libxml2 refuses elements deeper than 256 (damage, or an attack) and texts of more than 10 MB.
        is_text = error.code == etree.ErrorTypes.ERR_RESOURCE_LIMIT and "depth" not in str(error)
        raise (_too_large() if is_text else malformed(what)) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise malformed(what) from error
    except RuntimeError as error:  # zipfile's word for an encrypted member
        if "password" not in str(error):
            raise
        raise ParseFailed(
            "password_needed", "The document is protected by a password; remove it and upload the file again."
        ) from error


def malformed(what: str) -> ParseFailed:
    """The failure of a file that is damaged; `what` it should be."""
    return ParseFailed("malformed_file", f"The {what} is damaged or cut short, and cannot be read.")


def _too_large() -> ParseFailed:
    return ParseFailed("too_large_text", "The document unpacks to far more text than can be read; split it.")


def local_name(element: Any) -> str:
    """An element's tag without its namespace; "" for what is no element."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: Any, name: str) -> str | None:
    """An attribute by its local name: strict and transitional files have different namespaces."""
    return next((text for key, text in element.attrib.items() if key.rpartition("}")[2] == name), None)


def free(element: Any) -> None:
    """Gives back the memory of `element` and of all before it under the same parent: iterparse would keep it."""
    element.clear()
    parent = element.getparent()
    while parent is not None and (done := element.getprevious()) is not None:
        parent.remove(done)
