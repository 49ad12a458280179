"""A document into passages: by its structure first, then at sentence ends, sized by tokens."""

from __future__ import annotations

import bisect
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from consumers.documents.parse.document import Block, BlockKind, ParsedDocument

if TYPE_CHECKING:  # numpy, which the ports import, is no weight for a parser
    from providers.ports import TokenCounter

_HEADING_MARKS = re.compile(r"^#{1,6}\s+|\s+#+\s*$|\n[=-]+\s*$")
_MAX_HEADING = 200
_MAX_DEPTH = 8
_CHARACTERS_A_TOKEN = 8
"""A piece without any break is cut after this many characters a token: most text has about four."""

_SENTENCE = re.compile(
    r"""[。！？｡]+[」』）”’]*\s*                               # no space is needed after these
      | (?<![.!?…؟।])[.!?…؟।]++["'”’»)\]]*+(?:\[\d{1,3}\])*+\s++(?=[^\d_a-zß-öø-ÿ])  # "e.g. the" goes on
      | \n\s*\n\s*""",
    re.VERBOSE,
)
_LINE = re.compile(r"\n\s*")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_BREAKS: dict[BlockKind, tuple[re.Pattern[str], ...]] = {
    "heading": (_LINE,),
    "paragraph": (_SENTENCE, _LINE),
    "table": (_LINE, _SENTENCE),
    "list": (_LINE, _SENTENCE),
    "code": (_BLANK_LINE, _LINE),
}
_SOFT_START = 2 / 3
"""A cut inside a piece without breaks looks for a space behind this share of it."""


@dataclass(frozen=True, slots=True)
class PassageSize:
    """In tokens: what a passage has about, and at most."""

    target_tokens: int = 220
    max_tokens: int = 400


DEFAULT_SIZE = PassageSize()


