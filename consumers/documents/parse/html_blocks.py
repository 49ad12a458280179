"""An HTML tree, or trafilatura's, into blocks."""

from __future__ import annotations

from typing import Any

from lxml import etree

from consumers.documents.parse.building import TextBuilder

_LEFT_OUT = frozenset(
    (
        *("script", "style", "noscript", "template", "svg", "iframe", "object", "canvas"),
        *("head", "nav", "footer", "aside", "button", "select", "option", "textarea"),
    )
)
_ROLES_LEFT_OUT = frozenset(["navigation", "banner", "contentinfo", "search", "menu", "menubar", "dialog"])
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LISTS = frozenset(("ul", "ol", "dl", "list"))
_ITEMS = frozenset(("li", "dt", "dd", "item"))
_ROWS = frozenset(("tr", "row"))
_CELLS = frozenset(("td", "th", "cell"))
_BLOCKS = frozenset(
    (
        *("p", "div", "section", "article", "main", "body", "html", "header", "blockquote", "quote", "hr", "center"),
        *("figure", "figcaption", "form", "fieldset", "details", "summary", "address"),
        *("caption", "thead", "tbody", "tfoot"),
    )
)
_BREAKS = frozenset(("br", "lb"))
_ITEM_IN_CELL = ", "


def add_blocks(root: Any, builder: TextBuilder) -> None:
    """Adds the text under `root` to `builder`, without scripts and navigation; trees may be any depth."""
    collector = _Collector(builder)
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        tag = element.tag if isinstance(element.tag, str) else ""
        if event == "start":
            if not tag or _is_left_out(element, tag):
                walk.skip_subtree()
                continue
            collector.start(element, tag)
            collector.text(element.text)
        else:
            if tag and not _is_left_out(element, tag):
                collector.end(element, tag)
            if element is not root:
                collector.text(element.tail)
    collector.flush()


def _is_left_out(element: Any, tag: str) -> bool:
    if tag == "head" and element.get("rend"):
        return False  # a heading, in trafilatura's tree
    return tag in _LEFT_OUT or element.get("role") in _ROLES_LEFT_OUT or "hidden" in element.attrib


def _heading_level(element: Any, tag: str) -> int:
    if tag == "head":
        tag = element.get("rend", "h2")
    return _HEADINGS.get(tag, 0)


class _Collector:
    """Text on its way into blocks. Of nested tables, lists and code the outermost gives the block its kind."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._text: list[str] = []
        self._lines: list[str] = []
        self._cells: list[str] = []
        self._n_tables = 0
        self._n_lists = 0
        self._n_code = 0

    def text(self, text: str | None) -> None:
        if text:
            self._text.append(text)

    def start(self, element: Any, tag: str) -> None:
        if tag == "table":
            self._begin_outermost()
            self._n_tables += 1
        elif tag in _LISTS:
            self._begin_outermost()
            self._end_item()
            self._n_lists += 1
        elif tag in _ITEMS:
            self._end_item()
        elif tag == "pre" or (tag == "code" and self._is_code_block(element)):
            self._begin_outermost()
            self._n_code += 1
        elif tag in _BREAKS:
            self.text("\n" if self._n_code else " ")
        elif tag in _BLOCKS or _heading_level(element, tag):
            self._part()

    def end(self, element: Any, tag: str) -> None:
        level = _heading_level(element, tag)
        if tag == "table":
            self._end_row()
            self._n_tables -= 1
            self._end_outermost("table")
        elif tag in _ROWS:
            self._end_row()
        elif tag in _CELLS:
            self._cells.append(self._taken().replace(" ,", ",").strip(" ,"))
        elif tag in _LISTS:
            self._end_item()
            self._n_lists -= 1
            self._end_outermost("list")
        elif tag in _ITEMS:
            self._end_item()
        elif tag == "pre" or (tag == "code" and self._is_code_block(element)):
            self._n_code -= 1
            self._end_code()
        elif level and self._is_plain:
            self._builder.add("heading", self._taken(), level=level)
        elif tag in _BLOCKS or level:
            self._part()

    def flush(self) -> None:
        """The text that is left is a paragraph."""
        self._builder.add("paragraph", self._taken())

    @property
    def _is_plain(self) -> bool:
        return self._n_tables == self._n_lists == self._n_code == 0

    def _is_code_block(self, element: Any) -> bool:
        """trafilatura's trees have `code` for `pre`."""
        parent = element.getparent()
        return parent is not None and parent.tag == "body" and "\n" in "".join(element.itertext())

    def _begin_outermost(self) -> None:
        if self._is_plain:
            self.flush()

    def _end_outermost(self, kind: Any) -> None:
        if self._is_plain:
            self._builder.add(kind, "\n".join(self._lines))
            self._lines = []

    def _part(self) -> None:
        if self._is_plain:
            self.flush()
        else:
            self.text("\n" if self._n_code else " ")

    def _end_item(self) -> None:
        if self._n_tables:
            last = next((text for text in reversed(self._text) if not text.isspace()), _ITEM_IN_CELL)
            if last != _ITEM_IN_CELL:
                self.text(_ITEM_IN_CELL)
        elif self._n_lists and (text := self._taken()):
            self._lines.append("  " * (self._n_lists - 1) + "- " + text)

    def _end_row(self) -> None:
        rest = self._taken()
        if self._n_tables > 1:  # a table in a cell is that cell's text
            self.text(" ".join([*self._cells, rest]) + " ")
        else:
            cells = [*self._cells, rest] if rest else self._cells
            if any(cells):
                self._lines.append(" | ".join(cells).removesuffix(" | "))
        self._cells = []

    def _end_code(self) -> None:
        if self._is_plain:
            code, self._text = "".join(self._text), []
            self._builder.add("code", code)
        else:
            self.text("\n")

    def _taken(self) -> str:
        """The text so far on one line; it starts anew."""
        text, self._text = " ".join("".join(self._text).split()), []
        return text
