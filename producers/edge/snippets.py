"""The piece of a text that shows why it was found, and where in it the words stand."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

SNIPPET_CHARS, LEAD_CHARS = 240, 60
ELLIPSIS = "…"

_MARKS = "[\u0300-\u036f]*"
_JOINED = (  # the characters of which each is a word, as in migration 0006
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf"
    r"\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
)
_STANDS_ALONE = re.compile(f"[{_JOINED}]")
_LETTER, _GAP = rf"[^\W_{_JOINED}]", r"[\W_]*"
_LEXEME = re.compile(r"'([^']+)'(:\*)?")


class _Folding(dict[int, str]):
    """One character for one: without case and accents, as `search_text` of migration 0006 compares."""

    def __missing__(self, code: int) -> str:
        decomposed = unicodedata.normalize("NFKD", chr(code).lower())
        folded = unicodedata.normalize("NFC", re.sub(_MARKS, "", decomposed))
        self[code] = found = folded if len(folded) == 1 else chr(code)
        return found


_FOLDING = _Folding()


def words_pattern(queries: Sequence[str]) -> re.Pattern[str]:
    """What the words look like in a folded text; `queries` are tsqueries in PostgreSQL's text form."""
    return re.compile("|".join(_phrase(query) for query in queries))


def _phrase(query: str) -> str:
    return _GAP.join(_word(word, is_prefix=bool(prefix)) for word, prefix in _LEXEME.findall(query))


def _word(word: str, *, is_prefix: bool) -> str:
    """Whole words, but for characters that are words by themselves."""
    spelled = _MARKS.join(map(re.escape, word.translate(_FOLDING)))
    if _STANDS_ALONE.fullmatch(word):
        return spelled
    return rf"(?<!{_LETTER}){spelled}{_MARKS}" + ("" if is_prefix else rf"(?!{_LETTER})")


def snippet_of(text: str, pattern: re.Pattern[str]) -> tuple[str, list[tuple[int, int]]]:
    """At most 242 characters around the first word, and the spans `[start, end)` of all words in them."""
    folded = text.translate(_FOLDING)
    first = pattern.search(folded)
    start = _start(text, first.start()) if first is not None else 0
    end = min(len(text), start + SNIPPET_CHARS)
    head, tail = ELLIPSIS if start else "", ELLIPSIS if end < len(text) else ""
    spans = [(match.start(), match.end()) for match in pattern.finditer(folded, start, end)]
    shift = len(head) - start
    return head + text[start:end] + tail, [(a + shift, b + shift) for a, b in spans]


def _start(text: str, found: int) -> int:
    """A little before what was found, at the beginning of a word where there is one."""
    if found <= LEAD_CHARS:
        return 0
    start = found - LEAD_CHARS
    space = re.compile(r"\s").search(text, start, found)
    return space.end() if space is not None else start
