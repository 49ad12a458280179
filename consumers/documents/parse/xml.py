"""XML: feeds (RSS, Atom) entry by entry, anything else element by element, with the names that say what a text is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import BlockKind, ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.html import add_page

MEDIA_TYPE = "application/xml"
_FEEDS = ("rss", "feed", "RDF")
_ENTRIES = ("item", "entry")
_TITLES = ("title", "subtitle", "head", "heading")
_PROSE = ("p", "para", "simpara", "li", "item", "line", "paragraph", "abstract", "description")
_DATES = ("pubDate", "published", "updated", "date")
_AUTHORS = ("author", "creator")
_BODIES = ("encoded", "content", "description", "summary")
_MAX_DEPTH = 256
_NO_MEMORY = expat.errors.codes[expat.errors.XML_ERROR_NO_MEMORY]
_MAX_HEADING = 6


def parse_xml(text: str, limits: ParseLimits) -> ParsedDocument:
    """Feeds: each entry under its title. Else titles are headings, and fields stand together as `name: text`.

    Entities that a file declares are refused, and nothing outside it is read. Raises: ParseFailed.
    """
    builder = TextBuilder(max_characters=limits.max_characters)
    reader = _Reader(builder)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(text.lstrip().replace("\x00", "").encode("utf-8", "replace").decode("utf-8"), True)
    except expat.ExpatError as error:
        if error.code == _NO_MEMORY:
            raise MemoryError from error
        raise ParseFailed("malformed_file", f"The XML is damaged at line {error.lineno} and cannot be read.") from error
    return builder.finish(MEDIA_TYPE, title=reader.title)


def _refuse_entity(*_: object) -> NoReturn:
    raise ParseFailed("malformed_file", "The XML declares entities of its own, which are not read; remove them.")


@dataclass(slots=True)
class _Frame:
    """An element that is open, and what is known of it."""

    name: str
    attributes: dict[str, str]
    pieces: list[str] = field(default_factory=list)
    has_own_text: bool = False
    n_children: int = 0
    fields: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    """(name, attributes, text) of the children without children."""


class _Reader:
    """Takes a file's elements in order and adds blocks to `builder`."""

    def __init__(self, builder: TextBuilder) -> None:
        self.title: str | None = None
        self._builder = builder
        self._stack: list[_Frame] = []
        self._n_entries = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._stack) > _MAX_DEPTH:
            raise ParseFailed("malformed_file", "The XML is nested too deeply to be read.")
        if self._stack:
            self._stack[-1].n_children += 1
        kept = {key: value for key, value in attributes.items() if ":" not in key and key != "xmlns"}
        local = name.rpartition(":")[2]
        self._stack.append(_Frame(local, {} if local in _FEEDS else kept))
        self._n_entries += self._is_entry(len(self._stack) - 1)

    def text(self, text: str) -> None:
        frame = self._stack[-1]
        frame.pieces.append(text)
        frame.has_own_text = frame.has_own_text or not text.isspace()

    def end(self, _: str) -> None:
        frame = self._stack[-1]
        if self._is_entry(len(self._stack) - 1):
            self._n_entries -= 1
            self._stack.pop()
            if not self._n_entries:
                self._add_entry(frame)
        elif self._n_entries:
            self._stack.pop()
            self._hand_up(frame)
        else:
            self._end(frame)

    def _is_entry(self, index: int) -> bool:
        return self._stack[0].name in _FEEDS and self._stack[index].name in _ENTRIES

    def _hand_up(self, frame: _Frame) -> None:
        """Inside an entry: all text of a child is the child's."""
        above = self._stack[-1]
        text = "".join(frame.pieces)
        above.fields.append((frame.name, frame.attributes, text))
        above.pieces += [" ", text, " "]

    def _end(self, frame: _Frame) -> None:
        text = " ".join("".join(frame.pieces).split())
        if frame.n_children and not frame.has_own_text:
            self._flush()
            self._stack.pop()
            return
        depth = len(self._stack) - 1
        if frame.name in _TITLES and text:
            self.title = self.title or text
            self._stack.pop()
            self._add("heading", text, level=min(max(depth, 1), _MAX_HEADING))
        elif frame.n_children or (text and frame.name in _PROSE) or not depth:
            frame.fields.clear()  # they are in the text
            self._stack.pop()
            self._add("paragraph", text)
        else:
            self._stack.pop()
            above = self._stack[-1]
            above.fields.append((frame.name, frame.attributes, text))
            if above.has_own_text:
                above.pieces.append(text)

    def _add(self, kind: BlockKind, text: str, *, level: int = 0) -> None:
        self._flush()
        self._builder.add(kind, text, level=level)

    def _flush(self) -> None:
        """The fields so far stand before what follows."""
        for frame in self._stack:
            own = [(frame.name, frame.attributes, "")] if frame.attributes else []
            lines = [_line(*found) for found in [*own, *frame.fields]] if frame.fields or own else []
            frame.fields, frame.attributes = [], {}
            self._builder.add("paragraph", "\n".join(line for line in lines if line))

    def _add_entry(self, entry: _Frame) -> None:
        self._flush()
        self._builder.add("heading", _first(entry, ("title",)), level=2)
        link = next(
            (text.strip() or attributes.get("href", "") for name, attributes, text in entry.fields if name == "link"),
            "",
        )
        about = (_first(entry, _DATES), _first(entry, _AUTHORS), link)
        self._builder.add("paragraph", "\n".join(text for text in about if text))
        body = _first(entry, _BODIES, plain=False)
        if "<" in body or "&" in body:
            add_page(body, self._builder)
        else:
            self._builder.add("paragraph", " ".join(body.split()))


def _first(entry: _Frame, names: tuple[str, ...], *, plain: bool = True) -> str:
    """The text of the first of these fields that has one."""
    for wanted in names:
        for name, _, text in entry.fields:
            if name == wanted and text.strip():
                return " ".join(text.split()) if plain else text
    return ""


def _line(name: str, attributes: dict[str, str], text: str) -> str:
    said = " ".join([name, *(f"{key}={value}" for key, value in attributes.items())])
    if text:
        return f"{said}: {text}"
    return said if attributes else ""
