"""Text and blocks as they grow: cleaned, counted in code points, bounded."""

from __future__ import annotations

import re

from consumers.documents.parse.document import Block, BlockKind, ParsedDocument, ParseFailed

_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
_CONTROLS: dict[int, str | None] = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_TABLE = str.maketrans(
    {
        **_CONTROLS,
        **{ord(letters): plain for letters, plain in _LIGATURES.items()},
        **dict.fromkeys((0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029), "\n"),
        **dict.fromkeys((0xA0, 0x202F, 0x2007), " "),
        **dict.fromkeys((0xAD, 0x200B, 0x2060, 0xFEFF, 0xFFFE, 0xFFFF), None),  # soft hyphen, zero width, no characters
        0x09: "\t",
    }
)
_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_BLOCKS = 250_000
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


def clean(text: str) -> str:
    """`text` without what no reader sees: controls, lone surrogates (U+FFFD), soft hyphens; ligatures as letters."""
    return _SURROGATE.sub("\ufffd", text.replace("\r\n", "\n").translate(_TABLE))


class TextBuilder:
    """Collects the blocks of one document in order; a blank line stands between two of them."""

    def __init__(self, *, max_characters: int) -> None:
        self._max_characters = max_characters
        self._pieces: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._pages: list[tuple[int, int]] = []
        self._page_start: int | None = None

    def begin_page(self) -> None:
        """What follows stands on the next page."""
        self.end_page()
        self._page_start = self._length

    def end_page(self) -> None:
        """Closes the page that is open, if any."""
        if self._page_start is not None:
            self._append("\n\n")
            self._pages.append((self._page_start, self._length))
            self._page_start = None

    def add(self, kind: BlockKind, text: str, *, level: int = 0, gap: str = "\n\n") -> None:
        """A block, `gap` after the one before it; blank text is none. Raises: ParseFailed `too_large_text`."""
        text = clean(text)
        text = text.strip("\n").rstrip() if kind == "code" else text.strip()
        if not text.strip():
            return
        if kind == "heading":
            text = " ".join(text.split())
        elif kind != "code":
            text = _BLANK_LINES.sub("\n\n", text)
        on_open_page = self._page_start is not None and self._page_start == self._length
        if self._blocks and not on_open_page:
            self._append(gap)
        if len(self._blocks) == MAX_BLOCKS:
            what = "headings, paragraphs and tables"
            raise ParseFailed("too_large_text", f"The document has more than {MAX_BLOCKS:,} {what}; split it.")
        start = self._length
        self._append(text)
        page = None if self._page_start is None else len(self._pages) + 1
        self._blocks.append(Block(kind, start, self._length, level if kind == "heading" else 0, page))

    def add_document(self, document: ParsedDocument, *, deeper: int = 0) -> None:
        """The blocks of a document inside this one, its headings `deeper` levels down."""
        for block in document.blocks:
            self.add(block.kind, document.text[block.start : block.end], level=block.level + deeper)

    def _append(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._max_characters:
            raise ParseFailed(
                "too_large_text", f"The document holds more than {self._max_characters:,} characters of text; split it."
            )
        self._pieces.append(text)

    @property
    def is_empty(self) -> bool:
        """Whether no block was added yet."""
        return not self._blocks

    def finish(self, media_type: str, *, title: str | None = None) -> ParsedDocument:
        """The document. Raises: ParseFailed `empty_document` if no block was added."""
        self.end_page()
        if not self._blocks:
            raise ParseFailed("empty_document", "The document holds no text.")
        title = " ".join(clean(title or "").split())[:500] or None
        return ParsedDocument(
            text="".join(self._pieces),
            media_type=media_type,
            pages=tuple(self._pages),
            blocks=tuple(self._blocks),
            title=title,
        )