class PassageSpan(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A passage is the document's text `[start, end)`, code points, without blank edges.

    `heading_path` are the headings it stands under, outermost first; `page` counts from 1, None where there are
    none; `content_hash` is the SHA-256 of the passage in UTF-8, in hex.
    """

    page: int | None
    start: int
    end: int
    heading_path: tuple[str, ...]
    n_tokens: int
    content_hash: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a version says: its text, and the passages in order, spans of that text and so large."""

    text: str
    media_type: str
    n_pages: int
    passages: Sequence[PassageSpan]
    size: PassageSize = DEFAULT_SIZE


def has_words(text: str) -> bool:
    """Whether it has a letter or a digit of any script: nothing else can be searched for."""
    return any(character.isalnum() for character in text)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A span that is not cut again, without blank edges."""

    start: int
    end: int
    n_tokens: int
    stays_whole: bool = False


def split_into_passages(
    parsed: ParsedDocument, counter: TokenCounter, size: PassageSize = DEFAULT_SIZE
) -> list[PassageSpan]:
    """The passages of a document, in order: disjoint, none blank, together all text that is not whitespace.

    None crosses a page, a heading begins the passage of what follows it, and tables, code and lists stay whole
    where they fit into `size.max_tokens`. A passage has about `size.target_tokens` tokens and at most those (more
    only if a single character has more). The same document gives the same passages. Time grows linearly with
    the text.
    """
    splitter = _Splitter(parsed.text, counter, size)
    for page, start, end in _page_spans(parsed):
        for block in _regions(parsed.blocks, start, end):
            splitter.add(block, page)
        splitter.flush()
    return splitter.passages


def _page_spans(parsed: ParsedDocument) -> Iterator[tuple[int | None, int, int]]:
    """(page, start, end) over the whole text; what lies outside the pages, if anything, has no page."""
    position = 0
    for number, (start, end) in enumerate(parsed.pages, start=1):
        yield None, position, start
        yield number, max(start, position), end
        position = max(position, end)
    yield None, position, len(parsed.text)


def _regions(blocks: Sequence[Block], start: int, end: int) -> Iterator[Block]:
    """`[start, end)` without a gap: the blocks that begin there, and paragraphs for the rest."""
    position = start
    first = bisect.bisect_left(blocks, start, key=lambda block: block.start)
    for index in range(first, len(blocks)):
        block = blocks[index]
        if block.start >= end:
            break
        if position < block.start:
            yield Block("paragraph", position, block.start)
        yield Block(block.kind, max(position, block.start), min(block.end, end), block.level)
        position = max(position, min(block.end, end))
    yield Block("paragraph", position, end)


class _Splitter:
    """Packs units into the passage that is open, until one does not fit."""

    def __init__(self, text: str, counter: TokenCounter, size: PassageSize) -> None:
        self.passages: list[PassageSpan] = []
        self._text = text
        self._counter = counter
        self._max = max(1, size.max_tokens)
        self._target = max(1, min(size.target_tokens, self._max))
        self._headings: list[tuple[int, str]] = []
        self._open: list[_Unit] = []
        self._n_tokens = 0
        self._page: int | None = None
        self._path: tuple[str, ...] | None = None  # of the open passage, once it has more than headings
        self._level = 0

    def add(self, block: Block, page: int | None) -> None:
        """Packs what is not blank of a block; blocks come in order."""
        start, end = self._trimmed(block.start, block.end)
        if start == end:
            return
        self._page = page
        stays_whole = block.kind in ("table", "code", "list")
        left = self._max if stays_whole or self._path is not None else self._max - self._n_tokens
        n_tokens = self._count(start, end, self._max)
        if block.kind == "heading":
            self._add_heading(block, start, end)
        elif n_tokens is not None and n_tokens <= left:
            self._pack(_Unit(start, end, n_tokens, stays_whole))
        else:
            most = min(self._target, left if left >= self._target // 2 else self._max)
            for unit in self._pieces(start, end, _BREAKS[block.kind], most):
                self._pack(unit)

    def flush(self) -> None:
        """Ends the open passage."""
        units, path = self._open, self._path
        self._open, self._path, self._n_tokens = [], None, 0
        if units:
            self._emit(units, self._titles() if path is None else path)

    def _add_heading(self, block: Block, start: int, end: int) -> None:
        is_part = block.level > self._level and self._n_tokens < self._target // 4
        if self._path is not None and not is_part:
            self.flush()
        while self._headings and self._headings[-1][0] >= block.level:
            self._headings.pop()
        title = " ".join(_HEADING_MARKS.sub("", self._text[start : min(end, start + _MAX_HEADING)]).split())
        if title and len(self._headings) < _MAX_DEPTH:
            self._headings.append((block.level, title))
        for unit in self._pieces(start, end, _BREAKS["heading"], self._target):
            if self._open and self._n_tokens + unit.n_tokens >= self._target:
                self.flush()
            self._append(unit)

    def _pack(self, unit: _Unit) -> None:
        if self._open and not self._has_room(unit):
            self.flush()
        if self._path is None:
            self._path = self._titles()
            self._level = self._headings[-1][0] if self._headings else 0
        self._append(unit)

    def _has_room(self, unit: _Unit) -> bool:
        total = self._n_tokens + unit.n_tokens
        is_barely_begun = self._path is None or self._n_tokens < self._target // 3
        return total <= self._target or ((is_barely_begun or unit.stays_whole) and total <= self._max)

    def _append(self, unit: _Unit) -> None:
        self._open.append(unit)
        self._n_tokens += unit.n_tokens + 1  # one for the break between two units

    def _emit(self, units: list[_Unit], path: tuple[str, ...]) -> None:
        start, end = units[0].start, units[-1].end
        text = self._text[start:end]
        n_tokens = units[0].n_tokens if len(units) == 1 else self._counter.count(text)
        if n_tokens > self._max and len(units) > 1:  # a tokenizer may count more in the whole than in its parts
            half = len(units) // 2
            self._emit(units[:half], path)
            self._emit(units[half:], path)
            return
        content_hash = hashlib.sha256(text.encode()).hexdigest()
        self.passages.append(PassageSpan(self._page, start, end, path, n_tokens, content_hash))

    def _titles(self) -> tuple[str, ...]:
        return tuple(title for _, title in self._headings)

    def _pieces(self, start: int, end: int, breaks: Sequence[re.Pattern[str]], most: int) -> Iterator[_Unit]:
        """Units that cover `[start, end)`: cut where the first pattern matches, pieces over `most` by the next ones."""
        start, end = self._trimmed(start, end)
        if start == end:
            return
        n_tokens = self._count(start, end, most)
        if n_tokens is not None:
            yield _Unit(start, end, n_tokens)
        elif not breaks:
            yield from self._cut(start, end, max(most, 1))
        else:
            position = start
            for match in breaks[0].finditer(self._text, start, end):
                yield from self._pieces(position, match.end(), breaks[1:], most)
                position = match.end()
            yield from self._pieces(position, end, breaks[1:], most)

    def _cut(self, start: int, end: int, most: int) -> Iterator[_Unit]:
        """Units out of text without breaks, at spaces where there are some."""
        while start < end:
            window = self._text[start : min(end, start + self._max * _CHARACTERS_A_TOKEN)]
            size = max(1, len(self._counter.truncate(window, most)))
            if start + size < end:
                size = _softened(self._text, start, size)
            first, last = self._trimmed(start, start + size)
            if first < last:
                yield _Unit(first, last, self._counter.count(self._text[first:last]))
            start += size

    def _count(self, start: int, end: int, most: int) -> int | None:
        """Tokens of a span, None if they are more than `most`."""
        if end - start > self._max * _CHARACTERS_A_TOKEN:
            return None
        n_tokens = self._counter.count(self._text[start:end])
        return n_tokens if n_tokens <= most else None

    def _trimmed(self, start: int, end: int) -> tuple[int, int]:
        """The span without whitespace at its edges; empty if there is nothing else."""
        while start < end and self._text[start].isspace():
            start += 1
        while end > start and self._text[end - 1].isspace():
            end -= 1
        return start, end


def _softened(text: str, start: int, size: int) -> int:
    """A size at most as large that ends behind a space, or at least not inside a combined character."""
    for length in range(size, int(size * _SOFT_START), -1):
        if text[start + length - 1].isspace() or text[start + length].isspace():
            return length
    while size > 1 and (
        unicodedata.combining(text[start + size]) or "\u200d" in text[start + size - 1 : start + size + 1]
    ):
        size -= 1
    return size
