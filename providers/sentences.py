"""Passages into sentences that read cleanly: line wraps joined, headings and list items kept apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f"
"""Scripts written without spaces between words, as a character class (Hangul has spaces)."""

_WIDE = re.compile(f"[{CJK}\uac00-\ud7af\u3000-\u303f\uff00-\uff65]")
_BULLET = re.compile(r"\s*(?:[•◦▪‣·*+–-]|#{1,6}|>|\|)\s+")
_NUMBERED = re.compile(r"\s*(?:\(?\d{1,2}[.)]|\d{1,2}(?:\.\d{1,2}){1,3}\.?|[A-Z][.)])\s+(?=\S)")
_SENTENCE_ENDS = '.!?…。！？｡؟।:;"”’)»」』'
_END = re.compile(
    r"""(?P<wide>[。！？｡]+[」』）”’]*)      # no space needed after these
      | (?P<plain>[.!?…؟।]+["'”’»)\]]*)(?:[ \t]?\[\d{1,3}\])*(?=\s|$)""",
    re.VERBOSE,
)
_ABBREVIATION_LIST = (
    "e.g i.e cf vs al etc fig figs eq eqs sec sect vol pp ed eds dr mr mrs ms prof st jr sr inc ltd co approx "
    "z.b d.h u.a bzw ca abs vgl usw mme env ex art núm sra"
)
_ABBREVIATIONS = frozenset(_ABBREVIATION_LIST.split())
CAPTION = re.compile(
    r"(?i:fig(?:ure|\.)?|table|listing|algorithm|abb(?:ildung|\.)?|tabelle|그림|표|図|表|图)\s*\d+(?:\.\d+)*"
)
"""How the caption of a figure or table begins."""
_MAX_SENTENCE = 700


def sentences(text: str) -> list[str]:
    """The sentences of `text` in order, each on one line; what is no sentence (headings, captions) stands alone."""
    return [s for block in _blocks(text) for s in _split(block) if s]


def _blocks(text: str) -> Iterator[str]:
    """Runs of lines that belong together, joined into one line."""
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    usual = _usual_length(lines)
    current, last_length = "", 0
    for line in lines:
        if not line:
            yield current
            current = ""
        elif current and _continues(current, line, usual, previous_length=last_length):
            current = _joined(current, line)
        else:
            yield current
            current = line
        last_length = _width(line)
    yield current


def _usual_length(lines: list[str]) -> int:
    """How long a wrapped line of this text is: the upper quartile."""
    lengths = sorted(_width(line) for line in lines if line)
    return lengths[len(lengths) * 3 // 4] if lengths else 0


def _width(line: str) -> int:
    return len(line) + len(_WIDE.findall(line))


def _continues(current: str, line: str, usual: int, *, previous_length: int) -> bool:
    if _BULLET.match(line) or _NUMBERED.match(line):
        return False
    if current[-1] in _SENTENCE_ENDS and previous_length >= 0.5 * usual:
        return True  # the next sentence of the same paragraph; it is split off later
    # A line far shorter than its neighbours that does not end a sentence is a heading, a label or a cell.
    return previous_length >= 0.6 * usual


def _joined(current: str, line: str) -> str:
    if current.endswith("\u00ad"):
        return current[:-1] + line
    if re.search(r"[^\W\d_]-$", current) and line[0].islower():
        return current[:-1] + line
    no_space = re.search(f"[{CJK}、。，]$", current) and re.match(f"[{CJK}、。，「（]", line)
    return current + ("" if no_space else " ") + line


def _split(block: str) -> Iterator[str]:
    bullet = _BULLET.match(block)
    block = re.sub(r"\s+", " ", block[bullet.end() :] if bullet else block).strip()
    start = 0
    for match in _END.finditer(block):
        if match.lastgroup == "plain" and not _ends_sentence(block, start, match):
            continue
        yield from _bounded(block[start : match.end()].strip())
        start = match.end()
    yield from _bounded(block[start:].strip())


def _ends_sentence(block: str, start: int, match: re.Match[str]) -> bool:
    following = block[match.end() :].lstrip()
    if following[:1].islower():
        return False
    if match["plain"] != ".":
        return True  # "?", "…", or a closing quote behind the full stop
    word = re.split(r"[\s(\[“\"]", block[start : match.start()])[-1]
    if not word or word.casefold() in _ABBREVIATIONS:
        return not following
    if word.casefold() in ("no", "nos", "nr"):
        return not following[:1].isdigit()
    if len(word) == 1 and word.isalpha() and word.isascii():
        return not following  # an initial, or "z. B."
    before = block[start : match.start()].strip()
    return not (before.isdigit() or CAPTION.fullmatch(before))  # "3. Title", "Figure 1. What it shows"


def _bounded(sentence: str) -> Iterator[str]:
    """Text without any end (a table, a log) in pieces, cut at spaces."""
    while len(sentence) > _MAX_SENTENCE:
        cut = sentence.rfind(" ", _MAX_SENTENCE // 2, _MAX_SENTENCE)
        cut = cut if cut > 0 else _MAX_SENTENCE
        yield sentence[:cut]
        sentence = sentence[cut:].lstrip()
    yield sentence
