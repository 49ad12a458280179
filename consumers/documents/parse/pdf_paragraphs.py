"""Lines of a page into headings and paragraphs, with words mended that were broken at the end of a line."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from consumers.documents.parse.document import BlockKind
from consumers.documents.parse.pdf_lines import BROKEN_WORD, Line

Piece = tuple[BlockKind, str, int]
"""Kind, text and, for a heading, its level."""

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LAST_WORD = re.compile(r"([^\W\d_]+)[-\u2010\ufffe]$")
_FIRST_WORD = re.compile(r"[^\W\d_]+")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+[^\W\d_]")
_BULLET = re.compile(r"(?:[•◦▪‣·∙●○■□–*-]|\(?\d{1,2}[.)]|\(?[a-z]\))\s+\S|[•◦▪‣●○■□]")
_NO_SPACES = "\u3000-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"
_UNSPACED_END = re.compile(f"[{_NO_SPACES}]$")
_UNSPACED_START = re.compile(f"[{_NO_SPACES}]")
_HANGUL = re.compile("[\uac00-\ud7af]")
_SENTENCE_END = re.compile(r"[.!?:;。！？…][\"'”’)\]]*$")
_COMBINING = {"¨": "\u0308", "´": "\u0301", "ˆ": "\u0302"}
_ACCENT = re.compile("([¨´ˆ])([A-Za-zı])")
_PREFIX_LIST = "counter hyper inter intra macro micro mis multi over pre super trans ultra under"
_PREFIXES = frozenset(_PREFIX_LIST.split())
_MAX_HEADING = 160
_MAX_WORD = 80


class Reader:
    """Turns pages into pieces; learns words and the usual type size from the pages it is shown first."""

    def __init__(self) -> None:
        self._words: Counter[str] = Counter()
        self._sizes: Counter[float] = Counter()
        self._body = 0.0

    def learn(self, pages: Iterable[Sequence[Line]]) -> None:
        """Looks at pages before they are turned into pieces."""
        for lines in pages:
            words: list[str] = []
            is_broken = False
            for line in lines:
                self._sizes[round(line.size, 1)] += len(line.text)
                found = _WORD.findall(line.text.lower())
                first, is_broken = int(is_broken), not line.ends_word or line.text.endswith("-")
                words += found[first : len(found) - is_broken]
            self._words.update(words)
            self._words.update(part for word in words if "-" in word for part in word.split("-"))
        self._body = max(self._sizes, key=lambda size: self._sizes[size], default=0.0)

    def pieces(self, lines: Sequence[Line]) -> Iterator[Piece]:
        """The pieces of one page, whose lines are in reading order."""
        rows = ["\t" in line.text for line in lines]
        levels = self._levels(lines, rows)
        pitch = _usual_pitch(lines)
        position = 0
        while position < len(lines):
            level, end = levels[position], position + 1
            if level:
                while end < len(lines) and levels[end] == level and _same_heading(lines, position, end):
                    end += 1
                yield "heading", self._text(lines[position:end]), level
            else:
                while end < len(lines) and not levels[end] and not _parts(lines, position, end, pitch):
                    end += 1
                group = lines[position:end]
                if sum(rows[position:end]) * 2 > len(group):
                    yield "table", "\n".join(line.text for line in group).replace(BROKEN_WORD, "-"), 0
                else:
                    yield _kind(group), self._text(group), 0
            position = end

    def _levels(self, lines: Sequence[Line], rows: Sequence[bool]) -> list[int]:
        """The level of the heading that each line belongs to, or 0; what is too long for a heading is none."""
        levels = [0 if is_row else self._level(line) for line, is_row in zip(lines, rows, strict=True)]
        start = 0
        while start < len(lines):
            end = start + 1
            while levels[start] and end < len(lines) and levels[end] and _same_heading(lines, start, end):
                end += 1
            is_heading = levels[start] > 0 and self._reads_as_heading(lines[start:end])
            levels[start:end] = [levels[start] if is_heading else 0] * (end - start)
            start = end
        return levels

    def _reads_as_heading(self, group: Sequence[Line]) -> bool:
        text = " ".join(line.text for line in group)
        if len(text) > _MAX_HEADING or sum(map(str.isalpha, text)) < 2:
            return False
        stands_out = group[0].is_bold or group[0].size >= 1.3 * self._body or _NUMBERED.match(text) is not None
        return stands_out or (len(group) == 1 and len(text) <= 80 and not _SENTENCE_END.search(text))

    def _level(self, line: Line) -> int:
        ratio = line.size / self._body if self._body else 1.0
        numbered = _NUMBERED.match(line.text)
        if line.is_fixed or (ratio < 1.12 and not (line.is_bold and ratio > 0.95)):
            return 0
        if numbered and not line.text.endswith((",", ";")):
            return 2 + numbered[1].count(".")
        if _BULLET.match(line.text):
            return 0
        if ratio < 1.12:
            is_label = 2 < len(line.text) <= 80 and not _SENTENCE_END.search(line.text) and line.ends_word
            return 5 if is_label else 0
        return 1 if ratio >= 1.6 else 2 if ratio >= 1.3 else 3

    def _text(self, group: Sequence[Line]) -> str:
        if _is_code(group):
            return _code(group)
        texts = [group[0].text]
        for previous, line, right in zip(group, group[1:], _right_edges(group), strict=False):
            texts[-1], separator = self._ended(texts[-1], previous, line, right)
            texts += [separator, line.text]
        return _ACCENT.sub(_accented, "".join(texts).replace(BROKEN_WORD, "-"))

    def _ended(self, text: str, previous: Line, line: Line, right: float) -> tuple[str, str]:
        """The text of a line as it is to stand, and what comes between it and the next line."""
        broken = _LAST_WORD.search(text[-_MAX_WORD:])
        if broken and self._goes_on(broken[1], line.text):
            return text[:-1] + ("-" if self._keeps_hyphen(broken[1], line.text) else ""), ""
        if not previous.ends_word:
            return text[:-1] + "-", ""
        if _BULLET.match(line.text) or _had_room(previous, line, right):
            return text, "\n"
        return text, "" if _UNSPACED_END.search(text) and _UNSPACED_START.match(line.text) else " "

    def _goes_on(self, head: str, following: str) -> bool:
        match = _FIRST_WORD.match(following)
        return match is not None and (following[0].islower() or self._words[(head + match[0]).lower()] > 0)

    def _keeps_hyphen(self, head: str, following: str) -> bool:
        """Whether a broken word has a hyphen of its own: the document says so, or both parts are words of it."""
        match = _FIRST_WORD.match(following)
        tail = match[0].lower() if match else ""
        head = head.lower()
        n_hyphened, n_joined = self._words[f"{head}-{tail}"], self._words[head + tail]
        are_words = self._words[tail] > 0 and min(len(head), len(tail)) > 1 and head not in _PREFIXES
        are_words = are_words and (self._words[head] > 0 or (len(head) > 4 and len(tail) > 3))
        return n_hyphened > n_joined or (n_joined == 0 and are_words)


def _right_edges(group: Sequence[Line]) -> list[float]:
    """For each line, how far to the right the lines of its column reach."""
    edges: list[float] = []
    start = 0
    for end in range(1, len(group) + 1):
        if end == len(group) or group[end].baseline > group[end - 1].baseline + 0.5 * group[end].size:
            edges += [max(line.x1 for line in group[start:end])] * (end - start)
            start = end
    return edges


def _usual_pitch(lines: Sequence[Line]) -> float:
    steps = [
        previous.baseline - line.baseline
        for previous, line in itertools.pairwise(lines)
        if 0 < previous.baseline - line.baseline < 3 * line.size
    ]
    return median(steps) if steps else 0.0


def _same_heading(lines: Sequence[Line], start: int, end: int) -> bool:
    """Whether the line at `end` goes on with the heading that begins at `start`."""
    first, line = lines[start], lines[end]
    return (
        abs(line.size - first.size) < 0.5
        and line.is_bold == first.is_bold
        and 0 < lines[end - 1].baseline - line.baseline < 2 * first.size
        and not _NUMBERED.match(line.text)
    )


def _parts(lines: Sequence[Line], start: int, end: int, pitch: float) -> bool:
    """Whether a new paragraph begins at `end`; the one before it began at `start`."""
    previous, line = lines[end - 1], lines[end]
    step = previous.baseline - line.baseline
    if abs(previous.size - line.size) > 0.25 * max(previous.size, line.size) or previous.is_fixed != line.is_fixed:
        return True
    ends = _SENTENCE_END.search(previous.text) is not None
    if step < -0.5 * line.size:  # the next column: the paragraph goes on only in the middle of a sentence
        return ends or not (line.text[0].islower() or not previous.ends_word)
    if step > 1.45 * max(pitch, line.size):
        return True
    left = min(lines[start].x0, lines[min(start + 1, end - 1)].x0)
    is_indented = line.x0 > left + 0.7 * line.size and abs(previous.x0 - left) < 0.7 * line.size
    return is_indented and ends and not line.is_fixed


def _is_code(group: Sequence[Line]) -> bool:
    return len(group) > 1 and all(line.is_fixed for line in group)


def _code(group: Sequence[Line]) -> str:
    """Lines as they stand, indented."""
    left = min(line.x0 for line in group)
    width = max(1.0, median(line.character_width for line in group))
    return "\n".join(" " * min(40, round((line.x0 - left) / width)) + line.text for line in group)


def _accented(match: re.Match[str]) -> str:
    """TeX draws an accent and then the letter under it."""
    letter = "i" if match[2] == "ı" else match[2]
    return unicodedata.normalize("NFC", letter + _COMBINING[match[1]])


def _had_room(previous: Line, line: Line, right: float) -> bool:
    """Whether the first word of `line` would have fitted behind `previous`: then the line was ended on purpose."""
    first_word = line.text.split(None, 1)[0]
    if _UNSPACED_START.match(first_word) or (_HANGUL.match(first_word) and not previous.ends_in_space):
        first_word = first_word[:2]
    needed = (len(first_word) + 1) * line.character_width
    return previous.x1 + needed < right - 0.3 * line.size


def _kind(group: Sequence[Line]) -> BlockKind:
    if _is_code(group):
        return "code"
    return (
        "list" if _BULLET.match(group[0].text) and any(_BULLET.match(line.text) for line in group[1:]) else "paragraph"
    )
