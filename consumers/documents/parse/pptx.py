"""PowerPoint presentations: a slide is a page, its title a heading; tables, charts, groups and notes are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.charts import add_chart
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits, Source
from consumers.documents.parse.ooxml import Package, attribute, local_name, opened
from consumers.documents.parse.sniff import PPTX
from consumers.documents.parse.tables import TableWriter

_TITLES = ("title", "ctrTitle")
_SMALL_PRINT = ("dt", "ftr", "sldNum", "hdr", "sldImg")
_LISTS = ("body", "obj", "")
"""Placeholders whose paragraphs are a list; "" is one that says nothing of its kind."""
_SHAPES = ("sp", "grpSp", "graphicFrame", "cxnSp")
_BAND = 230_000
"""Shapes whose tops are in one band of this height (EMU, a quarter of an inch) stand side by side."""


def parse_pptx(source: Source, limits: ParseLimits) -> ParsedDocument:
    """Slides in their order, hidden ones marked; shapes from top to bottom, the notes last. Raises: ParseFailed."""
    with opened(source, "PowerPoint presentation") as package:
        builder = TextBuilder(max_characters=limits.max_characters)
        main = package.main_part("ppt/presentation.xml")
        presentation = package.small_part(main)
        if presentation is None:
            raise package.malformed()
        slides = {other.id: other.target for other in package.relationships(main) if other.kind == "slide"}
        for listed in presentation.iterfind("{*}sldIdLst/{*}sldId"):
            name = slides.get(_relationship_id(listed))
            if name is not None:
                builder.begin_page()
                _add_slide(package, name, builder)
        if builder.is_empty:
            raise ParseFailed("empty_document", "The presentation holds no text; its slides may be images.")
        return builder.finish(PPTX, title=package.title())


def _relationship_id(element: Any) -> str:
    """The `id` that has a namespace: a slide's own has none."""
    return next((text for key, text in element.attrib.items() if key.endswith("}id")), "")


def _add_slide(package: Package, name: str, builder: TextBuilder) -> None:
    slide = package.small_part(name)
    if slide is None:
        raise package.malformed()
    is_hidden = attribute(slide, "show") in ("0", "false")
    shapes = list(_shapes(slide.find("{*}cSld/{*}spTree")))
    titles = [shape for shape in shapes if _placeholder(shape) in _TITLES]
    for shape in titles:
        title = " ".join(_paragraphs(shape)).strip()
        builder.add("heading", title + " (hidden)" * (is_hidden and bool(title)), level=1)
    if is_hidden and not titles:
        builder.add("paragraph", "(hidden slide)")
    for shape in shapes:
        if shape not in titles:
            _add_shape(shape, builder)
    for other in package.relationships(name):
        if other.kind == "notesSlide":
            _add_notes(package.small_part(other.target), builder)
        elif other.kind == "chart":
            add_chart(package.small_part(other.target), builder)
        elif other.kind in ("diagramData", "comments"):
            _add_texts(package.small_part(other.target), builder, is_comment=other.kind == "comments")


def _shapes(parent: Any | None) -> Iterator[Any]:
    """Shapes with text as they are read, those of groups in the place of their group."""
    children = [] if parent is None else [child for child in parent.iterchildren() if local_name(child) in _SHAPES]
    places = [_place(child) for child in children]
    if all(place is not None for place in places):  # else the file's own order is the better guess
        children = [
            child
            for _, _, child in sorted(
                ((place, index, child) for index, (place, child) in enumerate(zip(places, children, strict=True))),
                key=lambda found: found[:2],
            )
        ]
    for child in children:
        if local_name(child) == "grpSp":
            yield from _shapes(child)
        else:
            yield child


def _place(shape: Any) -> tuple[int, int] | None:
    """(band from the top, left); the title is first, a placeholder without a place of its own has none."""
    if _placeholder(shape) in _TITLES:
        return (-1, 0)
    offset = next(shape.iter("{*}off"), None)
    try:
        return None if offset is None else (int(offset.get("y")) // _BAND, int(offset.get("x")))
    except (TypeError, ValueError):
        return None


def _placeholder(shape: Any) -> str | None:
    """The kind of placeholder that a shape is, None if it is none."""
    found = shape.find("{*}nvSpPr/{*}nvPr/{*}ph")
    return None if found is None else found.get("type", "")


def _add_shape(shape: Any, builder: TextBuilder) -> None:
    kind = _placeholder(shape)
    if kind in _SMALL_PRINT:
        return
    tables = list(shape.iterfind(".//{*}tbl"))
    for table in tables:
        writer = TableWriter(builder)
        for row in table.iterfind("{*}tr"):
            cells = enumerate(row.iterfind("{*}tc"))
            writer.add([(column, text) for column, cell in cells if (text := " ".join(_paragraphs(cell)).strip())])
        writer.end()
    if tables:
        return
    lines = [line for line in _paragraphs(shape) if line.strip()]
    if kind in _LISTS and len(lines) > 1:
        builder.add("list", "\n".join(_as_item(line) for line in lines))
    else:
        builder.add("paragraph", "\n".join(lines))


def _as_item(line: str) -> str:
    text = line.lstrip("\t")
    return "  " * (len(line) - len(text)) + f"- {text.strip()}"


def _paragraphs(shape: Any) -> list[str]:
    """The text of each paragraph, a tab before it for each level it is indented."""
    lines = []
    for paragraph in shape.iterfind(".//{*}txBody/{*}p"):
        properties = paragraph.find("{*}pPr")
        level = "" if properties is None else properties.get("lvl", "")
        pieces = ((text.text or "") if local_name(text) == "t" else " " for text in paragraph.iter("{*}t", "{*}br"))
        lines.append("\t" * (int(level) if level in tuple("12345678") else 0) + "".join(pieces))
    return lines


def _add_notes(notes: Any | None, builder: TextBuilder) -> None:
    for shape in () if notes is None else notes.iterfind(".//{*}sp"):
        if _placeholder(shape) == "body":
            text = "\n".join(_paragraphs(shape)).strip()
            builder.add("paragraph", f"Notes: {text}" if text else "")


def _add_texts(root: Any | None, builder: TextBuilder, *, is_comment: bool) -> None:
    """The texts of a diagram (SmartArt), or the comments on a slide."""
    if root is None:
        return
    if is_comment:
        for comment in root.iter("{*}text"):
            builder.add("paragraph", f"Comment: {comment.text}" if comment.text else "")
    else:
        points = ("".join(text.text or "" for text in point.iter("{*}t")) for point in root.iter("{*}pt"))
        builder.add("list", "\n".join(f"- {text.strip()}" for text in points if text.strip()))
