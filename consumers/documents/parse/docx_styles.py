"""What a Word document's styles say about its paragraphs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from consumers.documents.parse.ooxml import attribute

_HEADING_NAME = re.compile(r"(?:heading|überschrift|titre|título)\s*(\d)$", re.IGNORECASE)
_CODE_NAME = re.compile(r"\bcode\b|preformatted|source", re.IGNORECASE)
_MAX_PARENTS = 20


@dataclass(frozen=True, slots=True)
class _Style:
    name: str
    parent: str
    outline_level: int | None
    is_list: bool


class Styles:
    """Looks styles up by id, those they are based on included; `root` is styles.xml, or None."""

    def __init__(self, root: Any | None) -> None:
        self._styles: dict[str, _Style] = {}
        for element in () if root is None else root.iter("{*}style"):
            self._styles[attribute(element, "styleId") or ""] = _Style(
                name=value(element, "name") or "",
                parent=value(element, "basedOn") or "",
                outline_level=_number(value(element, "pPr/{*}outlineLvl")),
                is_list=element.find("{*}pPr/{*}numPr") is not None,
            )

    def heading_level(self, style_id: str) -> int:
        """1 to 9, and 0 for a paragraph that is no heading."""
        for style in self._line(style_id):
            named = _HEADING_NAME.match(style.name)
            if named:
                return max(1, int(named[1]))
            if style.name.casefold() == "title":
                return 1
            if style.outline_level is not None:
                return style.outline_level + 1 if style.outline_level < 9 else 0
        return 0

    def is_list(self, style_id: str) -> bool:
        """Whether paragraphs of this style are items of a list."""
        return any(style.is_list or style.name.casefold().startswith("list ") for style in self._line(style_id))

    def is_code(self, style_id: str) -> bool:
        """Whether paragraphs of this style are lines of code."""
        return any(_CODE_NAME.search(style.name) for style in self._line(style_id))

    def _line(self, style_id: str) -> list[_Style]:
        line: list[_Style] = []
        while style_id in self._styles and len(line) < _MAX_PARENTS:  # a style may be based on itself
            line.append(self._styles[style_id])
            style_id = line[-1].parent
        return line


def value(element: Any, path: str) -> str | None:
    """The `val` of the element at `path` (local names), None if there is none."""
    found = element.find("{*}" + path)
    return None if found is None else attribute(found, "val")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
